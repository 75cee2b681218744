"""What the verifier remembers of a board between its connections, and where its messages go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

from shared.protocol.board_health import BoardHealth
from shared.protocol.messages import Notice, VerifierMessage
from shared.speculation.calibration import Calibration, common_prior
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.kept_streams import KeptStreams

# Each takes 0.1 ms of the event loop, once for a board and its draft model.
MAX_ASKED_BOARDS = 8

_T = TypeVar("_T")
_Result = TypeVar("_Result")


class Outbox(Protocol):
    """Where a stream's messages go: the connection that it lives on."""

    def send(self, message: VerifierMessage) -> None: ...

    def send_parts(self, messages: Sequence[VerifierMessage]) -> None: ...

    def stream_ended(self, channel: int) -> None: ...

    def replace(self) -> None: ...


@dataclass(slots=True)
class Device:
    """What the verifier remembers of a board between its connections."""

    name: str
    estimates: DeviceEstimates
    kept: KeptStreams
    epoch: int = 0
    outbox: Outbox | None = None
    draft_model: str = ""  # by the board's word, of its latest connection
    draft_context_tokens: int = 0
    takes_notices: bool = False  # its agent
    health: BoardHealth | None = None  # as the board told last; None: it has not
    expiry: asyncio.TimerHandle | None = None  # of what is kept
    thread: asyncio.Lock = field(default_factory=asyncio.Lock)

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
        asked = [other.estimates.calibration for other in islice(alike, MAX_ASKED_BOARDS + 1)]
        own = self.estimates.calibration
        others = [calibration for calibration in asked if calibration is not own]
        self.estimates.calibration = Calibration(common_prior(others[:MAX_ASKED_BOARDS]))

    async def in_thread(
        self,
        work: Callable[[_T], _Result],
        asked: _T,
        beside: asyncio.Lock | None = None,
    ) -> _Result:
        """Work in a thread, for one stream of a device at a time, however many it opens and drops.

        A prompt of 192 KiB takes 0.1 to 0.2 s of a core; what was begun cannot be ended. `beside`:
        a lock of all devices, in whose line each of them has one place at most.
        """
        locks = (self.thread,) if beside is None else (self.thread, beside)
        async with AsyncExitStack() as held:
            for lock in locks:
                await held.enter_async_context(lock)
            working = asyncio.get_running_loop().run_in_executor(None, work, asked)
            held.pop_all()  # what was begun holds them
        working.add_done_callback(partial(_end_work, locks))
        return await asyncio.shield(working)


def _end_work(locks: Sequence[asyncio.Lock], working: asyncio.Future[_Result]) -> None:
    for lock in locks:
        lock.release()
    if not working.cancelled():
        working.exception()  # that of a stream which was dropped is no bug to log
