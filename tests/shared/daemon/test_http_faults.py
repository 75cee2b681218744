"""What strangers send is no error of ours; all else is."""

from __future__ import annotations

import logging

import pytest
from aiohttp import HttpVersion11, web
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from shared.daemon.http_faults import gives_an_address, is_our_error


@pytest.mark.parametrize(("code", "is_ours"), [(400, False), (413, False), (500, True)])
def test_what_strangers_send_is_no_error_of_ours(code: int, is_ours: bool) -> None:
    class HttpError(Exception):
        def __init__(self) -> None:
            self.code = code

    error = HttpError()
    record = logging.LogRecord("h", logging.ERROR, "", 1, "m", None, (HttpError, error, None))
    assert is_ours is is_our_error(record)


def test_who_is_gone_before_the_answer_is_no_error_of_ours() -> None:
    exc_info = (ConnectionResetError, ConnectionResetError(), None)
    assert not is_our_error(logging.LogRecord("h", logging.ERROR, "", 1, "m", None, exc_info))


def test_a_body_that_is_not_what_its_headers_say_is_no_error_of_ours() -> None:
    exc_info = (web.RequestPayloadError, web.RequestPayloadError(), None)
    assert not is_our_error(logging.LogRecord("h", logging.ERROR, "", 1, "m", None, exc_info))


def test_any_other_record_is_kept() -> None:
    for exc_info in (None, (ZeroDivisionError, ZeroDivisionError(), None)):
        assert is_our_error(logging.LogRecord("h", logging.ERROR, "", 1, "m", None, exc_info))


def test_a_request_without_an_address_asks_for_one_that_is_nowhere() -> None:
    made: list[object] = []
    make = gives_an_address(lambda message, *_: made.append(message))  # type: ignore[arg-type, func-returns-value]
    message = RawRequestMessage(
        "GET",
        "",
        HttpVersion11,
        CIMultiDictProxy(CIMultiDict()),
        (),
        False,
        None,
        False,
        False,
        None,  # type: ignore[arg-type]
    )
    make(message)
    make(message._replace(url=URL("/healthz")))
    assert ["/\0", "/healthz"] == [one.url.path for one in made]  # type: ignore[attr-defined]
