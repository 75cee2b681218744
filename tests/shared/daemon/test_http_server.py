"""Sockets that take connections before anybody serves them."""

from __future__ import annotations

import asyncio
import select
import socket
import subprocess
import sys
from collections.abc import Sequence

import aiohttp
import pytest

from shared.daemon.http_server import bearer_token, listen, start_listening, take_port
from tests.support.ends.loopback import make_server
from tests.support.ends.scripted import scripted_service
from tests.support.ends.waiting import eventually
from tests.support.programs.command import run


def has_callers(sockets: Sequence[socket.socket]) -> bool:
    """Whether the kernel holds a connection that the program has not taken yet."""
    return bool(select.select(sockets, (), (), 0)[0])


def test_who_connects_before_the_verifier_serves_is_served_when_it_does() -> None:
    async def ask_too_early() -> int:
        sockets = listen("127.0.0.1", 0)
        port = sockets[0].getsockname()[1]
        async with aiohttp.ClientSession() as http:
            asking = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/healthz"))
            await eventually(lambda: has_callers(sockets))
            assert not asking.done()
            server = make_server(scripted_service(), {})
            await server.start(sockets)
            try:
                async with await asking as reply:
                    return reply.status
            finally:
                await server.stop()

    assert 200 == asyncio.run(ask_too_early())


# What a service manager does: the socket is descriptor 3 of a process that it names.
_SERVES_WHAT_IT_INHERITED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + int(sys.argv[2]))}
from shared.daemon.http_server import inherited_sockets
(listening,) = inherited_sockets(os.environ)
assert not listening.get_inheritable()
connection, _ = listening.accept()
connection.sendall(b"served")
"""


@pytest.mark.parametrize("stranger", [0, 1])
def test_a_port_that_the_service_manager_holds_is_served(stranger: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        number = held.fileno()
        command = [sys.executable, "-c", _SERVES_WHAT_IT_INHERITED, str(number), str(stranger)]
        with (
            subprocess.Popen(command, pass_fds=[number], stderr=subprocess.DEVNULL) as program,
            socket.create_connection(held.getsockname()) as caller,
        ):
            caller.settimeout(30)
            is_served = not stranger
            assert is_served == (program.wait(30) == 0)
            assert not is_served or b"served" == caller.recv(100)


def test_what_is_handed_over_must_be_sockets() -> None:
    script = """
import os
from shared.daemon.http_server import inherited_sockets
from shared.errors import ConfigError
try:
    inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
except ConfigError as error:
    print(error)
"""
    code, output, errors = run(["-c", script])
    assert (0, "") == (code, errors)
    assert output.startswith("environment LISTEN_FDS = 1: not all of them are sockets; ")


def test_an_address_in_use_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"Address already in use.*{port}"):
            listen("127.0.0.1", port)


def test_who_has_a_port_is_found_by_a_command_that_the_error_names() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="Address already in use") as caught:
            listen("127.0.0.1", port)
    named = f"Address already in use: 127.0.0.1, port {port}; `ss -ltnp` shows which program has it"
    assert named == caught.value.strerror


def test_clients_are_refused_at_a_port_that_is_only_taken() -> None:
    (taken,) = take_port("127.0.0.1", 0)
    with taken:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(taken.getsockname())
        start_listening([taken])
        socket.create_connection(taken.getsockname()).close()


def test_of_two_programs_that_took_a_port_the_second_is_told_when_it_would_listen() -> None:
    (first,) = take_port("127.0.0.1", 0)
    (second,) = take_port("127.0.0.1", first.getsockname()[1])
    with first, second:
        start_listening([first])
        with pytest.raises(OSError, match=r"Address already in use: 127\.0\.0\.1, port"):
            start_listening([second])
        assert -1 == second.fileno()


def test_an_address_of_another_machine_is_an_error_that_says_so() -> None:
    with pytest.raises(OSError, match=r"203\.0\.113\.5, port 0; `ip address` shows those"):
        listen("203.0.113.5", 0)


def test_an_unknown_host_is_an_error_that_names_it() -> None:
    with pytest.raises(OSError, match=r"no-such-host\.invalid: .*not known"):
        listen("no-such-host.invalid", 0)


def test_every_address_of_a_host_is_listened_on() -> None:
    sockets = listen("", 0)
    families = {one.family for one in sockets}
    for one in sockets:
        one.close()
    assert socket.AF_INET in families


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"Authorization": "Bearer secret"}, "secret"),
        ({"Authorization": "bearer  secret "}, "secret"),
        ({"Authorization": "Bearer"}, ""),
        ({"Authorization": "Basic secret"}, None),
        ({"Authorization": "secret"}, None),
        ({}, None),
    ],
)
def test_a_token_comes_as_a_bearer(headers: dict[str, str], token: str | None) -> None:
    assert token == bearer_token(headers)
