"""The log as JSON: one object a line, by itself and from a running verifier."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from shared.daemon.log_output.fields import log_fields
from shared.daemon.log_output.json_lines import JsonFormatter
from tests.support.ends.loopback import Verifier, make_server
from tests.support.ends.raw_board import raw_board
from tests.support.ends.scripted import scripted_service
from tests.support.programs.program import Program
from tests.verifier.test_cli import SCRIPTED, run_arguments, with_token


def formatted(message: str, *values: object) -> dict[str, object]:
    record = logging.LogRecord("x.y", logging.WARNING, __file__, 1, message, values, None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_a_line_is_one_object_whatever_the_message_holds() -> None:
    with log_fields(device="kitchen", stream=3):
        line = formatted("drafting with %s", 'a"b\n{"level": "error"}')
    assert "T" in str(line.pop("time"))
    assert {
        "level": "warning",
        "logger": "x.y",
        "message": 'drafting with a"b\\n{"level": "error"}',
        "device": "kitchen",
        "stream": "3",
    } == line


def test_a_traceback_is_in_its_object() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    found = json.loads(JsonFormatter().format(record))
    assert found["traceback"].endswith("ValueError: no")


def test_a_running_verifier_says_which_device_a_line_is_about(tmp_path: Path) -> None:
    file, token = with_token(tmp_path)

    async def visit(port: int) -> None:
        service = scripted_service()
        verifier = Verifier(service, make_server(service, {}), port, {"kitchen": token})
        async with raw_board(verifier, "kitchen"):
            pass

    command = [sys.executable, "-c", SCRIPTED, *run_arguments(file), "--log-format", "json"]
    with Program("verifier", command, tmp_path / "log") as program:
        serving = json.loads(program.line_with("serving"))
        assert "device" not in serving
        asyncio.run(visit(int(serving["message"].split("ws://127.0.0.1:")[1].split()[0])))
        connected = json.loads(program.line_with("connected"))
    assert ("kitchen", "info") == (connected["device"], connected["level"])
