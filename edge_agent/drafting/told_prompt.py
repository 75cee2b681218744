"""The prompt of one stream as the verifier tells it: with Opened, or in parts behind that."""

from __future__ import annotations

from shared.errors import RemoteProtocolError
from shared.protocol.messages import Opened, PromptPart
from shared.protocol.token_ids import unpack_token_list


class ToldPrompt:
    """`token_ids` is None until all of them are known."""

    __slots__ = ("_parts", "_vocab_size", "num_tokens", "token_ids")

    def __init__(
        self, message: Opened | None = None, known: tuple[int, ...] = (), vocab_size: int = 0
    ) -> None:
        """Begin with what Opened says; `known`: the ids that Open gave, if it did.

        Raises:
            RemoteProtocolError: neither tells the prompt.
        """
        self._vocab_size = vocab_size
        self._parts: list[int] = []
        self.token_ids: tuple[int, ...] | None = None
        self.num_tokens = 0
        if message is None:
            return
        told = unpack_token_list(message.prompt, vocab_size)
        self.num_tokens = message.num_prompt_tokens or len(told) or len(known)
        if told or not known:
            self._add(told)
        else:
            self.token_ids = known

    def read(self, part: PromptPart) -> None:
        """Take the next part in.

        Raises:
            RemoteProtocolError: it is another one, or none was to come.
        """
        if self.token_ids is not None or part.offset != len(self._parts):
            raise RemoteProtocolError(f"a part of the prompt came for token {part.offset}")
        self._add(unpack_token_list(part.tokens, self._vocab_size))

    def _add(self, token_ids: list[int]) -> None:
        self._parts += token_ids
        num_told = len(self._parts)
        if not token_ids or num_told > self.num_tokens:
            raise RemoteProtocolError(f"{num_told} tokens of a prompt of {self.num_tokens} came")
        if num_told == self.num_tokens:
            self.token_ids, self._parts = tuple(self._parts), []
