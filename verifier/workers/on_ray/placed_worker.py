"""A worker that Ray has placed somewhere: the keeper says where, rounds go there over a socket."""

from __future__ import annotations

from collections.abc import Callable

from shared.errors import LinkLost
from verifier.target.round import Round
from verifier.workers.local_worker import ended_early
from verifier.workers.on_ray.keeper import Keeper
from verifier.workers.on_ray.messages import NotPlaced, Placed, Wanted, worker_name
from verifier.workers.remote_target import RemoteTarget, WorkerAddress, connect

# Between looks for a process that is being placed.
PAUSE_SECONDS = 0.2


class PlacedWorker:
    """Implements `verifier.engine.worker.WorkerSource`; `reach` and `close` may meet in threads."""

    def __init__(
        self,
        number: int,
        keeper: Keeper,
        round_deadline_seconds: Callable[[Round], float],
        check: Callable[[RemoteTarget], None] = lambda target: None,
        started_at: int = 0,
        patience_looks: int = 150,
    ) -> None:
        """`check` may refuse facts; Ray has so many looks to find a place for it."""
        self.number = number
        self.keeper = keeper
        self._round_deadline_seconds = round_deadline_seconds
        self._check = check
        self._started_at = started_at
        self._patience_looks = patience_looks
        self._placed: Placed | None = None
        self._target: RemoteTarget | None = None
        self._num_failed_starts = 0
        keeper.watch(lambda: self._target is not None and not self._target.is_lost())

    @property
    def name(self) -> str:
        """With where it is now."""
        name = worker_name(self.number)
        return name if self._placed is None else f"{name} at {_address(self._placed)}"

    @property
    def process_id(self) -> int | None:
        """Of the process that was told of last."""
        return None if self._placed is None else self._placed.process_id

    def reach(self, lost: RemoteTarget | None = None) -> RemoteTarget:
        """See `WorkerSource.reach`; Ray places it anew where its actor is gone."""
        lost_process_id = None if lost is None else lost.facts.process_id
        is_stuck = lost is not None and lost.is_stuck
        num_looks, loading = 0, None
        while not self.keeper.is_closing.is_set():
            answer = self.keeper.place(Wanted(self.number, lost_process_id, is_stuck))
            if isinstance(answer, NotPlaced):
                num_looks += 1
                if num_looks >= self._patience_looks:
                    raise LinkLost(f"{worker_name(self.number)}: {answer.sentence}")
            else:
                self._placed = answer
                if loading not in (None, answer.process_id):
                    self._num_failed_starts += 1
                    name = worker_name(self.number)
                    raise LinkLost(ended_early(name, None, self._num_failed_starts))
                loading = answer.process_id
                target = self._connect(answer)
                if target is not None:
                    return target
            self.keeper.is_closing.wait(PAUSE_SECONDS)
        raise LinkLost("the verifier ends")

    def close(self) -> None:
        """The verifier ends: the keeper, which all of them share, does."""
        if self._target is not None:
            self._target.close("the verifier ends")
        self.keeper.close()

    def _connect(self, placed: Placed) -> RemoteTarget | None:
        secret = self.keeper.worker_secret
        known = secret, self._round_deadline_seconds, self._started_at, self._check

        def is_loading() -> bool:
            keeper = self.keeper
            return not keeper.is_closing.is_set() and keeper.place(Wanted(self.number)) == placed

        try:
            target = connect(_address(placed), *known, is_loading)
        except LinkLost:
            return None  # the keeper says why
        self._num_failed_starts = 0
        self._target = target
        return target


def _address(placed: Placed) -> WorkerAddress:
    return WorkerAddress(placed.host, placed.port)
