"""Streams made from what boards ask for: tokenized in a thread, checked, numbered."""

from __future__ import annotations

import random
from collections.abc import Callable

from shared.errors import RequestRefused
from shared.protocol.messages import MAX_63_BITS, AcceptanceMode, Open
from shared.protocol.text import ByteAssembler
from shared.protocol.token_ids import unpack_token_ids
from verifier.engine.device import Device
from verifier.streams.stream import Stream
from verifier.streams.stream_request import ServiceLimits, stream_request
from verifier.target.target import Tokenizer


class NewStreams:
    """Makes the streams of one verifier; the service opens them."""

    def __init__(
        self,
        vocab_size: int,
        automatic_mode: Callable[[Device], AcceptanceMode],
        seeds: random.Random,
    ) -> None:
        self._vocab_size = vocab_size
        self._automatic_mode = automatic_mode
        self._seeds = seeds
        self._next_number = 1

    async def make_from(
        self, device: Device, message: Open, tokenizer: Tokenizer, limits: ServiceLimits
    ) -> Stream:
        """The stream of a whole Open; raises as `make` and `token_ids`."""
        if message.prompt:
            prompt_ids = self.token_ids(message.prompt)
        elif message.messages:
            turns = [(turn.role, turn.content) for turn in message.messages]
            prompt_ids = tuple(await device.in_thread(tokenizer.encode_chat, turns))
        else:
            prompt_ids = tuple(await device.in_thread(tokenizer.encode_text, message.text))
        return self.make(device, message, prompt_ids, tokenizer, limits)

    def make(
        self,
        device: Device,
        message: Open,
        prompt_ids: tuple[int, ...],
        tokenizer: Tokenizer,
        limits: ServiceLimits,
    ) -> Stream:
        """The stream of an Open whose prompt has these ids, or begins with them.

        Raises:
            RequestRefused: the prompt does not fit.
        """
        num_prompt_tokens = message.num_prompt_tokens if message.goes_on else 0
        request = stream_request(
            message,
            prompt_ids,
            limits=limits,
            seed=self._seeds.randint(0, MAX_63_BITS),
            end_ids=tokenizer.end_ids,
            draft_context_tokens=device.draft_context_tokens,
            automatic_mode=self._automatic_mode(device),
        )
        number, self._next_number = self._next_number, self._next_number + 1
        return Stream(
            number=number,
            device=device.name,
            request=request,
            text=ByteAssembler(tokenizer.token_bytes, tokenizer.special_ids, request.stop),
            device_estimates=device.estimates,
            estimates=device.estimates.open_stream(),
            is_arriving=message.goes_on,
            num_missing_tokens=max(num_prompt_tokens - len(prompt_ids), 0),
        )

    def token_ids(self, packed: bytes) -> tuple[int, ...]:
        """The ids of a message.

        Raises:
            RemoteProtocolError: they are malformed, or outside the vocabulary.
        """
        return tuple(unpack_token_ids(packed, self._vocab_size).tolist())


def commit_again(stream: Stream, committed: tuple[int, ...]) -> None:
    """Begin behind what was committed before.

    Raises:
        RequestRefused: it goes beyond the end of the stream.
    """
    stream.take_up_again(committed)
    if stream.position < len(committed):
        raise RequestRefused(
            f"{len(committed)} committed tokens go beyond the end of the stream "
            f"at {stream.position}",
            "committed",
        )
