"""`make audit` fails where something is vulnerable, and where nothing was looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "audit"
FINE = {"name": "msgspec", "version": "0.22", "vulns": []}
UNKNOWN = {"name": "aiohttp", "skip_reason": "not found"}
OWN = {"name": "goodspeed", "skip_reason": "editable"}
FAULT = {"id": "CVE-2026-22815", "fix_versions": ["3.13.4"]}
VULNERABLE = {"name": "aiohttp", "version": "3.13.3", "vulns": [FAULT]}


def test_where_the_database_is_out_of_reach_the_audit_says_so_and_fails() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT], input="", capture_output=True, text=True, check=False
    )
    assert (1, "") == (done.returncode, done.stderr)
    assert "the database of known faults is out of reach" in done.stdout


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ([FINE, OWN], 0, "1 packages looked at, 0 vulnerable"),
        ([FINE, VULNERABLE], 1, "aiohttp 3.13.3: CVE-2026-22815, mended in 3.13.4"),
        ([FINE, UNKNOWN], 1, "1 packages were not looked at: aiohttp"),
        ([OWN], 1, "0 packages looked at"),
    ],
)
def test_an_audit_says_what_it_found(
    dependencies: list[dict[str, Any]], code: int, said: str
) -> None:
    report = json.dumps({"dependencies": dependencies})
    done = subprocess.run(
        [sys.executable, SCRIPT], input=report, capture_output=True, text=True, check=False
    )
    assert (code, "") == (done.returncode, done.stderr)
    assert said in done.stdout
