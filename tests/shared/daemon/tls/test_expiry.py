"""The log says every day that a certificate is about to expire, in virtual time."""

from __future__ import annotations

import asyncio
import logging

import pytest

from shared.daemon.tls.certificate import Certificate
from shared.daemon.tls.expiry import DAY_SECONDS, watch_expiry


class Enough(Exception):
    pass


def warnings_of(
    certificate: Certificate | None, num_days: int, log: pytest.LogCaptureFixture
) -> list[str]:
    """What is said in so many days from the first of January 1970 on."""
    today = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal today
        today += seconds
        if today >= num_days * DAY_SECONDS:
            raise Enough

    with log.at_level(logging.WARNING), pytest.raises(Enough):
        asyncio.run(watch_expiry(lambda: certificate, clock=lambda: today, sleep=sleep))
    return log.messages


def test_it_warns_every_day_of_the_last_three_weeks(caplog: pytest.LogCaptureFixture) -> None:
    lasting = Certificate("own.crt", (), 0.0, 30 * DAY_SECONDS, "")
    said = warnings_of(lasting, 32, caplog)
    assert 22 == len(said)
    assert "own.crt: the certificate expires in 20 days, on 1970-01-31" == said[0]
    assert "own.crt: the certificate has expired on 1970-01-31" == said[-1]


def test_without_a_certificate_there_is_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    assert [] == warnings_of(None, 400, caplog)
