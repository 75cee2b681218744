"""One stream's talk with the verifier: opened, opened again on another link, messages in order.

Pure. It must never know who reads the text, a real client or a load test; those build on it.
"""

from __future__ import annotations

import msgspec

from edge_agent.drafting.row_changes import RowChanges
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.stream import AgentStream
from edge_agent.drafting.verdict import Committed
from edge_agent.generation.generation import GenerationRequest, new_stream_id
from edge_agent.generation.prompt_telling import PromptTelling
from edge_agent.generation.stream_errors import broken_protocol
from shared.errors import GoodspeedError, RemoteProtocolError, RequestRefused
from shared.protocol.messages import (
    MAX_POSITION,
    PLAIN_TEMPLATE,
    Draft,
    Error,
    Open,
    Opened,
    PromptLogprobs,
    PromptPart,
    Ready,
    Resume,
    Verdict,
)
from shared.protocol.session import AGENT_STREAM, StreamState, next_state
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.model_defaults import completed
from shared.speculation.sampling import filled_in

_OLD_VERIFIER = "it does not follow all that was asked for: it may be an older one"


class StreamSession:
    """Owned by its agent; `stream` decides what is drafted.

    One that `is_resumed` was begun before the agent was restarted: the verifier tells what the
    request was, and all that came out.
    """

    def __init__(
        self,
        request: GenerationRequest,
        settings: DraftSettings,
        vocab_size: int,
        *,
        is_resumed: bool = False,
    ) -> None:
        self.request = request
        self.state = StreamState.OPENING
        self.stream = AgentStream(
            channel=0,
            vocab_size=vocab_size,
            settings=settings,
            sampling=request.sampling,
            drafts=request.draft_length != 0,
            changes=RowChanges(request.processors),
        )
        self._stream_id = request.stream_id if request.stream_id is not None else new_stream_id()
        self._is_resumed = is_resumed
        self.telling = PromptTelling(request)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is said of it."""
        return self.state is StreamState.ENDED

    def learn_vocabulary(self, vocab_size: int, special_ids: frozenset[int]) -> None:
        """What a verifier says of its vocabulary; before the stream is opened there."""
        self.stream.vocab_size = vocab_size

    def open_message(self, channel: int) -> Open | Resume:
        """Open, or open again after the link was lost: with what is committed, never twice."""
        stream, request = self.stream, self.request
        self.state = StreamState.OPENING
        stream.reopen(channel)
        is_known = stream.prompt_ids is not None
        largest = max(request.prompt_ids, default=0)
        if not is_known and largest >= stream.vocab_size:
            sentence = f"prompt names token {largest}, the target has {stream.vocab_size}"
            raise RequestRefused(sentence, "prompt")
        if stream.is_started:
            # What earlier drafts came to has taught the verifier: none may be drawn again.
            stream.salt += 2 * MAX_POSITION
        if self._is_resumed and not is_known:
            stream.salt = new_stream_id()  # nor those of the agent before
            position = len(stream.output_ids)
            return Resume(channel=channel, stream_id=self._stream_id, position=position)
        return Open(
            channel=channel,
            stream_id=self._stream_id,
            messages=() if is_known else request.messages,
            text="" if is_known else request.text,
            prompt=pack_token_ids(stream.prompt_ids or request.prompt_ids),
            committed=pack_token_ids(stream.output_ids),
            sampling=request.sampling,
            seed=stream.seed if stream.is_started else request.seed,
            stop=request.stop,
            max_tokens=request.max_tokens,
            acceptance_mode=stream.mode if stream.is_started else request.acceptance_mode,
            draft_length=request.draft_length,
            left_open=request.left_open,
            template=PLAIN_TEMPLATE if stream.is_started else request.template,
            processors=request.processors,
            processors_left_open=request.processors_left_open,
            num_logprobs=request.num_logprobs,
            grammar=request.grammar,
            tools=b"" if is_known else request.tools,
            must_call=() if is_known else request.must_call,
            num_prompt_logprobs=self.telling.num_wanted,
        )

    def record_sent(
        self, message: Open | Resume | Ready | Draft, num_bytes: int, now: float
    ) -> None:
        """A message of this stream is on its way; its bytes on the wire."""

    def receive(
        self,
        message: Opened | PromptPart | PromptLogprobs | Verdict | Error,
        num_bytes: int,
        now: float,
    ) -> Committed | None:
        """Take a message in; what it committed if it is a verdict.

        Raises:
            RemoteProtocolError: it is out of order or does not fit the stream.
        """
        self.state = next_state(AGENT_STREAM, self.state, message)
        if isinstance(message, Opened):
            if self._is_resumed and not self.stream.is_started:
                self._learn_request(message)
            elif not _is_followed(self.request, self.telling.num_wanted, message):
                raise RemoteProtocolError(_OLD_VERIFIER)
            else:
                self._learn_choice(message)
            self.stream.start(message, self.request.prompt_ids)
            self.telling.begin_again()
        elif isinstance(message, PromptLogprobs):
            self.telling.take(message)
        elif isinstance(message, PromptPart):
            self.stream.read_prompt_part(message)
        if not isinstance(message, Verdict):
            return None
        committed = self.stream.commit_verdict(message, now)
        if message.finish is not None:
            self.state = StreamState.ENDED
        return committed

    def fail(self, error: GoodspeedError) -> None:
        """End the stream with an error."""
        self.state = StreamState.ENDED

    def break_off(self, error: RemoteProtocolError) -> None:
        """End the stream: what came for it cannot be."""
        self.fail(broken_protocol(error))

    def _learn_choice(self, message: Opened) -> None:
        """What the verifier has chosen, from now on as if the client had asked for it."""
        if self.request.must_call:
            self.request = msgspec.structs.replace(
                self.request, grammar=message.grammar, must_call=()
            )
        if self.request.left_open:
            self._learn_sampling(message)
        if self.request.processors_left_open:
            self.request = msgspec.structs.replace(
                self.request, processors=message.processors, processors_left_open=()
            )
            self.stream.changes = RowChanges(message.processors)

    def _learn_sampling(self, message: Opened) -> None:
        """The defaults of the target."""
        request = self.request
        self.stream.sampling = filled_in(request.sampling, request.left_open, message.sampling)
        self.request = msgspec.structs.replace(request, sampling=self.stream.sampling, left_open=())

    def _learn_request(self, message: Opened) -> None:
        self.request = msgspec.structs.replace(
            self.request,
            sampling=message.sampling,
            stop=message.stop,
            max_tokens=message.max_tokens,
            draft_length=message.draft_length,
            processors=message.processors,
            num_logprobs=message.num_logprobs,
            grammar=message.grammar,
        )
        self.stream.sampling = message.sampling
        self.stream.drafts = message.draft_length != 0
        self.stream.changes = RowChanges(message.processors)


def _is_followed(request: GenerationRequest, num_prompt_logprobs: int | None, told: Opened) -> bool:
    """Whether the verifier knows what came into the protocol lately."""
    is_free = request.grammar is None and not request.must_call
    processors = completed(request.processors, request.processors_left_open, told.processors)
    if num_prompt_logprobs not in (None, told.num_prompt_logprobs):
        return False
    asked = processors, request.num_logprobs, is_free
    return asked == (told.processors, told.num_logprobs, told.grammar is None)
