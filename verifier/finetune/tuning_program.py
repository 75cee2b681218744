"""The process that tunes a draft beside a running verifier: `python -m` this module.

It reads one job from standard input and writes one result to standard output. It runs when nothing
else wants the processor, is the first to go where memory ends, and ends when its parent does: that
holds standard input open.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from shared.errors import GoodspeedError
from verifier.drafts.tuning_job import TuningJob, TuningResult, unpack_job

_LENGTH_BYTES = 8
_LOWEST_PRIORITY = 19
_FIRST_TO_GO = "1000"


class _Quiet:
    """Implements `verifier.finetune.order.Tell`; what it came to is in the result."""

    def stage(self, title: str) -> None:
        """The verifier's log is for its own."""

    def advance(self, fraction: float) -> None:
        """Likewise."""

    def say(self, sentence: str) -> None:
        """Likewise."""


def main() -> None:
    """Do the job."""
    source = sys.stdin.buffer
    length = int.from_bytes(source.read(_LENGTH_BYTES), "little")
    job = unpack_job(source.read(length))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.buffer.write(msgspec.msgpack.encode(_result_of(job)))
    sys.stdout.flush()
    os._exit(0)  # the thread that waits for the parent would hold the ending up


def _result_of(job: TuningJob) -> TuningResult:
    for path in (job.target, job.draft):
        if not path.is_file():
            return TuningResult(fault=f"there is no {path}")
    _step_back()
    # Torch takes seconds to import: the job is out of the pipe by then.
    from verifier.finetune.tuning import tune

    def worked_seconds() -> float:
        """Time in which it did not wait for the processor, however busy that is."""
        return time.process_time() / job.threads

    try:
        return tune(job, _Quiet(), worked_seconds)
    except (GoodspeedError, OSError, RuntimeError, MemoryError) as error:
        return TuningResult(fault=str(error) or type(error).__name__)


def _step_back() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, _LOWEST_PRIORITY)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
