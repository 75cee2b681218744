"""What the verifier remembers of a board between its connections, and where its messages go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

from shared.daemon.resources.interpreter_turns import CLIENT_SWITCH_SECONDS, short_turns
from shared.protocol.board_health import BoardHealth
from shared.protocol.messages import AssignedDraft, Assignment, Notice, VerifierMessage
from shared.speculation.calibration import Calibration, common_prior
from shared.speculation.draft_choice import OWN, DraftChoice
from verifier.drafts.suitability import BoardProfile
from verifier.streams.draft_chances import way_of
from verifier.streams.draft_pace import DraftPace
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.kept_streams import KeptStreams
from verifier.streams.stream import Stream

# Each takes 0.1 ms of the event loop, once for a board and its draft model.
MAX_ASKED_BOARDS = 8
# Drafts that a board held before, whose estimates are remembered.
MAX_LET_GO = 8
# What Python computes for a device takes a quarter of the interpreter at most: it rests for so many
# times as long afterwards. 200 forced calls a second, 3.6 ms each, would have taken 0.7 of it.
RESTS = 3.0

_T = TypeVar("_T")
_Result = TypeVar("_Result")


class Outbox(Protocol):
    """Where a stream's messages go: the connection that it lives on."""

    def send(self, message: VerifierMessage) -> None: ...

    def send_parts(self, messages: Sequence[VerifierMessage]) -> None: ...

    def stream_ended(self, channel: int) -> None: ...

    def replace(self) -> None: ...


@dataclass(slots=True, eq=False)
class HeldDraft:
    """A draft of the registry that a board holds, and what is believed of its tokens there."""

    draft: AssignedDraft
    estimates: DeviceEstimates


@dataclass(slots=True)
class Device:
    """What the verifier remembers of a board between its connections."""

    name: str
    estimates: DeviceEstimates  # of the draft that it used last
    kept: KeptStreams
    epoch: int = 0
    outbox: Outbox | None = None
    draft_model: str = ""  # by the board's word, of its latest connection
    draft_context_tokens: int = 0
    takes_notices: bool = False  # its agent
    takes_drafts: bool = False  # likewise
    draft_bytes: int = 0  # of its own draft model; 0: it does not tell
    own_estimates: DeviceEstimates = field(init=False)  # of its own draft
    assignment: Assignment | None = None  # that it was told last on this connection
    held: dict[int, HeldDraft] = field(default_factory=dict)  # by the board's number for it
    let_go: dict[bytes, DeviceEstimates] = field(default_factory=dict)  # of drafts held before
    refused: dict[bytes, str] = field(default_factory=dict)  # assigned drafts, and why not
    choice: DraftChoice = field(default_factory=DraftChoice)  # among what it holds
    health: BoardHealth | None = None  # as the board told last; None: it has not
    expiry: asyncio.TimerHandle | None = None  # of what is kept
    thread: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.own_estimates = self.estimates

    @property
    def profile(self) -> BoardProfile:
        """What it told of its own draft."""
        return BoardProfile(self.draft_bytes, self.own_estimates.speed.draft_token_seconds)

    @property
    def draft_in_use(self) -> str:
        """What new streams take first, of those that the board holds; "": its own."""
        told = self.assignment
        if told is None or not told.turns or not told.turns[0]:
            return ""
        draft = told.drafts[told.turns[0] - 1]
        is_held = any(held.draft.sha256 == draft.sha256 for held in self.held.values())
        return draft.name if is_held else ""

    def assign(self, assignment: Assignment) -> None:
        """Tell the board which drafts it should hold, unless it knows."""
        is_known = assignment == self.assignment
        if self.outbox is not None and self.takes_drafts and not is_known:
            self.assignment = assignment
            self.outbox.send(assignment)

    def hold(
        self,
        number: int,
        draft: AssignedDraft,
        draft_token_seconds: float,
        devices: Iterable[Device],
    ) -> None:
        """The board holds a draft and calls it so; what is known of it from before still holds."""
        self.let_go_of(draft.sha256)
        self.refused.pop(draft.sha256, None)
        estimates = self.let_go.pop(draft.sha256, None)
        if estimates is None:
            calibrations = [
                held.estimates.calibration
                for device in islice(devices, MAX_ASKED_BOARDS)
                for held in device.held.values()
                if held.draft.sha256 == draft.sha256
            ]
            calibration = Calibration(common_prior(calibrations))
            estimates = self.own_estimates.of_another_draft(calibration, draft_token_seconds)
        self.held[number] = HeldDraft(draft, estimates)

    def let_go_of(self, sha256: bytes | None = None) -> None:
        """The board holds this draft no more, or none of all; what is known of them is kept."""
        for number, held in tuple(self.held.items()):
            if sha256 in (None, held.draft.sha256):
                self.let_go[held.draft.sha256] = self.held.pop(number).estimates
        while len(self.let_go) > MAX_LET_GO:
            del self.let_go[next(iter(self.let_go))]

    def refuse(self, draft: AssignedDraft, because: str) -> None:
        """The board does not use it, as it says."""
        self.let_go_of(draft.sha256)
        self.refused[draft.sha256] = because

    def let_draft(self, stream: Stream, number: int) -> None:
        """The board drafts for a stream with this draft; one that it never named is its own."""
        held = self.held.get(number)
        draft = OWN if held is None else held.draft.sha256
        self.estimates = self.own_estimates if held is None else held.estimates
        if stream.device_estimates is not self.estimates:
            stream.device_estimates = self.estimates
            stream.estimates = self.estimates.open_stream()
            stream.estimates.chances.way = way_of(stream.request)
        if self.held and stream.estimates.draft_pace is None:
            stream.estimates.draft_pace = DraftPace(draft)

    def tell_held(self, because: str) -> None:
        """Say to its people why its streams wait, or with nothing that they wait no more."""
        if self.outbox is not None and self.takes_notices:
            self.outbox.send(Notice(because))

    def draft_with(self, model_name: str, devices: Iterable[Device]) -> None:
        """The board drafts with this model from now on; what another one was sure of is forgotten.

        Until it has shown what its confidence is worth, that is what it is on other boards with it.
        """
        if model_name == self.draft_model:
            return
        self.draft_model = model_name
        alike = (other for other in devices if other.draft_model == model_name)
        asked = [other.own_estimates.calibration for other in islice(alike, MAX_ASKED_BOARDS + 1)]
        own = self.own_estimates.calibration
        others = [calibration for calibration in asked if calibration is not own]
        self.own_estimates.calibration = Calibration(common_prior(others[:MAX_ASKED_BOARDS]))

    async def in_thread(
        self,
        work: Callable[[_T], _Result],
        asked: _T,
        beside: asyncio.Lock | None = None,
    ) -> _Result:
        """Work in a thread, for one stream of a device at a time, however many it opens and drops.

        A prompt of 192 KiB takes 0.1 to 0.2 s of a core; what was begun cannot be ended. `beside`:
        a lock of all devices, in whose line each of them has one place at most, for work of Python
        itself, which takes short turns then, and after which the device has a rest from such work.
        """
        locks = (self.thread,) if beside is None else (self.thread, beside)
        spent = _Spent()
        async with AsyncExitStack() as held:
            for lock in locks:
                await held.enter_async_context(lock)
            done = work if beside is None else partial(_in_short_turns, work, spent)
            working = asyncio.get_running_loop().run_in_executor(None, done, asked)
            held.pop_all()  # what was begun holds them
        working.add_done_callback(partial(_end_work, self.thread, beside, spent))
        try:
            return await asyncio.shield(working)
        finally:
            # What it raises holds this frame, and all that the work had in hand: with the future
            # here that is a circle, which Python finds late, in a search of 3 to 20 ms.
            del working


@dataclass(slots=True)
class _Spent:
    """Processor time of a thread."""

    seconds: float = 0.0


def _in_short_turns(work: Callable[[_T], _Result], spent: _Spent, asked: _T) -> _Result:
    began_at = time.thread_time()
    try:
        with short_turns(CLIENT_SWITCH_SECONDS):
            return work(asked)
    finally:
        spent.seconds = time.thread_time() - began_at


def _end_work(
    own: asyncio.Lock, beside: asyncio.Lock | None, spent: _Spent, working: asyncio.Future[_Result]
) -> None:
    if beside is None:
        own.release()
    else:
        beside.release()
        asyncio.get_running_loop().call_later(RESTS * spent.seconds, own.release)
    if not working.cancelled():
        working.exception()  # that of a stream which was dropped is no bug to log
