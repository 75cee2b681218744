"""Runs one tuning job in a process of its own, and ends it when it is not wanted any more."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import msgspec

from verifier.drafts.tuning_job import TuningJob, TuningResult, pack_job

PROGRAM = "verifier.finetune.tuning_program"
_MOST_RESULT_BYTES = 1 << 22
# Beside training: to load models, to judge, and once to write texts; on a machine that has other
# things to do.
_SPARE_SECONDS = 3600.0
_TIMES = 8.0


async def run_tuning(job: TuningJob, program: str = PROGRAM) -> TuningResult:
    """What came of the job; a fault is a result, too. Cancelled, the process ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", program),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # libraries may show what they were given
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        packed = pack_job(job)
        process.stdin.write(len(packed).to_bytes(8, "little") + packed)
        async with asyncio.timeout(_SPARE_SECONDS + _TIMES * job.seconds):
            await process.stdin.drain()
            answer = await process.stdout.read(_MOST_RESULT_BYTES)
            while part := await process.stdout.read(_MOST_RESULT_BYTES):
                answer += part
        return msgspec.msgpack.decode(answer, type=TuningResult)
    except TimeoutError:
        return TuningResult(fault="it took too long")
    except (msgspec.MsgspecError, ConnectionError):
        await process.wait()
        return TuningResult(fault=f"its process ended with code {process.returncode}")
    finally:
        process.stdin.close()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
