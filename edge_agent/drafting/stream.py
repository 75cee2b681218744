"""One stream as the agent knows it: what was committed, what was sent, what is being drafted.

Pure: the link tells it what arrived, the drafting loop asks it what to compute next and tells
it what came out.  It must never touch a socket, a clock or a model.

Tokens of the draft model's slot: prompt + committed + sent (`path.live`) + unsent.  Tokens that
n-grams suggest (`drafter_choice`) are drafted without the model, which reads them later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_agent.drafting.drafter_choice import DrafterChoice
from edge_agent.drafting.draw import DrawSpec, certain_token, draw_spec
from edge_agent.drafting.pending_draft import PendingDraft
from edge_agent.drafting.round_pace import RoundPace
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.step import DraftStep, tokens_between
from edge_agent.drafting.verdict import Committed, accepted_ids, committed
from shared.protocol.draft_packing import draft_message, extension
from shared.protocol.draft_path import DraftPath, DraftToken
from shared.protocol.messages import AcceptanceMode, Draft, Opened, Verdict
from shared.protocol.token_ids import unpack_token_ids
from shared.speculation.sampling import SamplingParameters

# The board says Ready when it is this close behind the target: one small batch away.
READY_WITHIN_TOKENS = 8

# In `coupled` a token is worth nothing before it is sent, and a message costs some 20 bytes.
COUPLED_DRAFT_TOKENS = 4


@dataclass(slots=True, eq=False)
class AgentStream:
    """Mutable state of one stream; owned by the agent's event loop."""

    channel: int
    vocab_size: int  # the target's, which may have more or fewer padded ids than the draft's
    settings: DraftSettings
    sampling: SamplingParameters
    drafts: bool  # False: speculation is off for this stream
    prompt_ids: tuple[int, ...] | None = None
    output_ids: list[int] = field(default_factory=list)
    mode: AcceptanceMode = "coupled"
    seed: int = 0
    salt: int = 0  # of the noise that the verifier does not share; another one on each connection
    path: DraftPath = field(default_factory=DraftPath)
    unsent: PendingDraft = field(default_factory=PendingDraft)
    draft_length: int = 0
    window: int = 0
    num_fed_tokens: int = 0  # tokens in the draft model's slot that are still right
    num_feeding_tokens: int = 0  # the same when the step that runs has ended
    version: int = 0  # changes when tokens that were fed or are to be drawn became wrong
    is_open: bool = False  # the verifier runs it on this connection
    is_ready: bool = False  # the verifier was told so, and may grant a window
    is_stopped: bool = False  # until the next verdict
    has_sent: bool = False  # a Draft since the latest verdict
    pace: RoundPace = field(default_factory=RoundPace)
    look_up: DrafterChoice = field(default_factory=lambda: DrafterChoice(0))
    has_model: bool = True  # a slot of the draft model is this stream's
    awaits_model: bool = False  # the window was lost, perhaps to a model that hangs
    drawing: tuple[int, int] | None = None  # version and position of a draw that runs

    # --- what the verifier says ----------------------------------------------------------------

    def opened(self, message: Opened) -> None:
        """The verifier runs the stream, from the committed tokens that were sent with Open."""
        prompt_ids = tuple(unpack_token_ids(message.prompt, self.vocab_size).tolist())
        if self.prompt_ids is None:
            self.look_up.read(prompt_ids)
        self.prompt_ids = prompt_ids
        self.mode = message.acceptance_mode
        self.seed = message.seed
        self.is_open = True

    def reopen(self, channel: int) -> None:
        """Another connection: nothing that was drafted counts there."""
        self.channel = channel
        self.path = DraftPath.begin(len(self.output_ids))
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
        accepted = accepted_ids(message, len(self.output_ids), self.path)
        token_ids = accepted + own
        before = self.path
        self.look_up.commit(before.position, token_ids, self._drafted_ids)
        self.path = before.commit(token_ids)
        self.output_ids.extend(token_ids)
        if self.path.base > before.base:
            self._forget_drafts_from(self.path.base - 1)
        else:
            num_live = len(before.live)
            self._strike_unsent(token_ids[num_live:], before.position + num_live)
        settled = committed(token_ids, len(accepted), before, self.path)
        if message.window == 0 and self.window > 0:
            self._lose_window()
        self.draft_length, self.window = message.draft_length, message.window
        self.has_sent = False
        self.is_stopped = message.finish is not None
        if self.is_stopped:
            self._forget_drafts_from(len(self.output_ids))
        self.pace.verdict_came(now)
        return settled

    # --- what to compute next ------------------------------------------------------------------

    def next_step(self) -> DraftStep | None:
        """What the draft model should read or draft now, or None while there is nothing to do."""
        if not self.has_model or not self._has_work:
            return None
        spec = None if self._must_read_first else self._draw_spec()
        self.drawing = None if spec is None else (self.version, spec.position)
        if spec is not None:
            # The newest token is fed again where the draw after it was dropped.
            return self._step(max(self._num_pending_tokens, 1), spec)
        num_read = min(self._num_pending_tokens - 1, self.settings.prefill_chunk_tokens)
        wants_to_read = self._is_behind or not self.is_ready
        return self._step(num_read, None) if wants_to_read and num_read > 0 else None

    def overdue(self) -> list[Draft]:
        """The drafts or the pass that a verdict made due."""
        return self._look_ahead() + self._due()

    def fed(
        self, step: DraftStep, drawn: DraftToken | None, seconds: float, now: float
    ) -> list[Draft]:
        """Take a finished step in; the drafts to send now.

        A draw that a verdict overtook is dropped: its position is decided.
        """
        self.drawing, self.awaits_model = None, False
        self.num_fed_tokens = self.num_feeding_tokens
        drew_at = step.spec.position if step.spec is not None else None
        if step.version != self.version or drew_at != self._next_position:
            return []
        if drawn is None:
            self.is_stopped = True
            return self._flush() or self._pass()
        self._append(drawn, seconds, is_model=True)
        if len(step.token_ids) == 1:
            self.pace.token_drafted(seconds)
        drafts = self._look_ahead()
        is_due = self.mode == "coupled" and not self.draft_length and self.pace.is_last_chance(now)
        return drafts + (self._flush() if is_due else self._due())

    def restart_feeding(self, num_held: int = 0) -> list[Draft]:
        """A step came to nothing; the draft model holds this many of the stream's tokens."""
        self.num_fed_tokens = self.num_feeding_tokens = min(self.num_fed_tokens, num_held)
        self.version += 1
        self.drawing = None
        return self.overdue()

    def failed(self, step: DraftStep) -> list[Draft]:
        """The draft model failed in a step: it tries again after the next verdict."""
        is_overtaken = step.version != self.version
        drafts = self.restart_feeding()
        if is_overtaken:
            return drafts
        self.is_stopped = True
        return drafts or self._flush() or self._pass()

    def is_overtaken(self, step: DraftStep) -> bool:
        """Whether what a step feeds became wrong while it runs."""
        return self.num_feeding_tokens < step.num_kept_tokens + len(step.token_ids)

    def becomes_ready(self) -> bool:
        """Whether the board has just caught up with the target, so that Ready is due."""
        if self.is_ready or not self.is_open or not self.drafts:
            return False
        self.is_ready = self.has_model and not self._is_behind
        return self.is_ready or self.becomes_ready_without_model()

    def becomes_ready_without_model(self) -> bool:
        """Whether Ready is due for what n-grams suggest, while the model reads, or hangs."""
        if self.is_ready or not self.is_open or not self._has_work or not self.look_up.is_on:
            return False
        # In `rejection` every round would wait for this board, so there should be a first token.
        has_first = self.look_up.suggest(self._drafted_ids, 1, 0.0) is not None
        self.is_ready = (self.mode == "coupled" or has_first) and not self.awaits_model
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
        return not self.has_model or self._num_pending_tokens > self.settings.prefill_chunk_tokens

    @property
    def _has_work(self) -> bool:
        """Whether there may be something to read or to draft."""
        is_running = self.prompt_ids is not None and self.drafts and not self.is_stopped
        return is_running and self.num_tokens < self.settings.context_tokens

    @property
    def _drafted_ids(self) -> list[int]:
        return [token.token_id for token in (*self.path.live, *self.unsent)]

    def _look_ahead(self) -> list[Draft]:
        """Draft without the model as long as that is worth more; whole chunks to send."""
        drafts: list[Draft] = []
        while True:
            if self.mode == "rejection" and self.unsent and self._draft_is_complete():
                drafts += self._flush()
            token = self._looked_up_token()
            if token is None:
                return drafts
            self._append(token, 0.0, is_model=False)

    def _looked_up_token(self) -> DraftToken | None:
        # A draw that runs must not be dropped for what it may come to.
        is_drawn = self.drawing == (self.version, self._next_position)
        spec = self._draw_spec() if self._has_work and not is_drawn else None
        if spec is None:
            return None
        room = max(self.window - len(self.path.live), self.unsent.chunk_length) - len(self.unsent)
        model_tokens = 0.0 if self._must_read_first else self.pace.drafts_at_stake
        token_id = self.look_up.suggest(self._drafted_ids, room, model_tokens)
        return None if token_id is None else certain_token(token_id, spec)

    def _due(self) -> list[Draft]:
        """What should not wait for the draft model."""
        if self._must_read_first:
            return self._flush() or self._pass()
        is_due = self.mode == "coupled" and self.unsent and self._draft_is_complete()
        return self._flush() if is_due else []

    def _append(self, token: DraftToken, seconds: float, *, is_model: bool) -> None:
        self.look_up.drafted(self._next_position, self._drafted_ids, is_model=is_model)
        self.unsent.append(token, seconds)

    def _strike_unsent(self, token_ids: Sequence[int], position: int) -> None:
        """Committed tokens beyond the sent path meet what was drafted but not sent."""
        for i, token_id in enumerate(token_ids):
            if not self.unsent:
                return  # the target was faster
            if self.unsent.first.token_id != token_id:
                self._forget_drafts_from(position + i)
                return
            self.unsent.strike_first()

    def _lose_window(self) -> None:
        """Nothing more is wanted: drafts do not pay, or the verifier waited too long for one.

        In the latter case it hears from this board again by a new Ready.
        """
        self.is_ready, self.awaits_model = False, self.has_model
        if self.mode == "rejection":
            self.path = self.path.restart()
            self._forget_drafts_from(len(self.output_ids))

    def _forget_drafts_from(self, position: int) -> None:
        """Tokens from an output position on are not what the draft model has read."""
        self.look_up.forget_from(position)
        self.unsent.clear()
        num_right = len(self.prompt_ids or ()) + position
        self.num_fed_tokens = min(self.num_fed_tokens, num_right)
        self.num_feeding_tokens = min(self.num_feeding_tokens, num_right)
        self.version += 1

    def _step(self, num_read: int, spec: DrawSpec | None) -> DraftStep:
        start = min(self.num_fed_tokens, self.num_tokens - num_read)
        self.num_feeding_tokens = start + num_read
        parts = (self.prompt_ids or (), self.output_ids, self._drafted_ids)
        token_ids = tokens_between(*parts, start, start + num_read)
        return DraftStep(start, token_ids, spec, self.version)

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
            self.unsent.chunk_length = min(self.draft_length, room - is_guess) + is_guess
        where = (self.seed, self.path.base + self.salt, self._next_position, self.vocab_size)
        return draw_spec(self.mode, self.sampling, self.settings, *where, is_guess=is_guess)

    def _draft_is_complete(self) -> bool:
        if self.mode == "rejection":
            return len(self.unsent) >= self.unsent.chunk_length
        room = self.window - len(self.path.live) - len(self.unsent)
        if len(self.unsent) >= (self.draft_length or COUPLED_DRAFT_TOKENS):
            return True
        # A rest that missed the next round may as well wait for what its verdict says of it.
        return room <= 0 and not self.has_sent

    def _flush(self) -> list[Draft]:
        if self.mode == "rejection" and self.unsent.is_guess:
            self._forget_drafts_from(self._next_position - len(self.unsent))  # a guess alone
        return [self._draft(tuple(self.unsent))] if self.unsent else []

    def _pass(self) -> list[Draft]:
        """Tell a waiting verifier that nothing will come for the next position."""
        is_wanted = self.window > 0 and not self.path.live and not self.path.has_passed
        return [self._draft(())] if is_wanted else []

    def _draft(self, tokens: tuple[DraftToken, ...]) -> Draft:
        position = len(self.output_ids) + len(self.path.live)
        draft = extension(self.path.base, position, tokens)
        self.path = self.path.extend(draft, self.output_ids, position + len(tokens))
        message = draft_message(self.channel, draft, self.unsent.drafting_seconds)
        self.unsent.clear()
        self.has_sent = True
        return message
