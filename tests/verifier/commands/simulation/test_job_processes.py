"""Jobs in several processes: their order, and their errors.

In a program of its own: Python keeps a process beside one that has had others.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from verifier.commands.simulation.job_processes import in_processes
print(list(in_processes(abs, [-3, 1, -2, 5])))
try:
    list(in_processes(float, ["1.5", "nothing"]))
except ValueError as error:
    print(error)
"""


def test_outcomes_come_in_the_order_of_the_jobs_and_a_failure_is_heard_of() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    outcomes, error = done.stdout.splitlines()
    assert "[3, 1, 2, 5]" == outcomes
    assert "could not convert string to float: 'nothing'" == error
