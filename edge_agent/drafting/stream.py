"""One stream as the agent knows it: what was committed, what was sent, what is being drafted.

Pure: the link tells it what arrived, the drafting loop asks it what to compute next and tells
it what came out. It must never touch a socket, a clock or a model.

Tokens of the draft model's slot: prompt + committed + sent (`path.live`) + unsent. Tokens that
n-grams suggest (`drafter_choice`) are drafted without the model, which reads them later.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_agent.drafting.board_state import BoardEvent, BoardState, Readiness, Slot, Turn
from edge_agent.drafting.drafter_choice import DrafterChoice
from edge_agent.drafting.draw_spec import DrawSpec, certain_token, draw_spec
from edge_agent.drafting.pending_draft import PendingDraft
from edge_agent.drafting.round_pace import RoundPace
from edge_agent.drafting.row_changes import RowChanges
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.slot_feed import SlotFeed
from edge_agent.drafting.step import DraftStep, tokens_between
from edge_agent.drafting.survival_watch import SurvivalWatch
from edge_agent.drafting.told_prompt import ToldPrompt
from edge_agent.drafting.verdict import Committed, read_verdict, settle_verdict
from shared.protocol.draft_packing import make_extension, pack_draft
from shared.protocol.draft_path import DraftPath, DraftToken
from shared.protocol.messages import AcceptanceMode, Draft, Opened, PromptPart, Verdict
from shared.speculation.sampling import SamplingParameters


@dataclass(slots=True, eq=False)
class AgentStream:
    """Mutable state of one stream; owned by the agent's event loop."""

    channel: int
    vocab_size: int  # the target's, which may have more or fewer padded ids than the draft's
    settings: DraftSettings
    sampling: SamplingParameters
    drafts: bool  # False: speculation is off for this stream
    changes: RowChanges = field(default_factory=RowChanges)  # of rows, as the request asks
    prompt_ids: tuple[int, ...] | None = None  # None until the verifier has told all of it
    told_prompt: ToldPrompt = field(default_factory=ToldPrompt)
    is_started: bool = False  # the verifier runs it, or did
    output_ids: list[int] = field(default_factory=list)
    mode: AcceptanceMode = "coupled"
    seed: int = 0
    watch: SurvivalWatch = field(default_factory=SurvivalWatch)
    salt: int = 0  # of the noise that the verifier does not share; another one on each connection
    path: DraftPath = field(default_factory=DraftPath)
    unsent: PendingDraft = field(default_factory=PendingDraft)
    draft_length: int = 0
    window: int = 0
    rests: bool = False  # no drafts are wanted for a while: nothing is read along either
    feed: SlotFeed = field(default_factory=SlotFeed)
    state: BoardState = field(default_factory=BoardState)
    pace: RoundPace = field(default_factory=RoundPace)
    drafter_choice: DrafterChoice = field(default_factory=lambda: DrafterChoice(0))

    def start(self, message: Opened, given_ids: tuple[int, ...] = ()) -> None:
        """The verifier runs the stream from what was sent with Open; raises as ToldPrompt."""
        self.told_prompt = ToldPrompt(message, self.prompt_ids or given_ids, self.vocab_size)
        self.mode = message.acceptance_mode
        self.seed = message.seed
        self.is_started = True
        self.watch.begin(self.mode, is_greedy=self.sampling.is_greedy)
        self._learn_prompt()
        self._move(BoardEvent.OPENED)

    def read_prompt_part(self, message: PromptPart) -> None:
        """More of the prompt; with the last part drafting may begin. Raises as ToldPrompt."""
        self.told_prompt.read(message)
        self._learn_prompt()

    def reopen(self, channel: int) -> None:
        """Another connection: nothing that was drafted counts there."""
        self.channel = channel
        self.path = DraftPath.begin(len(self.output_ids))
        self.window = self.draft_length = 0
        self._move(BoardEvent.LINK_LOST)
        self.pace.pause()
        self._forget_drafts_from(len(self.output_ids))

    def commit_verdict(self, message: Verdict, now: float) -> Committed:
        """Commit what the verifier committed.

        Raises:
            RemoteProtocolError: it does not continue what was committed, or accepts what was
            not sent.
        """
        before = self.path
        token_ids = read_verdict(message, self.vocab_size, before)
        self.drafter_choice.commit(before.position, token_ids, self._drafted_ids)
        self.path = before.commit(token_ids)
        self.output_ids.extend(token_ids)
        wrong_from = self.unsent.settle(before, self.path, token_ids)
        if wrong_from is not None:
            self._forget_drafts_from(wrong_from)
        settled = settle_verdict(token_ids, message, before, self.path)
        self.watch.learn(before.live, settled, message.least_survival)
        if message.window == 0 and self.window > 0:
            # Nothing more is wanted; the verifier hears from this board again by a new Ready.
            self._move(BoardEvent.WINDOW_LOST)
            if self.mode == "rejection":
                self.path = self.path.restart()
                self._forget_drafts_from(len(self.output_ids))
        self.draft_length, self.window = message.draft_length, message.window
        self._move(BoardEvent.VERDICT_CAME)
        self.rests = message.rests if message.finish is None else self.rests
        if message.finish is not None:
            self._move(BoardEvent.DRAFTING_STOPPED)
            self._forget_drafts_from(len(self.output_ids))
        self.pace.observe_verdict(now)
        return settled

    def take_slot(self) -> None:
        """A slot of the draft model is this stream's from now on."""
        self._move(BoardEvent.SLOT_TAKEN)

    def leave_slot(self) -> None:
        """No slot is; what is being computed for the stream is not wanted."""
        self._move(BoardEvent.SLOT_LEFT)
        self.feed.abandon_step()

    def next_step(self) -> DraftStep | None:
        """What the draft model should read or draft now, or None while there is nothing to do."""
        if not self.has_model or not self._has_work:
            return None
        num_tokens = self.num_tokens
        num_pending = num_tokens - self.feed.num_fed_tokens
        spec = self._draw_spec() if num_pending <= self.settings.prefill_chunk_tokens else None
        if spec is not None:
            # The newest token is fed again where the draw after it was dropped.
            return self._begin_step(max(num_pending, 1), num_tokens, spec)
        num_read = min(num_pending - 1, self.settings.prefill_chunk_tokens)
        reads = num_read > 0 and (self.state.readiness is not Readiness.READY or self._is_behind)
        return self._begin_step(num_read, num_tokens, None) if reads else None

    def take_due_drafts(self) -> list[Draft]:
        """The drafts or the pass that a verdict made due."""
        return self._look_ahead() + self._flush_if_due()

    def record_step(
        self, step: DraftStep, drawn: DraftToken | None, seconds: float, now: float
    ) -> list[Draft]:
        """Take a finished step in; `seconds` of each draw. Returns the drafts to send now.

        A draw that a verdict overtook is dropped: its position is decided.
        """
        self._move(BoardEvent.STEP_ENDED)
        self.feed.end_step(len(step.silent))
        drew_at = step.spec.position if step.spec is not None else None
        if step.version != self.feed.version or drew_at != self._next_position:
            return []
        if drawn is None:
            self._move(BoardEvent.DRAFTING_STOPPED)
            return self._flush() or self._pass()
        for token in (*step.silent, drawn):
            self._append(token, seconds, is_model=True)
            if len(step.token_ids) == 1:
                self.pace.observe_draft_token(seconds)
        drafts = self._look_ahead()
        is_due = self.mode == "coupled" and not self.draft_length and self.pace.is_last_chance(now)
        return drafts + (self._flush() if is_due else self._flush_if_due())

    def restart_feeding(self, num_held: int = 0) -> list[Draft]:
        """A step came to nothing; the draft model holds this many of the stream's tokens."""
        self.feed.restart(num_held)
        return self.take_due_drafts()

    def record_failure(self, step: DraftStep) -> list[Draft]:
        """The draft model failed in a step: it tries again after the next verdict."""
        is_overtaken = step.version != self.feed.version
        drafts = self.restart_feeding()
        if is_overtaken:
            return drafts
        self._move(BoardEvent.DRAFTING_STOPPED)
        return drafts or self._flush() or self._pass()

    def take_ready(self) -> bool:
        """Whether the board has just caught up with the target, so that Ready is due."""
        is_reading = self.state.readiness is Readiness.READING and self.prompt_ids is not None
        if not self.drafts or not is_reading:
            return False
        if not self.has_model or self._is_behind:
            return self.take_ready_without_model()
        self._move(BoardEvent.READY_SAID)
        return True

    def take_ready_without_model(self) -> bool:
        """Whether Ready is due for what n-grams suggest, while the model reads, or hangs."""
        if not self.state.may_hurry or not self._has_work or not self.drafter_choice.is_on:
            return False
        # In `rejection` every round would wait for this board, so there should be a first token.
        needs_first = self.mode == "rejection"
        if needs_first and self.drafter_choice.suggest(self._drafted_ids, 1, 0.0) is None:
            return False
        self._move(BoardEvent.READY_SAID)
        return True

    @property
    def has_model(self) -> bool:
        """Whether a slot of the draft model is this stream's."""
        return self.state.slot is not Slot.NONE

    @property
    def num_tokens(self) -> int:
        """Prompt, committed, sent and unsent tokens."""
        return len(self.prompt_ids or ()) + self._next_position

    def _learn_prompt(self) -> None:
        told_ids = self.told_prompt.token_ids
        if told_ids is not None and self.prompt_ids is None:
            # Verdicts may have come meanwhile; what stands last was read last.
            self.drafter_choice.read((*told_ids, *self.output_ids))
        self.prompt_ids = told_ids

    def _move(self, event: BoardEvent) -> None:
        self.state = self.state.after(event)

    @property
    def _next_position(self) -> int:
        return len(self.output_ids) + len(self.path.live) + len(self.unsent.tokens)

    @property
    def _room(self) -> int:
        """Tokens that the window still allows; a chunk that was begun may exceed it."""
        return self.window - len(self.path.live) - len(self.unsent.tokens)

    @property
    def _is_behind(self) -> bool:
        return self.feed.is_behind(self.num_tokens, self.settings.prefill_chunk_tokens)

    @property
    def _must_read_first(self) -> bool:
        """Whether one step cannot draw yet: a verifier that waits is told to go on alone."""
        chunk_tokens = self.settings.prefill_chunk_tokens
        return not self.has_model or self.feed.num_pending(self.num_tokens) > chunk_tokens

    @property
    def _has_work(self) -> bool:
        """Whether there may be something to read or to draft."""
        if self.prompt_ids is None or not self.drafts or self.rests:
            return False
        is_stopped = self.state.turn is Turn.STOPPED
        return not is_stopped and self.num_tokens < self.settings.context_tokens

    @property
    def _drafted_ids(self) -> list[int]:
        return [token.token_id for token in (*self.path.live, *self.unsent.tokens)]

    def _look_ahead(self) -> list[Draft]:
        """Draft without the model as long as that is worth more; whole chunks to send."""
        drafts: list[Draft] = []
        while True:
            if self.mode == "rejection" and self.unsent.tokens and self._draft_is_complete():
                drafts += self._flush()
            token = self._look_up_token()
            if token is None:
                return drafts
            self._append(token, 0.0, is_model=False)

    def _look_up_token(self) -> DraftToken | None:
        if not self.drafter_choice.is_on or not self._has_work:
            return None
        # A draw that runs must not be dropped for what it may come to.
        is_drawn = self.feed.draws(self._next_position)
        spec = None if is_drawn else self._draw_spec()
        if spec is None:
            return None
        waiting, chunk_length = len(self.unsent.tokens), self.unsent.chunk_length
        room = max(self.window - len(self.path.live), chunk_length) - waiting
        model_tokens = 0.0 if self._must_read_first else self.pace.drafts_at_stake
        match = self.drafter_choice.suggest(self._drafted_ids, room, model_tokens)
        return None if match is None else certain_token(match.token_id, spec, match.confidence)

    def _flush_if_due(self) -> list[Draft]:
        """What should not wait for the draft model."""
        if self._must_read_first:
            return self._flush() or self._pass()
        is_due = self.mode == "coupled" and self.unsent.tokens and self._draft_is_complete()
        return self._flush() if is_due else []

    def _append(self, token: DraftToken, seconds: float, *, is_model: bool) -> None:
        if self.drafter_choice.is_on:
            place = self._next_position, self._drafted_ids
            self.drafter_choice.record_draft(*place, is_model=is_model)
        self.unsent.append(token, seconds)

    def _forget_drafts_from(self, position: int) -> None:
        """Tokens from an output position on are not what the draft model has read."""
        self.drafter_choice.forget_from(position)
        self.unsent.clear()
        self.feed.keep(len(self.prompt_ids or ()) + position)

    def _begin_step(self, num_read: int, num_tokens: int, spec: DrawSpec | None) -> DraftStep:
        start = self.feed.begin_step(num_read, num_tokens, None if spec is None else spec.position)
        texts = self.prompt_ids or (), self.output_ids, (*self.path.live, *self.unsent.tokens)
        token_ids = tokens_between(start, start + num_read, *texts)
        return DraftStep(start, token_ids, spec, self.feed.version)

    def _draw_spec(self) -> DrawSpec | None:
        """How the next token is to be drawn, or None where none is wanted now."""
        is_guess = False
        if self.watch.is_spent(self.path.live, self.unsent.tokens):
            return None
        if self.mode == "rejection":
            if self.path.has_passed:
                return None  # a draft after the pass could come late, and go untested for it
            # Going on past a chunk, the guess of the bonus token comes first.
            is_guess = bool(self.path.live) and not self.unsent.tokens
            chunk = (self.draft_length, self._room)
            if not self.unsent.tokens and not self.unsent.begin_chunk(*chunk, has_guess=is_guess):
                return None
        elif self._room <= 0:
            return None
        drafted_ids = self._drafted_ids if self.changes.is_any else []
        change = self.changes.behind(self.prompt_ids or (), self.output_ids, drafted_ids)
        how = (self.mode, self.sampling, self.settings, self.seed, self.path.base + self.salt)
        where = (self._next_position, self.vocab_size, change)
        return draw_spec(*how, *where, is_guess=is_guess, is_rated=self.watch.is_told)

    def _draft_is_complete(self) -> bool:
        if self.watch.is_spent(self.path.live, self.unsent.tokens):
            return True
        if self.mode == "rejection":
            return self.unsent.is_whole_chunk
        # A rest that missed the next round may as well wait for what its verdict says of it.
        is_last = self._room <= 0 and self.state.turn is Turn.DRAFTING
        return is_last or self.unsent.is_worth_sending(self.draft_length)

    def _flush(self) -> list[Draft]:
        if self.mode == "rejection" and self.unsent.is_guess:
            self._forget_drafts_from(self._next_position - len(self.unsent.tokens))  # a guess alone
        return [self._send(tuple(self.unsent.tokens))] if self.unsent.tokens else []

    def _pass(self) -> list[Draft]:
        """Tell a waiting verifier that nothing will come for the next position."""
        is_wanted = self.window > 0 and not self.path.live and not self.path.has_passed
        return [self._send(())] if is_wanted else []

    def _send(self, tokens: tuple[DraftToken, ...]) -> Draft:
        position = len(self.output_ids) + len(self.path.live)
        draft = make_extension(self.path.base, position, tokens)
        self.path = self.path.extend(draft, self.output_ids, position + len(tokens))
        seconds = self.unsent.drafting_seconds
        message = pack_draft(self.channel, draft, seconds, is_rated=self.watch.is_told)
        self.unsent.clear()
        self._move(BoardEvent.DRAFT_SENT)
        return message
