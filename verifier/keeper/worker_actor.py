"""What Ray places: it has a worker's GPUs, and the worker's process is its child.

No round comes here. The process is one of its own, so that nothing of Ray's threads is beside the
target, and serves on where Ray is gone; all GPUs of a worker are those of one actor, which Ray
places on one host.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from verifier.workers.kept_process import WorkerProcess
from verifier.workers.on_ray.messages import Placed
from verifier.workers.orders import WorkerOrder

_LOOK_SECONDS = 0.5


class WorkerActor:
    """Called by the keeper; one call at a time."""

    def __init__(self, order: WorkerOrder, worker_module: str, host: str | None) -> None:
        """Listens at `host`, or where this node of Ray is; starts nothing yet."""
        if host is None:
            import ray

            host = ray.util.get_node_ip_address()
        command = [sys.executable, "-m", worker_module]
        self._process = WorkerProcess(order, command, os.environ, host)
        self._raylet = os.getppid()
        watch = threading.Thread(target=self._end_after_raylet, name="goodspeed-raylet-watch")
        watch.daemon = True
        watch.start()

    def serve(self, lost_process_id: int | None, *, is_stuck: bool) -> Placed:
        """Where the worker is; its process is started if none runs."""
        process = self._process
        if lost_process_id is not None and lost_process_id == process.process_id:
            if is_stuck:
                process.end()
            else:
                process.see_end()
        process.start()
        host, port = process.address
        assert process.process_id is not None, "it was started"
        return Placed(host, port, process.process_id)

    def _end_after_raylet(self) -> None:
        """Ray knows nothing of this actor any more, and may place another one on its GPUs."""
        while os.getppid() == self._raylet:
            time.sleep(_LOOK_SECONDS)
        self._process.leave()
        os._exit(0)
