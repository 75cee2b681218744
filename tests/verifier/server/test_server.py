"""The verifier's port: who gets in, what people see, how it starts and stops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.daemon.http_server import listen
from shared.protocol.messages import Error, ErrorCode
from shared.protocol.transport import VOCABULARY_PATH
from shared.protocol.vocabulary import unpack_vocabulary
from tests.support.ends.limits import make_device_limits
from tests.support.ends.loopback import Verifier, make_server, running_verifier
from tests.support.ends.raw_board import DEVICE_PATH, raw_board
from tests.support.ends.scripted import scripted_service
from tests.support.ends.waiting import eventually
from verifier.server.device_tokens import new_token, parse_tokens
from verifier.server.operator_pages import OperatorAccess, OperatorPage
from verifier.server.server import MAX_CONNECTIONS_PER_DEVICE
from verifier.web.assets import STATE_PATH

DEVICES = ("kitchen", "garage")


@asynccontextmanager
async def serving(
    devices: Sequence[str] = DEVICES, max_connections: int = 100, **options: Any
) -> AsyncIterator[Verifier]:
    service = scripted_service()
    made = {device: new_token(device, bytes(range(32))) for device in devices}
    known = dict(line.split() for _, line in made.values())
    server = make_server(service, known, max_connections=max_connections, **options)
    try:
        sockets = listen("127.0.0.1", 0)
        await server.start(sockets)
        port = sockets[0].getsockname()[1]
        yield Verifier(service, server, port, {name: token for name, (token, _) in made.items()})
    finally:
        await server.stop()


async def get(verifier: Verifier, path: str, **headers: str) -> tuple[int, str, Any]:
    """Status, text and headers of an answer."""
    url = f"http://127.0.0.1:{verifier.port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers


def test_health_names_target_devices_and_streams() -> None:
    async def health() -> list[str]:
        async with running_verifier(scripted_service(), DEVICES) as verifier:
            _, before, _ = await get(verifier, "/healthz")
            async with raw_board(verifier, "kitchen") as board:
                await board.open(max_tokens=4000)
                await eventually(lambda: bool(verifier.service.planner.streams))
                _, during, _ = await get(verifier, "/healthz")
            return [before, during]

    before, during = asyncio.run(health())
    assert '{"status": "ok", "target_model": "scripted", "devices": 0, "streams": 0}' == before
    assert '{"status": "ok", "target_model": "scripted", "devices": 1, "streams": 1}' == during


def test_metrics_are_a_page_that_prometheus_reads() -> None:
    async def page() -> tuple[int, str, Any]:
        async with running_verifier(scripted_service(), DEVICES) as verifier:
            return await get(verifier, "/metrics")

    status, text, headers = asyncio.run(page())
    assert 200 == status
    assert "text/plain; version=0.0.4; charset=utf-8" == headers["Content-Type"]
    names = {family.name for family in text_string_to_metric_families(text)}
    assert "goodspeed_num_requests_running" in names


METRICS_TOKEN = "metrics-of-the-house"
THROUGH_A_PROXY = {"X-Forwarded-For": "203.0.113.9"}


@pytest.mark.parametrize(
    ("access", "headers", "of_nobody", "of_a_board"),
    [
        (OperatorAccess(), {}, 200, 200),
        (OperatorAccess(), THROUGH_A_PROXY, 401, 403),
        (OperatorAccess(), {"Host": "verifier.example"}, 401, 403),
        (OperatorAccess(on_loopback=False), {}, 401, 403),
        (OperatorAccess(token=METRICS_TOKEN), THROUGH_A_PROXY, 401, 403),
    ],
)
def test_metrics_are_for_this_machine_and_who_has_their_token(
    access: OperatorAccess, headers: dict[str, str], of_nobody: int, of_a_board: int
) -> None:
    """Never for a board, which would learn of all others, nor for who comes through a proxy."""

    async def statuses() -> list[int]:
        async with serving(operator_access=access) as verifier:
            tokens = (None, verifier.tokens["kitchen"], METRICS_TOKEN)
            found = []
            for token in tokens:
                bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
                status, text, _ = await get(verifier, "/metrics", **headers, **bearer)
                assert (200 == status) is ("goodspeed_idle_connections" in text)
                found.append(status)
            return found

    of_operator = 200 if access.token else of_nobody
    assert [of_nobody, of_a_board, of_operator] == asyncio.run(statuses())


def test_a_token_of_metrics_opens_no_dashboard_and_one_of_the_dashboard_both() -> None:
    async def statuses() -> dict[str, list[int]]:
        made = {
            role: new_token(role, bytes(range(32)), role)  # type: ignore[arg-type]
            for role in ("metrics", "dashboard")
        }
        lines = "\n".join(line for _, line in made.values())
        access = OperatorAccess(on_loopback=False, roles=parse_tokens(lines, "tokens"))
        found = {}
        async with serving(operator_access=access) as verifier:
            for role, (token, _) in made.items():
                bearer = {"Authorization": f"Bearer {token}"}
                paths = ("/metrics", STATE_PATH, VOCABULARY_PATH)
                found[role] = [(await get(verifier, path, **bearer))[0] for path in paths]
        return found

    expected = {"metrics": [200, 403, 401], "dashboard": [200, 200, 401]}
    assert expected == asyncio.run(statuses())


def test_who_may_not_see_metrics_learns_of_health_alone() -> None:
    async def health() -> str:
        async with serving() as verifier:
            return (await get(verifier, "/healthz", **THROUGH_A_PROXY))[1]

    assert '{"status": "ok"}' == asyncio.run(health())


def compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_page_of_metrics_is_made_beside_the_loop_and_once_for_all_who_ask() -> None:
    async def scenario() -> tuple[set[int], set[bytes]]:
        metrics, threads = scripted_service().metrics, list[int]()

        def page() -> bytes:
            threads.append(threading.get_ident())
            compute(0.05)
            return b"page"

        metrics.page = page  # type: ignore[method-assign]
        shown = OperatorPage(lambda: metrics.page())
        pages = await asyncio.gather(*(shown.read() for _ in range(5)))
        assert 1 == len(threads)
        return {threading.get_ident(), *threads}, set(pages)

    threads, pages = asyncio.run(scenario())
    assert 2 == len(threads)
    assert {b"page"} == pages


def test_a_device_needs_its_token() -> None:
    async def statuses() -> list[int]:
        async with running_verifier(scripted_service(), DEVICES) as verifier:
            token = verifier.tokens["kitchen"]
            answers = [
                await get(verifier, DEVICE_PATH),
                await get(verifier, DEVICE_PATH, Authorization="Bearer no"),
                await get(verifier, DEVICE_PATH, Authorization=token),
                await get(verifier, DEVICE_PATH, Authorization=f"bearer {token}"),
            ]
            assert "this verifier does not know the token\n" == answers[0][1]
            assert "Bearer" == answers[0][2]["WWW-Authenticate"]
            return [status for status, _, _ in answers]

    # The last one is right, but no websocket.
    assert [401, 401, 401, 400] == asyncio.run(statuses())


async def refusal(verifier: Verifier, device: str) -> tuple[int, str | None]:
    headers = {"Authorization": f"Bearer {verifier.tokens[device]}"}
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(verifier.url + DEVICE_PATH, headers=headers)
    assert refused.value.headers is not None
    return refused.value.status, refused.value.headers.get("Retry-After")


def test_beyond_the_connection_limit_boards_are_asked_to_come_back() -> None:
    async def refused_then_welcome() -> tuple[int, str | None]:
        async with serving(max_connections=1) as verifier:
            async with raw_board(verifier, "kitchen"):
                status = await refusal(verifier, "garage")
            await eventually(lambda: not verifier.server._connections)
            async with raw_board(verifier, "garage"):
                return status

    assert (503, "5") == asyncio.run(refused_then_welcome())


def test_one_device_cannot_take_all_connections() -> None:
    async def refused_and_welcome() -> tuple[int, str | None]:
        async with serving() as verifier, AsyncExitStack() as stack:
            for _ in range(MAX_CONNECTIONS_PER_DEVICE):
                await stack.enter_async_context(raw_board(verifier, "kitchen", greets=False))
            status = await refusal(verifier, "kitchen")
            async with raw_board(verifier, "garage"):
                return status

    assert (503, "5") == asyncio.run(refused_and_welcome())


def test_a_connection_that_is_no_websocket_takes_no_place() -> None:
    async def try_twice() -> None:
        async with serving(max_connections=1) as verifier:
            authorization = f"Bearer {verifier.tokens['kitchen']}"
            status, _, _ = await get(verifier, DEVICE_PATH, Authorization=authorization)
            assert 400 == status
            async with raw_board(verifier, "kitchen"):
                pass

    asyncio.run(try_twice())


def test_it_may_stop_as_soon_as_it_has_started_and_twice() -> None:
    async def start_and_stop() -> None:
        service = scripted_service()
        server = make_server(service, {})
        await server.start(listen("127.0.0.1", 0))
        await server.stop()
        await server.stop()

    async def within_a_second() -> None:
        async with asyncio.timeout(1):
            await start_and_stop()

    asyncio.run(within_a_second())


def test_what_ends_the_rounds_reaches_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_the_planner() -> None:
        async with running_verifier(scripted_service(), DEVICES) as verifier:
            waiting = asyncio.create_task(verifier.server.wait())

            def fail(now: float) -> None:
                raise ZeroDivisionError

            monkeypatch.setattr(verifier.service.planner, "start_round", fail)
            verifier.service.wake()
            with pytest.raises(ZeroDivisionError):
                await waiting

    asyncio.run(break_the_planner())


def test_a_board_that_answers_no_ping_is_let_go() -> None:
    async def silence() -> float:
        service = scripted_service()
        token, line = new_token("kitchen", bytes(range(32)))
        server = make_server(service, dict([line.split()]), heartbeat_seconds=0.4)
        sockets = listen("127.0.0.1", 0)
        await server.start(sockets)
        port = sockets[0].getsockname()[1]
        verifier = Verifier(service, server, port, {"kitchen": token})
        try:
            async with raw_board(verifier, "kitchen"):
                started_at = time.monotonic()
                # The board reads nothing, so it does not answer either.
                await eventually(lambda: service.devices["kitchen"].outbox is None)
                return time.monotonic() - started_at
        finally:
            await server.stop()

    assert asyncio.run(silence()) < 3


def test_what_speaks_tls_stays_in_the_verifiers_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def num_doors(**options: Any) -> int:
        return len(make_server(scripted_service(), {}, num_doors=2, **options)._doors.all)

    assert 2 == asyncio.run(num_doors())
    assert [] == caplog.messages
    assert 0 == asyncio.run(num_doors(tls=object()))
    told = "server.doors is for plain text: what speaks TLS stays in one process"
    assert [told] == caplog.messages


# --- the vocabulary -------------------------------------------------------------------------------


def test_the_vocabulary_is_for_devices_and_comes_once() -> None:
    async def answers() -> list[tuple[int, bytes, str]]:
        found = []
        async with (
            running_verifier(scripted_service(), DEVICES) as verifier,
            aiohttp.ClientSession(f"http://127.0.0.1:{verifier.port}") as session,
        ):
            headers = {"Authorization": f"Bearer {verifier.tokens['kitchen']}"}
            for more in ({}, {"If-None-Match": '"other"'}, {"If-None-Match": '"TAG"'}):
                if found:
                    more = {name: value.replace("TAG", found[0][2]) for name, value in more.items()}
                answer = await session.get(VOCABULARY_PATH, headers=headers | more)
                tag = answer.headers.get("ETag", "").strip('"')
                found.append((answer.status, await answer.read(), tag))
            stranger = await session.get(VOCABULARY_PATH)
            found.append((stranger.status, await stranger.read(), ""))
        return found

    first, other, same, stranger = asyncio.run(answers())
    assert (200, first[1]) == first[:2] == other[:2]
    assert 64 == len(unpack_vocabulary(first[1]))
    assert (304, b"") == same[:2]
    assert (401, b"the vocabulary needs a device's token\n") == stranger[:2]


def test_metrics_that_are_asked_for_all_the_time_are_not_made_all_the_time() -> None:
    async def num_made() -> int:
        async with running_verifier(scripted_service(), DEVICES) as verifier:
            metrics = verifier.service.metrics
            made: list[bytes] = []

            def slow_page() -> bytes:
                compute(0.02)  # so it may be shown for 0.4 s
                made.append(b"page")
                return b"page"

            metrics.page = slow_page  # type: ignore[method-assign]
            for _ in range(50):
                assert "page" == (await get(verifier, "/metrics"))[1]
            return len(made)

    started_at = time.monotonic()
    assert asyncio.run(num_made()) <= 1 + (time.monotonic() - started_at) / 0.4


def test_what_a_device_asks_over_http_counts_as_messages_of_it() -> None:
    async def statuses() -> list[int]:
        limits = make_device_limits(messages_per_second=10)
        async with (
            running_verifier(scripted_service(), DEVICES, device_limits=limits) as verifier,
            aiohttp.ClientSession(f"http://127.0.0.1:{verifier.port}") as session,
        ):
            found = []
            for device in (*["kitchen"] * 5, "garage"):
                headers = {"Authorization": f"Bearer {verifier.tokens[device]}"}
                async with session.get("/v1/vocabulary", headers=headers) as answer:
                    found.append(answer.status)
            return found

    assert [200, 200, 503, 503, 503, 200] == asyncio.run(statuses())


# --- other tokens ---------------------------------------------------------------------------------


def test_a_device_whose_token_is_gone_or_another_is_let_go_and_no_other() -> None:
    async def scene() -> tuple[Error, str]:
        async with serving() as verifier:
            known = {name: new_token(name, bytes(range(32)))[1].split()[1] for name in DEVICES}
            async with raw_board(verifier, "kitchen") as kitchen, raw_board(verifier, "garage"):
                await kitchen.open(max_tokens=4000)
                garage_token = {"garage": known["garage"]}
                verifier.server.replace_access(garage_token, OperatorAccess(on_loopback=True))
                error = await kitchen.error()
                await kitchen.ended()
                await eventually(lambda: not verifier.service.planner.streams)
                await eventually(lambda: len(verifier.server._connections) == 1)
                _, health, _ = await get(verifier, "/healthz")
            with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
                async with raw_board(verifier, "kitchen"):
                    pass
        return error, health

    error, health = asyncio.run(scene())
    assert Error(ErrorCode.REVOKED, "this device's token was revoked") == error
    assert '"devices": 1, "streams": 0' in health


def test_streams_that_were_kept_for_a_revoked_device_are_given_up() -> None:
    async def scene() -> None:
        async with serving() as verifier:
            async with raw_board(verifier, "kitchen") as board:
                await board.open(max_tokens=4000)
            await eventually(lambda: bool(verifier.service.device("kitchen").kept.next_expiry))
            verifier.server.replace_access({}, OperatorAccess())
            assert verifier.service.device("kitchen").kept.next_expiry is None
            await eventually(lambda: not verifier.service.planner.streams)

    asyncio.run(scene())


def test_metrics_are_open_to_the_token_of_the_latest_reload() -> None:
    async def scene() -> list[int]:
        async with serving(operator_access=OperatorAccess(on_loopback=False)) as verifier:
            before, _, _ = await get(verifier, "/metrics", Authorization="Bearer new")
            verifier.server.replace_access({}, OperatorAccess(token="new", on_loopback=False))
            after, _, _ = await get(verifier, "/metrics", Authorization="Bearer new")
            return [before, after]

    assert [401, 200] == asyncio.run(scene())
