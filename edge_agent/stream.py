"""One stream as the agent knows it: what was committed, what was sent, what is being drafted.

Pure: the link tells it what arrived, the drafting loop asks it what to compute next and tells
it what came out.  It must never touch a socket, a clock or a model.

Tokens of the draft model's slot: prompt + committed + sent (`path.live`) + unsent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from edge_agent.draft_step import Committed, DraftSettings, DraftStep
from edge_agent.draw import DrawSpec, path_seed
from edge_agent.pace import Pace
from shared.errors import RemoteProtocolError
from shared.messages import AcceptanceMode, Draft, Opened, Verdict
from shared.path import DraftToken, Extension, Path, begin, commit, extend, restart
from shared.sampling import SamplingParameters
from shared.sparse_rows import pack_rows
from shared.token_ids import pack_token_ids, unpack_token_ids

# The board says Ready when it is this close behind the target: one small batch away.
READY_WITHIN_TOKENS = 8

# In `coupled` a token is worth nothing before it is sent, and a message costs some 20 bytes.
COUPLED_DRAFT_TOKENS = 4


@dataclass(slots=True, eq=False)
class AgentStream:
    """Mutable state of one stream; owned by the agent's event loop."""

    channel: int
    vocab_size: int
    settings: DraftSettings
    sampling: SamplingParameters
    drafts: bool  # False: speculation is off for this stream
    prompt_ids: tuple[int, ...] | None = None
    output_ids: list[int] = field(default_factory=list)
    mode: AcceptanceMode = "coupled"
    seed: int = 0
    path: Path = field(default_factory=Path)
    unsent: list[DraftToken] = field(default_factory=list)
    chunk_length: int = 0  # `rejection`: tokens of the next Draft, a guess at its head included
    draft_length: int = 0
    window: int = 0
    num_fed_tokens: int = 0  # tokens in the draft model's slot that are still right
    version: int = 0  # changes when tokens that were fed or are to be drawn became wrong
    is_open: bool = False  # the verifier runs it on this connection
    is_ready: bool = False  # the verifier was told so, and may grant a window
    is_stopped: bool = False  # until the next verdict
    has_sent: bool = False  # a Draft since the latest verdict
    drafting_seconds: float = 0.0  # spent on the unsent tokens
    pace: Pace = field(default_factory=Pace)

    # --- what the verifier says ----------------------------------------------------------------

    def opened(self, message: Opened) -> None:
        """The verifier runs the stream, from the committed tokens that were sent with Open."""
        self.prompt_ids = tuple(unpack_token_ids(message.prompt, self.vocab_size).tolist())
        self.mode = message.acceptance_mode
        self.seed = message.seed
        self.is_open = True

    def reopen(self, channel: int) -> None:
        """Another connection: nothing that was drafted counts there."""
        self.channel = channel
        self.path = begin(len(self.output_ids))
        self.window = self.draft_length = 0
        self.is_open = self.is_ready = self.is_stopped = False
        self.pace.pause()
        self._forget_drafts_from(len(self.output_ids))

    def verdict(self, message: Verdict, now: float) -> Committed:
        """Commit what the verifier committed.

        Raises:
            RemoteProtocolError: it does not continue what was committed, or accepts what was
            not sent.
        """
        own = tuple(unpack_token_ids(message.tokens, self.vocab_size).tolist())
        accepted = self._accepted(message)
        token_ids = accepted + own
        num_live = len(self.path.live)
        before = self.path
        self.path = commit(before, token_ids)
        self.output_ids.extend(token_ids)
        num_dead = 0
        num_survived = min(num_live, len(token_ids))
        if self.path.base > before.base:
            num_survived = self.path.base - 1 - before.position
            num_dead = num_live - num_survived
            self._forget_drafts_from(self.path.base - 1)
        else:
            self._strike_unsent(token_ids[num_live:], before.position + num_live)
        num_tested = len(accepted) + int(num_dead > 0)
        if message.window == 0 and self.window > 0:
            self._lose_window()
        self.draft_length, self.window = message.draft_length, message.window
        self.has_sent = False
        self.is_stopped = message.finish is not None
        if self.is_stopped:
            self._forget_drafts_from(len(self.output_ids))
        self.pace.verdict_came(now)
        return Committed(token_ids, len(accepted), num_tested, num_dead, num_survived)

    # --- what to compute next ------------------------------------------------------------------

    def next_step(self) -> DraftStep | None:
        """What the draft model should read or draft now, or None while there is nothing to do."""
        if self.prompt_ids is None or not self.drafts or self.is_stopped:
            return None
        if self.num_tokens >= self.settings.context_tokens:
            return None
        spec = None if self._must_read_first else self._draw_spec()
        if spec is not None:
            # The newest token is fed again where the draw after it was dropped.
            return self._step(max(self._num_pending_tokens, 1), spec)
        num_read = min(self._num_pending_tokens - 1, self.settings.prefill_chunk_tokens)
        wants_to_read = self._is_behind or not self.is_ready
        return self._step(num_read, None) if wants_to_read and num_read > 0 else None

    def overdue(self) -> list[Draft]:
        """The draft or pass that a verdict made due."""
        if self._must_read_first:
            return self._flush() or self._pass()
        is_due = self.mode == "coupled" and self.unsent and self._draft_is_complete()
        return self._flush() if is_due else []

    def fed(
        self, step: DraftStep, drawn: DraftToken | None, seconds: float, now: float
    ) -> list[Draft]:
        """Take a finished step in; the drafts to send now.

        A draw that a verdict overtook is dropped: its position is decided.
        """
        if step.version != self.version:
            return []
        self.num_fed_tokens = step.num_kept_tokens + len(step.token_ids)
        if step.spec is None or step.spec.position != self._next_position:
            return []
        if drawn is None:
            self.is_stopped = True
            return self._flush() or self._pass()
        self.unsent.append(drawn)
        self.drafting_seconds += seconds
        if len(step.token_ids) == 1:
            self.pace.token_drafted(seconds)
        is_due = self.mode == "coupled" and self.pace.is_last_chance(now)
        return self._flush() if is_due or self._draft_is_complete() else []

    def restart_feeding(self) -> list[Draft]:
        """The draft model lost this stream's tokens; it reads them again."""
        self.num_fed_tokens = 0
        self.version += 1
        return self.overdue()

    def failed(self, step: DraftStep) -> list[Draft]:
        """The draft model failed in a step: it tries again after the next verdict."""
        is_overtaken = step.version != self.version
        drafts = self.restart_feeding()
        if is_overtaken:
            return drafts
        self.is_stopped = True
        return drafts or self._flush() or self._pass()

    def becomes_ready(self) -> bool:
        """Whether the board has just caught up with the target, so that Ready is due."""
        if self.is_ready or not self.is_open or not self.drafts:
            return False
        self.is_ready = not self._is_behind
        return self.is_ready

    @property
    def num_tokens(self) -> int:
        """Prompt, committed, sent and unsent tokens."""
        return len(self.prompt_ids or ()) + self._next_position

    # --- private -------------------------------------------------------------------------------

    @property
    def _next_position(self) -> int:
        return len(self.output_ids) + len(self.path.live) + len(self.unsent)

    @property
    def _num_pending_tokens(self) -> int:
        """Tokens that the draft model has not read."""
        return self.num_tokens - self.num_fed_tokens

    @property
    def _is_behind(self) -> bool:
        """Whether reading comes before the promise, or the keeping, of `Ready`."""
        most = min(READY_WITHIN_TOKENS, self.settings.prefill_chunk_tokens)
        return self._num_pending_tokens > most

    @property
    def _must_read_first(self) -> bool:
        """Whether one step cannot draw yet: a verifier that waits is told to go on alone."""
        return self._num_pending_tokens > self.settings.prefill_chunk_tokens

    def _accepted(self, message: Verdict) -> tuple[int, ...]:
        live = self.path.live
        if message.position != len(self.output_ids):
            raise RemoteProtocolError(
                f"verdict at {message.position}, not at {len(self.output_ids)}"
            )
        if message.num_accepted > len(live):
            raise RemoteProtocolError(
                f"verdict accepts {message.num_accepted} tokens of {len(live)} sent"
            )
        return tuple(token.token_id for token in live[: message.num_accepted])

    def _strike_unsent(self, token_ids: Sequence[int], position: int) -> None:
        """Committed tokens beyond the sent path meet what was drafted but not sent."""
        for i, token_id in enumerate(token_ids):
            if not self.unsent:
                return  # the target was faster
            if self.unsent[0].token_id != token_id:
                self._forget_drafts_from(position + i)
                return
            self.drafting_seconds -= self.drafting_seconds / len(self.unsent)
            self.unsent.pop(0)
            self.chunk_length = max(self.chunk_length - 1, 1)

    def _lose_window(self) -> None:
        """Nothing more is wanted: drafts do not pay, or the verifier waited too long for one.

        In the latter case it hears from this board again by a new Ready.
        """
        self.is_ready = False
        if self.mode == "rejection":
            self.path = restart(self.path)
            self._forget_drafts_from(len(self.output_ids))

    def _forget_drafts_from(self, position: int) -> None:
        """Tokens from an output position on are not what the draft model has read."""
        self.unsent.clear()
        self.chunk_length = 0
        self.drafting_seconds = 0.0
        self.num_fed_tokens = min(self.num_fed_tokens, len(self.prompt_ids or ()) + position)
        self.version += 1

    def _step(self, num_read: int, spec: DrawSpec | None) -> DraftStep:
        start = min(self.num_fed_tokens, self.num_tokens - num_read)
        return DraftStep(start, self._token_ids(start, start + num_read), spec, self.version)

    def _token_ids(self, start: int, end: int) -> tuple[int, ...]:
        prompt_ids = self.prompt_ids or ()
        drafted = [token.token_id for token in (*self.path.live, *self.unsent)]
        num_settled = len(prompt_ids) + len(self.output_ids)
        if start >= num_settled:  # mostly; a long prompt need not be copied for it
            return tuple(drafted[start - num_settled : end - num_settled])
        return (*prompt_ids, *self.output_ids, *drafted)[start:end]

    def _draw_spec(self) -> DrawSpec | None:
        room = self.window - len(self.path.live) - len(self.unsent)
        chunk_is_begun = self.mode == "rejection" and bool(self.unsent)
        if room <= 0 and not chunk_is_begun:
            return None
        if self.mode == "rejection" and self.path.has_passed:
            return None  # a draft after the pass could come late, and go untested for it
        is_guess = False
        if self.mode == "rejection" and not self.unsent:
            # Going on past a chunk, the guess of the bonus token comes first.
            is_guess = bool(self.path.live)
            if room <= int(is_guess):
                return None
            self.chunk_length = min(self.draft_length, room - is_guess) + is_guess
        is_shared = self.mode == "coupled" or is_guess  # the verifier draws with this noise, too
        return DrawSpec(
            mode=self.mode,
            sampling=self.sampling,
            seed=self.seed if is_shared else path_seed(self.seed, self.path.base),
            position=self._next_position,
            is_guess=is_guess,
            row_entries=self.settings.row_entries,
            confidence_stop=0.0 if is_guess else self.settings.confidence_stop,
        )

    def _draft_is_complete(self) -> bool:
        if self.mode == "rejection":
            return len(self.unsent) >= self.chunk_length
        room = self.window - len(self.path.live) - len(self.unsent)
        if len(self.unsent) >= (self.draft_length or COUPLED_DRAFT_TOKENS):
            return True
        # A rest that missed the next round may as well wait for what its verdict says of it.
        return room <= 0 and not self.has_sent

    def _flush(self) -> list[Draft]:
        if self.mode == "rejection" and self.unsent and self.unsent[-1].row is None:
            self._forget_drafts_from(self._next_position - len(self.unsent))  # a guess alone
        if not self.unsent:
            return []
        return [self._draft(tuple(self.unsent))]

    def _pass(self) -> list[Draft]:
        """Tell a waiting verifier that nothing will come for the next position."""
        is_wanted = self.window > 0 and not self.path.live and not self.path.has_passed
        return [self._draft(())] if is_wanted else []

    def _draft(self, tokens: tuple[DraftToken, ...]) -> Draft:
        position = len(self.output_ids) + len(self.path.live)
        base = self.path.base
        ending = tuple(
            msgspec.structs.replace(token, ends_chunk=i == len(tokens) - 1)
            for i, token in enumerate(tokens)
        )
        extension = Extension(base, position, ending)
        self.path = extend(self.path, extension, self.output_ids, position + len(tokens))
        rows = tuple(token.row for token in tokens if token.row is not None)
        draft = Draft(
            channel=self.channel,
            base=base,
            offset=position - base,
            tokens=pack_token_ids([token.token_id for token in tokens]),
            drafting_milliseconds=round(self.drafting_seconds * 1e3),
            rows=pack_rows(rows) if rows else b"",
        )
        self.unsent.clear()
        self.chunk_length = 0
        self.drafting_seconds = 0.0
        self.has_sent = True
        return draft
