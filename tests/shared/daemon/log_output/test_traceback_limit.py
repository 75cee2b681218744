from __future__ import annotations

import logging

from shared.daemon.log_output.traceback_limit import TracebackLimit


def failed(error: Exception, line: int = 1) -> logging.LogRecord:
    told = (type(error), error, None)
    return logging.LogRecord("x", logging.ERROR, "file.py", line, "it %s", ("failed",), told)


def test_a_bug_that_many_bring_about_is_one_traceback_a_minute() -> None:
    now = 100.0
    limit = TracebackLimit(clock=lambda: now)
    passed = [limit.filter(failed(ValueError(str(i)))) for i in range(1000)]
    assert [True] + [False] * 999 == passed
    assert limit.filter(failed(TypeError()))
    assert limit.filter(failed(ValueError(), line=2))
    now = 161.0
    again = failed(ValueError())
    assert limit.filter(again)
    assert "it failed (and 999 more like it before)" == again.getMessage()


def test_a_record_without_a_traceback_passes() -> None:
    limit = TracebackLimit()
    record = logging.LogRecord("x", logging.ERROR, "file.py", 1, "busy", (), None)
    assert all(limit.filter(record) for _ in range(10))
