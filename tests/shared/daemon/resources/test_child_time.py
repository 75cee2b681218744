"""The time of children is theirs alone, and grows while they work."""

from __future__ import annotations

import subprocess
import sys
import time

from shared.daemon.resources.child_time import seconds_of_children

_BUSY = "while True: pass"


def test_it_grows_while_a_child_works_and_not_while_it_waits() -> None:
    before = seconds_of_children()
    with subprocess.Popen(["sleep", "60"]) as waiting:
        assert seconds_of_children() - before < 0.2
        waiting.kill()
    with subprocess.Popen([sys.executable, "-c", _BUSY]) as busy:
        deadline = time.monotonic() + 30
        while seconds_of_children() - before < 0.1 and time.monotonic() < deadline:
            time.sleep(0.05)
        grown = seconds_of_children() - before
        busy.kill()
    assert grown >= 0.1
