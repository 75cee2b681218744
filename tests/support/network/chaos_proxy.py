"""A TCP proxy between an agent and a verifier that makes bad networks, the same ones for a seed.

`Weather` says what holds now, for each direction; giving the proxy another one changes it for
living connections, too.
By hand: `python -m tests.support.network.chaos_proxy --help`.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import struct
from contextlib import suppress
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET, socket
from types import TracebackType
from typing import Literal, NamedTuple, Self

import click

from tests.support.network.chaos_lane import CALM, CutError, Lane, Weather

CONNECT_SECONDS = 10.0
MAX_PORT = 65535
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Side = Literal["agent", "verifier"]
Direction = Literal["up", "down"]


class Address(NamedTuple):
    """Where to listen (port 0: any free one) or to connect."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def local(port: int) -> Address:
    """A port of this host, for its own processes."""
    return Address("127.0.0.1", port)


ANY_FREE_PORT = local(0)


class ChaosProxy:
    """Listens, forwards and ends within `async with`; changed from its own event loop only."""

    def __init__(
        self,
        target: Address,
        weather: Weather = CALM,
        *,
        listen: Address = ANY_FREE_PORT,
        seed: int = 0,
    ) -> None:
        self.address = listen
        self.num_connections = 0  # made so far
        self.target = target
        self._up = self._down = weather
        self._seed = seed
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._task_group = asyncio.TaskGroup()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"ws://{self.address}"

    @property
    def num_open(self) -> int:
        """Connections that have not ended in both directions."""
        return len(self._connections)

    @property
    def weather(self) -> Weather:
        """The weather of both directions, which must be the same."""
        assert self._up == self._down, "the directions differ: read `up` or `down`"
        return self._up

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self.up = self.down = weather

    @property
    def up(self) -> Weather:
        """From the agent to the verifier."""
        return self._up

    @up.setter
    def up(self, weather: Weather) -> None:
        self._up = weather
        for connection in self._connections:
            connection.up.change(weather)

    @property
    def down(self) -> Weather:
        """From the verifier to the agent."""
        return self._down

    @down.setter
    def down(self, weather: Weather) -> None:
        self._down = weather
        for connection in self._connections:
            connection.down.change(weather)

    def reset(self, only: Side | None = None) -> None:
        """Reset every open connection, as a router that has forgotten them does.

        With `only` the other side hears nothing of it and talks into the void.
        """
        for connection in self._connections:
            connection.reset(only)

    def lose(self, only: Direction | None = None) -> None:
        """Lose all that the open connections carry from now on, as in half-open weather.

        It is fair for new ones: a router has forgotten these and does not say so.
        """
        for connection in self._connections:
            if only != "down":
                connection.up.lose()
            if only != "up":
                connection.down.lose()

    async def __aenter__(self) -> Self:
        await self._task_group.__aenter__()
        self._server = await asyncio.start_server(self._accept, *self.address)
        self.address = Address(self.address.host, self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await self._task_group.__aexit__(kind, error, trace)

    def _accept(self, near: asyncio.StreamReader, agent: asyncio.StreamWriter) -> None:
        if self._server is not None and not self._server.is_serving():
            reset_transport(agent.transport)
            return
        task = self._task_group.create_task(self._carry(near, agent), name="chaos-connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, near: asyncio.StreamReader, agent: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                far, verifier = await asyncio.open_connection(*self.target)
        except OSError:  # there is no verifier now
            reset_transport(agent.transport)
            return
        except asyncio.CancelledError:
            reset_transport(agent.transport)
            raise
        self.num_connections += 1
        name = f"{self._seed}/{self.num_connections}"
        connection = _Connection(
            up=Lane(near, verifier, self._up, random.Random(f"{name}/up")),
            down=Lane(far, agent, self._down, random.Random(f"{name}/down")),
        )
        self._connections.add(connection)
        try:
            await connection.carry()
        finally:
            self._connections.discard(connection)


@dataclass(eq=False)
class _Connection:
    """Two lanes; lives as long as one of them."""

    up: Lane
    down: Lane

    async def carry(self) -> None:
        try:
            async with asyncio.TaskGroup() as lanes:
                lanes.create_task(self.up.carry(), name="chaos-up")
                lanes.create_task(self.down.carry(), name="chaos-down")
            for writer in (self.up.writer, self.down.writer):
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
        except* CutError:
            pass
        finally:
            self.reset()  # what is not closed by now

    def reset(self, only: Side | None = None) -> None:
        self.up.lose()
        self.down.lose()
        if only != "agent":
            reset_transport(self.up.writer.transport)
        if only != "verifier":
            reset_transport(self.down.writer.transport)


def reset_transport(transport: asyncio.WriteTransport) -> None:
    """End a connection with RST in place of FIN, whatever is on its way."""
    own = transport.get_extra_info("socket")
    if not transport.is_closing():
        with socket(fileno=os.dup(own.fileno())) as same:  # uvloop hides the options of its own
            same.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def _address(_context: click.Context, _option: click.Parameter, value: str) -> Address:
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or int(port) > MAX_PORT:
        raise click.BadParameter(f"{value!r} does not end in a port, as in 192.168.1.10:8443")
    return Address(host, int(port)) if host else local(int(port))


_address_option = functools.partial(
    click.option, required=True, metavar="[HOST:]PORT", callback=_address
)


@click.command()
@_address_option("--listen", help="Where the agent connects to.")
@_address_option("--to", "target", help="The verifier.")
@click.option("--delay-ms", type=click.FloatRange(0), default=0, help="One way, both ways.")
@click.option(
    "--jitter-ms", type=click.FloatRange(0), default=0, help="A random part comes on top."
)
@click.option("--bytes-per-second", type=click.FloatRange(1), help="Each way.  [default: no limit]")
@click.option("--piece-bytes", type=click.IntRange(1), help="At most so many at once: a trickle.")
@click.option("--stall", is_flag=True, help="Connect, but let nothing through.")
@click.option("--half-open", is_flag=True, help="Connect, but lose all bytes, ends and resets.")
@click.option("--cut-after-bytes", type=click.IntRange(0), help="Reset after so many, either way.")
@click.option("--cut-every", type=click.FloatRange(0, min_open=True), help="Reset all: seconds.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same jitter again.")
def main(
    listen: Address,
    target: Address,
    delay_ms: float,
    jitter_ms: float,
    bytes_per_second: float | None,
    piece_bytes: int | None,
    stall: bool,
    half_open: bool,
    cut_after_bytes: int | None,
    cut_every: float | None,
    seed: int,
) -> None:
    """Put a bad network between an agent and a verifier.

    A slow link that breaks every five seconds, in front of a verifier on this machine; then point
    the agent at it with --set verifier.url=ws://127.0.0.1:9000, and stop the proxy with Ctrl-C:

    \b
        python -m tests.support.network.chaos_proxy --listen 9000 --to 127.0.0.1:8443 \\
            --delay-ms 100 --jitter-ms 10 --cut-every 5 --seed 1
    """
    weather = Weather(
        delay_seconds=delay_ms / 1e3,
        jitter_seconds=jitter_ms / 1e3,
        bytes_per_second=bytes_per_second or CALM.bytes_per_second,
        piece_bytes=piece_bytes or CALM.piece_bytes,
        is_stalled=stall,
        is_half_open=half_open,
        cut_after_bytes=CALM.cut_after_bytes if cut_after_bytes is None else cut_after_bytes,
    )
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(ChaosProxy(target, weather, listen=listen, seed=seed), cut_every))


async def _serve(proxy: ChaosProxy, cut_every_seconds: float | None) -> None:
    async with proxy:
        click.echo(f"{proxy.url} leads to {proxy.target}")
        while True:
            await asyncio.sleep(cut_every_seconds or 3600.0)
            if cut_every_seconds is not None:
                click.echo(f"cutting {proxy.num_open} connections")
                proxy.reset()


if __name__ == "__main__":
    main()
