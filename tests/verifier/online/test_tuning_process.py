"""A tuning job in a process of its own: what came of it, a fault, or an end."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.ends.waiting import eventually
from verifier.drafts.tuning_job import TunedText, TuningJob, TuningResult, pack_job, unpack_job
from verifier.online.tuning_process import run_tuning


def job(directory: Path) -> TuningJob:
    texts = (TunedText((1, 2), (3, 4), is_greedy=True),)
    none = directory / "none.gguf"
    return TuningJob(none, none, directory / "out.gguf", directory / "replay", texts, seconds=1.0)


def test_a_job_goes_through_a_pipe_as_it_is(tmp_path: Path) -> None:
    assert job(tmp_path) == unpack_job(pack_job(job(tmp_path)))


def test_the_real_program_says_what_is_wrong(tmp_path: Path) -> None:
    result = asyncio.run(run_tuning(job(tmp_path)))
    assert TuningResult(fault=f"there is no {tmp_path / 'none.gguf'}") == result


def test_a_program_that_dies_is_a_fault(tmp_path: Path) -> None:
    result = asyncio.run(run_tuning(job(tmp_path), "verifier.no_such_program"))
    assert TuningResult(fault="its process ended with code 1") == result


def test_a_program_that_hangs_ends_with_the_verifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled, it is gone; it runs at the lowest priority and is the first to go."""
    hanging = tmp_path / "hanging_program.py"
    hanging.write_text(
        "import os, time\n"
        "from verifier.finetune.tuning_program import _step_back\n"
        "_step_back()\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}} {{os.nice(0)}}')\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    async def scenario() -> tuple[int, int]:
        running = asyncio.create_task(run_tuning(job(tmp_path), "hanging_program"))
        told = tmp_path / "pid"
        await eventually(lambda: told.exists() and " " in told.read_text())
        number, nice = map(int, told.read_text().split())
        running.cancel()
        await asyncio.wait([running])
        return number, nice

    number, nice = asyncio.run(scenario())
    assert 19 == nice
    with pytest.raises(ProcessLookupError):
        os.kill(number, signal.SIG_DFL)
