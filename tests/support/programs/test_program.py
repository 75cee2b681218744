from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.programs.program import Program, ProgramFailed

# Says where it stands, then goes on until a signal ends it.
STAYS = "import signal, sys; print('here', file=sys.stderr, flush=True); signal.pause()"
IS_DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + STAYS


def python(
    directory: Path, script: str, output: Path | None = None, cores: set[int] | None = None
) -> Program:
    command = [sys.executable, "-c", script]
    return Program("it", command, directory / "log", output=output, cores=cores)


def test_it_runs_while_the_block_does(tmp_path: Path) -> None:
    with python(tmp_path, STAYS) as program:
        assert "here" == program.line_with("he")
        assert (True, None) == (program.is_running, program.exit_code)
        os.kill(program.process_id, 0)
    assert (False, -signal.SIGTERM) == (program.is_running, program.exit_code)


def test_before_its_start_it_has_neither_an_end_nor_lines(tmp_path: Path) -> None:
    program = python(tmp_path, STAYS)
    assert (False, None, []) == (program.is_running, program.exit_code, program.lines)
    program.check_running()
    program.stop()


def test_each_start_appends_to_the_same_log(tmp_path: Path) -> None:
    program = python(tmp_path, STAYS)
    for _ in range(2):
        program.start()
        program.line_with("here")
        program.kill()
    assert ["here", "here"] == program.lines


def test_an_end_by_itself_is_told_with_the_last_lines(tmp_path: Path) -> None:
    script = "import sys; sys.exit('\\n'.join(map(str, range(20))))"
    program = python(tmp_path, script)
    program.start()
    with pytest.raises(ProgramFailed) as failure:
        program.line_with("never")
    assert "it ended with exit code 1" == str(failure.value)
    assert tuple(map(str, range(5, 20))) == failure.value.log_lines


def test_a_line_that_comes_just_before_the_end_is_read(tmp_path: Path) -> None:
    with python(tmp_path, "import sys; sys.exit('gone')") as program:
        assert "gone" == program.line_with("gone")


def test_an_end_by_a_signal_is_told_by_its_name(tmp_path: Path) -> None:
    with python(tmp_path, STAYS) as program:
        program.line_with("here")
        program.check_running()
        program.kill()
        with pytest.raises(ProgramFailed, match="it ended by SIGKILL"):
            program.check_running()


def test_one_that_does_not_do_what_is_waited_for_is_told(tmp_path: Path) -> None:
    with (
        python(tmp_path, STAYS) as program,
        pytest.raises(ProgramFailed, match=r"was not ready within 0\.1 s"),
    ):
        program.wait_for(lambda: False, "was not ready", seconds=0.1)


def test_one_that_does_not_end_when_asked_is_killed_and_that_is_told(tmp_path: Path) -> None:
    program = python(tmp_path, IS_DEAF)
    program.start()
    program.line_with("here")
    with pytest.raises(ProgramFailed, match=r"within 0\.1 s and was killed"):
        program.stop(seconds=0.1)
    assert -signal.SIGKILL == program.exit_code


def test_a_stopped_process_can_be_asked_to_end(tmp_path: Path) -> None:
    with python(tmp_path, STAYS) as program:
        program.line_with("here")
        program.send(signal.SIGSTOP)
    assert -signal.SIGTERM == program.exit_code


def test_standard_output_goes_where_it_is_wanted(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with python(tmp_path, "print('said')", output=output) as program:
        program.wait_for(lambda: not program.is_running, "went on")
    assert ("said\n", []) == (output.read_text(), program.lines)


def test_it_runs_on_the_cores_that_it_is_given(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    with python(tmp_path, STAYS, cores={core}) as program:
        program.line_with("here")
        assert {core} == os.sched_getaffinity(program.process_id)


def test_it_stands_apart_from_ctrl_c_and_can_yield(tmp_path: Path) -> None:
    with python(tmp_path, STAYS) as program:
        program.line_with("here")
        assert program.process_id == os.getpgid(program.process_id)
        program.lower_priority(3)
        assert 3 == os.getpriority(os.PRIO_PROCESS, program.process_id)
