"""One stream as the verifier knows it: what was committed, what is drafted, what may come next.

The verifier owns the truth: prompt, committed tokens, the end of a stream. This module must
never read a clock or touch a socket or a model; the planner asks it and tells it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from shared.errors import RemoteProtocolError
from shared.protocol.draft_path import DraftPath, Extension
from shared.protocol.messages import Finish, FinishReason
from shared.protocol.text import ByteAssembler
from verifier.streams.draft_chances import way_of
from verifier.streams.estimates import DeviceEstimates, StreamEstimates
from verifier.streams.late_draft import NOTHING_MET, LateDraft, MetDrafts, late_draft
from verifier.streams.place import Move, Place, next_place
from verifier.streams.probe_clock import ProbeClock
from verifier.streams.settled import Settled
from verifier.streams.stream_logprobs import StreamLogprobs
from verifier.streams.stream_request import StreamRequest
from verifier.streams.token_census import TokenCensus
from verifier.target.processing import Processing
from verifier.target.round import DraftCheck, ItemOutcome
from verifier.target.token_masks import StreamGrammar

# Ends that the text itself did not come to.
_CUTS: frozenset[FinishReason] = frozenset({"length", "context", "cancelled"})


@dataclass(slots=True, eq=False)
class Stream:
    """Mutable state of one stream; owned by the planner."""

    number: int  # the verifier's own name for it, never reused
    device: str
    request: StreamRequest
    text: ByteAssembler
    device_estimates: DeviceEstimates
    estimates: StreamEstimates
    opened_at: float = 0.0  # when its board asked for it
    place: Place = Place.NEW
    is_arriving: bool = False  # its Open goes on: what is here is read, but no token follows
    num_missing_tokens: int = 0  # of the prompt, that are on their way
    num_tokens: int = field(init=False)  # prompt and committed output tokens that are here
    output_ids: list[int] = field(default_factory=list)
    processing: Processing | None = field(init=False)  # of the rows of its checks
    logprobs: StreamLogprobs = field(init=False)
    census: TokenCensus | None = field(init=False)  # where penalties look at what was written
    is_watched: bool = field(init=False)  # each token of the output: it may end it, or is counted
    num_cached_tokens: int = 0  # tokens whose keys and values are in the cache
    cached_prefix_tokens: int | None = None  # of the prompt, that were there when it first started
    path: DraftPath = field(default_factory=DraftPath)
    granted_end: int = 0  # no draft token may lie at or beyond it
    draft_length: int = 0
    window: int = 0
    board_is_ready: bool = False
    rests: bool = False  # drafts are not wanted for a while: its board need not even read
    is_cancelled: bool = False
    finish: Finish | None = None
    served_round: int = 0  # the last one that it took part in; the longest unserved goes first
    tested_round: int = 0  # the last one that held drafts of it
    waiting_since: float = 0.0  # when the latest window was granted
    path_granted_at: float = 0.0  # when the first window of the path was; 0: none since it came
    granted_base: int = -1  # of the path that has a window; -1: none
    awaited_seconds: float = 0.0  # how long it may sit out for a draft
    draft_token_price: float = 1.0  # in tokens of the budget
    probe: ProbeClock = field(default_factory=ProbeClock)
    grammar: StreamGrammar | None = None  # that the output is held to
    forced_ids: tuple[int, ...] = ()  # that are likely to be next, as the grammar forces the text
    late_drafts: tuple[LateDraft, ...] = ()  # since its last round
    met: MetDrafts = NOTHING_MET  # by what its last round committed, and before it

    def __post_init__(self) -> None:
        self.num_tokens = len(self.request.prompt_ids) + len(self.output_ids)
        request = self.request
        self.logprobs = StreamLogprobs(request.num_logprobs, request.num_prompt_logprobs)
        self.processing = request.processing
        self.estimates.chances.way = way_of(self.request)
        self.census = TokenCensus.of(self.request.processors, self.request.prompt_ids)
        stop_ids = request.processors.stop_token_ids
        self.is_watched = self.census is not None or self.text.has_stops or bool(stop_ids)

    def move(self, move: Move) -> None:
        """Something happened to it that changes where it stands."""
        self.place = next_place(self.place, move)

    def receive_draft(self, draft: Extension, drafting_seconds: float, now: float) -> None:
        """Take a draft in; late tokens are struck off at once and still teach the estimate.

        Raises:
            RemoteProtocolError: the draft does not fit the path.
        """
        before = self.path
        if draft.base < before.base:
            self.drop_draft(len(draft.tokens), drafting_seconds)
            return
        self.path = before.extend(draft, self.output_ids, self.granted_end)
        self.board_is_ready |= not self.rests
        if draft.base == before.base and draft.position + len(draft.tokens) <= before.end:
            return  # nothing new: a pass, or a draft that came twice
        speed = self.estimates.speed
        speed.observe_drafting(len(draft.tokens), drafting_seconds)
        starts_path = before.end <= before.base == draft.position
        if starts_path and draft.tokens:
            # The board began this draft when the grant reached it, not before.
            seconds = now - self.path_granted_at
            speed.observe_arrival(len(draft.tokens), drafting_seconds, seconds)
        if draft.position < before.position:
            self._learn_from_late_tokens(before, draft)
        if self.path.base > before.base and self.window:
            # It died only now; the board knew from the latest verdict and began anew with that.
            self.granted_base, self.path_granted_at = self.path.base, self.waiting_since

    def drop_draft(self, num_tokens: int, drafting_seconds: float) -> None:
        """A draft came of a path that is dead by now; it shows that the board is there."""
        self.board_is_ready |= not self.rests
        self.estimates.speed.observe_drafting(num_tokens, drafting_seconds)
        self.device_estimates.windows.num_dead_tokens += num_tokens

    def _learn_from_late_tokens(self, before: DraftPath, draft: Extension) -> None:
        """Tokens that came after their position was committed were tested all the same."""
        late = late_draft(before, self.path, draft) if self.request.mode == "coupled" else None
        if late is not None:
            self.device_estimates.observe_late(self.estimates, late)
            self.late_drafts += (late,)

    @property
    def position(self) -> int:
        """Committed output tokens."""
        return len(self.output_ids)

    @property
    def most_tokens(self) -> int:
        """What prompt and output may come to."""
        num_prompt = len(self.request.prompt_ids) + self.num_missing_tokens
        return num_prompt + self.request.max_output_tokens

    @property
    def num_pending_tokens(self) -> int:
        """Tokens that the target has not read yet; at least one, the newest, of a whole prompt."""
        return self.num_tokens - self.num_cached_tokens

    @property
    def most_cached_tokens(self) -> int:
        """What it may find in the cache; its last token is read, and what is to be scored."""
        return self.logprobs.most_cached(self.num_tokens, len(self.request.prompt_ids))

    @property
    def reads_prompt(self) -> bool:
        """Whether its next round brings no token, or only with the end of a prompt."""
        return self.is_arriving or self.num_tokens - self.num_cached_tokens > 1

    @property
    def waits_for_board(self) -> bool:
        """Whether a round without a draft would bias the text (`rejection` after a grant)."""
        return (
            self.request.mode == "rejection"
            and self.window > 0
            and self.board_is_ready
            and not self.path.live
            and not self.path.has_passed
        )

    @property
    def sits_out_until(self) -> float | None:
        """When it stops waiting for a draft that would make it faster; None: it does not wait."""
        is_answered = self.path.live or self.path.has_passed or self.forced_ids
        if not self.awaited_seconds or is_answered or not self.board_is_ready:
            return None
        return self.waiting_since + self.awaited_seconds

    def waited_in_vain(self) -> None:
        """The draft did not come in time: the stream goes on without it."""
        self.awaited_seconds = 0.0
        self.estimates.speed.observe_delay()

    @property
    def must_be_tested(self) -> bool:
        """Whether a round without a draft token of it would bias the text (a chunk is here)."""
        live = self.path.live
        return self.request.mode == "rejection" and bool(live) and live[0].row is not None

    @property
    def can_draft(self) -> bool:
        """Whether the board has read the prompt and speculation is wanted."""
        request = self.request
        has_room = request.draft_context_tokens > self.num_tokens
        return self.board_is_ready and request.draft_length != 0 and has_room

    @property
    def draft_room(self) -> int:
        """Tokens that the board's model can still take."""
        return max(self.request.draft_context_tokens - self.num_tokens, 0)

    def tokens(self, start: int, end: int) -> tuple[int, ...]:
        """Prompt and committed output from `start` up to `end`."""
        prompt_ids = self.request.prompt_ids
        num_prompt = len(prompt_ids)
        if start >= num_prompt:
            return tuple(self.output_ids[start - num_prompt : end - num_prompt])
        return prompt_ids[start:end] + tuple(self.output_ids[: max(end - num_prompt, 0)])

    def settle(
        self, num_read_tokens: int, check: DraftCheck, outcome: ItemOutcome
    ) -> Settled | None:
        """Commit a round's tokens; `num_read_tokens` of the committed ones went into the cache.

        None: nothing could be drawn, for its masks were late.
        """
        if outcome.is_late:
            num_cached = self.num_cached_tokens + num_read_tokens
            self.num_cached_tokens = min(num_cached, self.num_tokens - 1)  # read again
            return None
        position = len(self.output_ids)
        token_ids = list(check.draft_token_ids[: outcome.num_accepted])
        if outcome.token_id is not None:
            token_ids.append(outcome.token_id)
        num_kept = self._append(token_ids)
        kept = token_ids[:num_kept]
        logprobs = self.logprobs.keep_output(outcome.logprobs[:num_kept])
        self.forced_ids = outcome.forced_ids
        num_drafted = len(check.draft_token_ids) - check.num_forced  # by the board
        self.num_cached_tokens += num_read_tokens + outcome.num_accepted
        # After a cut chunk the target reads its last token again: what follows hangs on its logits.
        self.num_cached_tokens = min(self.num_cached_tokens, self.num_tokens - 1)
        before, self.path = self.path, self.path.commit(kept)
        self.met, self.late_drafts = MetDrafts(before.live, self.late_drafts), ()
        if self.request.mode == "coupled":
            self.device_estimates.observe_commit(self.estimates, before, self.path, num_kept)
        elif outcome.accept_probs and not check.num_forced:  # of a check that was cut not all
            figures = outcome.accept_probs, outcome.num_accepted
            self.device_estimates.observe_probs(self.estimates, *figures, before.live)
        if self.window:
            waited = self.request.mode == "rejection" or self.awaited_seconds > 0
            hidden = 0.0 if waited else self.estimates.speed.answer_seconds(num_drafted)
            self.device_estimates.windows.count_round(before, self.path, num_drafted, hidden)
        # A board that came back during the round knows nothing of what it had sent before.
        num_accepted = min(outcome.num_accepted, num_kept, num_drafted, len(before.live))
        return Settled(
            position=position,
            num_accepted=num_accepted,
            own_token_ids=tuple(kept[num_accepted:]),
            num_tested=num_drafted,
            logprobs=logprobs,
            num_forced=max(min(outcome.num_accepted, num_kept) - num_drafted, 0),
        )

    def add_prompt(self, token_ids: tuple[int, ...]) -> None:
        """The next tokens of its prompt are here; RemoteProtocolError: more than was said."""
        num_missing = self.num_missing_tokens
        if len(token_ids) > num_missing:
            raise RemoteProtocolError(f"{len(token_ids)} tokens came for {num_missing} of a prompt")
        self.num_missing_tokens -= len(token_ids)
        self.num_tokens += len(token_ids)
        self.request = replace(self.request, prompt_ids=self.request.prompt_ids + token_ids)
        if self.census is not None:
            self.census.read(token_ids)

    def take_up_again(self, output_ids: tuple[int, ...]) -> None:
        """Go on behind these tokens too, committed before the agent re-opened the stream."""
        num_kept = self._append(list(output_ids))
        self.logprobs.keep_unknown(num_kept)
        self.path = DraftPath.begin(self.position)

    def attach(self, num_known: int, draft_context_tokens: int) -> tuple[int, ...]:
        """Its board is back and has the first `num_known` output tokens; returns those it lacks.

        Nothing that was drafted before counts: the board begins another path there.
        """
        missing = tuple(self.output_ids[num_known:])
        self.path = DraftPath.begin(num_known).commit(missing)
        self.draft_length = self.window = 0
        self.estimates.chances.forget_told()
        self.granted_end = self.position
        self.granted_base, self.path_granted_at, self.awaited_seconds = -1, 0.0, 0.0
        self.board_is_ready = False
        self.request = replace(self.request, draft_context_tokens=draft_context_tokens)
        return missing

    def start_from_cache(self, num_tokens: int) -> None:
        """It has a place in the cache, which holds its first `num_tokens` tokens already.

        What it finds when it starts again after a pause is, but for other streams, its own.
        """
        self.num_cached_tokens = num_tokens
        if self.cached_prefix_tokens is None:
            self.cached_prefix_tokens = min(num_tokens, len(self.request.prompt_ids))

    def end(self, reason: FinishReason) -> None:
        """End the stream; what it has stays its text, but for a character that is cut in two."""
        text = self.text
        text_bytes = text.num_whole_bytes if reason in _CUTS else text.num_bytes
        self.finish = Finish(reason=reason, text_bytes=text_bytes)

    def grant(
        self, draft_length: int, window: int, now: float, awaited_seconds: float = 0.0
    ) -> None:
        """Let the board draft `window` tokens beyond the committed position; 0: none.

        `awaited_seconds`: how long the stream sits out for a whole draft, in `coupled`.
        """
        self.awaited_seconds = awaited_seconds
        if window == 0 and self.window > 0 and self.request.mode == "rejection":
            self.path = self.path.restart()
        self.draft_length, self.window = draft_length, window
        self.granted_end = max(self.granted_end, self.position + window)
        self.waiting_since = now
        if window == 0:
            self.granted_base = -1
        elif self.granted_base != self.path.base:
            self.granted_base, self.path_granted_at = self.path.base, now

    def _append(self, token_ids: list[int]) -> int:
        """Commit tokens until one of them ends the stream; returns how many were."""
        request, num_after = self.request, len(self.output_ids) + len(token_ids)
        may_end = self.is_watched or num_after >= request.max_output_tokens
        if may_end or not request.end_ids.isdisjoint(token_ids):
            return self._append_each(token_ids)
        self.output_ids += token_ids
        self.num_tokens += len(token_ids)
        self.text.count(token_ids)
        return len(token_ids)

    def _append_each(self, token_ids: list[int]) -> int:
        output_ids, text, request, census = self.output_ids, self.text, self.request, self.census
        for num_kept, token_id in enumerate(token_ids, start=1):
            output_ids.append(token_id)
            self.num_tokens += 1
            if census is not None:
                census.write(token_id)
            if token_id in request.processors.stop_token_ids:
                self.end("stop")
                return num_kept
            text.push(token_id)
            is_last = len(output_ids) >= request.max_output_tokens
            if token_id in request.end_ids or text.is_stopped or is_last:
                self.end(self._reason_to_finish(token_id))
                return num_kept
        return len(token_ids)

    def _reason_to_finish(self, token_id: int) -> FinishReason:
        if token_id in self.request.end_ids:
            return "end"
        if self.text.is_stopped:
            return "stop"
        return "context" if self.request.ends_at_context else "length"
