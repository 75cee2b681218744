"""A worker that runs by itself, here or on another host: reached by its address.

Its own unit keeps it; it outlives this verifier and serves the next one with its weights loaded.
"""

from __future__ import annotations

from collections.abc import Callable

from verifier.target.round import Round
from verifier.workers.remote_target import RemoteTarget, WorkerAddress, connect


class DistantWorker:
    """Implements `verifier.engine.worker.WorkerSource`."""

    def __init__(
        self,
        address: WorkerAddress,
        secret: str,
        round_deadline_seconds: Callable[[Round], float],
        check: Callable[[RemoteTarget], None] = lambda target: None,
        started_at: int = 0,
    ) -> None:
        """`check` may refuse its facts; the verifier was started at so many ms since 1970."""
        self.name = str(address)
        self._address = address
        self._secret = secret
        self._round_deadline_seconds = round_deadline_seconds
        self._check = check
        self._started_at = started_at

    def reach(self, lost: RemoteTarget | None = None) -> RemoteTarget:
        """See `WorkerSource.reach`."""
        known = self._secret, self._round_deadline_seconds, self._started_at, self._check
        return connect(self._address, *known)

    def close(self) -> None:
        """The worker stays."""
