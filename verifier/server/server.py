"""The verifier's port: boards come in over one websocket each, people look at how it goes.

Shutdown order: no new connections or streams, say GoingAway, finish the round in hand, close; the
doors, through which all that is said, end last.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

from aiohttp import hdrs, web

from shared.daemon.connection_gate import ConnectionGate, GatedConnection, gated_connection_of
from shared.daemon.http_server import (
    HEALTH_PATH,
    HttpServer,
    bearer_token,
    in_hand,
    start_http_server,
)
from shared.daemon.strangers import STRANGER_LIMITS, StrangerLimits
from shared.daemon.tls.server_tls import ServerTls
from shared.errors import RemoteProtocolError
from shared.protocol.messages import ErrorCode
from shared.protocol.token_question import TOKENS_PATH
from shared.protocol.transport import DEVICE_PATH, VOCABULARY_PATH
from shared.web.served_page import BINDING_HEADERS, add_page
from verifier.doors.doors import Doors
from verifier.engine.device import Device
from verifier.engine.service import VerifierService
from verifier.server.connection import FAREWELL_SECONDS
from verifier.server.device_limits import CONNECTION_COST, DeviceLimits, DeviceUsage
from verifier.server.device_tokens import device_of
from verifier.server.drafts.draft_pages import DraftPages
from verifier.server.drafts.draft_shelf import DraftShelf
from verifier.server.gauges.door_gauges import DoorGauges
from verifier.server.gauges.planner_gauges import PortGauges
from verifier.server.loop_shares import LoopShares
from verifier.server.operator_pages import (
    DASHBOARD_REUSE,
    DASHBOARD_SECONDS,
    ON_LOOPBACK,
    OperatorAccess,
    OperatorPage,
    Page,
)
from verifier.server.sockets.entrance import Entrance
from verifier.server.tokenizer_answers import QUESTION_COST, TokenizerAnswers
from verifier.web.assets import STATE_PATH, read_assets
from verifier.web.state_reading import encode_state

logger = logging.getLogger(__name__)

# Told to boards when the verifier stops; a restart with a loaded page cache takes about as long.
RETRY_AFTER_SECONDS = 2.0
# Told to boards that found every place taken.
FULL_RETRY_AFTER_SECONDS = 5
# A board needs one; a few more may still be half open when it comes back.
MAX_CONNECTIONS_PER_DEVICE = 4
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class VerifierServer:
    """Serves one VerifierService on one port."""

    def __init__(
        self,
        service: VerifierService,
        tokens: Mapping[str, str],
        *,
        heartbeat_seconds: float,
        max_connections: int,
        device_limits: DeviceLimits,
        operator_access: OperatorAccess = ON_LOOPBACK,
        stranger_limits: StrangerLimits | None = STRANGER_LIMITS,
        tls: ServerTls | None = None,
        drafts: DraftShelf | None = None,
        keeps_texts: bool = False,
        num_doors: int = 0,
    ) -> None:
        self._service = service
        self._tokens = tokens
        self._max_connections = max_connections
        self._device_limits = device_limits
        self._usages: dict[str, DeviceUsage] = {}  # by device
        self._loop_shares = LoopShares()
        self._operator_access = operator_access
        self._stranger_limits = stranger_limits
        self._tls = tls
        if num_doors and tls is not None:
            logger.warning("server.doors is for plain text: what speaks TLS stays in one process")
        self._doors = Doors(0 if tls is not None else num_doors, service.precedence.postpones)
        self._entrance = Entrance(
            service,
            self._doors,
            self._loop_shares,
            self._drafts_changed,
            heartbeat_seconds=heartbeat_seconds,
            keeps_texts=keeps_texts,
        )
        self._connections = self._entrance.connections
        self._draft_pages = DraftPages(drafts, service, self._charge_device)
        self.assigned_drafts = self._draft_pages.assigned
        self._metrics_page = OperatorPage(lambda: service.metrics.page())
        self._dashboard = OperatorPage(
            lambda: encode_state(service, time.monotonic()),
            reuse=DASHBOARD_REUSE,
            least_seconds=DASHBOARD_SECONDS,
        )
        self._tokenizer_answers = TokenizerAnswers(service.tokenizer)
        self._http: HttpServer | None = None
        self._rounds: asyncio.Task[None] | None = None
        self._assigning: asyncio.Task[NoReturn] | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve connections to listening sockets, which `stop` closes; start doors and rounds.

        Raises:
            LinkLost: a door does not serve.
        """
        await self._doors.start()
        self._service.delivered = self._doors.flush
        app = web.Application(client_max_size=64 * 1024, middlewares=[in_hand()])
        app.router.add_get(HEALTH_PATH, self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get(STATE_PATH, self._dashboard_state)
        add_page(app.router, read_assets())
        app.router.add_get(VOCABULARY_PATH, self._vocabulary)
        app.router.add_post(TOKENS_PATH, self._token_ids)
        self._draft_pages.add_to(app.router)
        app.router.add_get(DEVICE_PATH, self._device)
        self._http = await start_http_server(
            app,
            sockets,
            logger=logging.getLogger("verifier.http"),
            # As many as there may be boards: all of them may come back at once.
            max_idle_connections=self._max_connections,
            shutdown_seconds=FAREWELL_SECONDS,
            stranger_limits=self._stranger_limits,
            tls=None if self._tls is None else self._tls.context,
        )
        self._service.metrics.watch(
            PortGauges(self.gate, self._usages, self._loop_shares, lambda: self._expires_at)
        )
        if self._doors.all:
            self._service.metrics.watch(DoorGauges(self._doors))
        self._rounds = asyncio.create_task(self._service.run(), name="rounds")
        if self.assigned_drafts is not None:
            self._assigning = asyncio.create_task(self.assigned_drafts.run(), name="drafts")

    @property
    def gate(self) -> ConnectionGate:
        """What every connection comes through, once the server is started."""
        assert self._http is not None
        return self._http.gate

    def replace_access(self, tokens: Mapping[str, str], access: OperatorAccess) -> None:
        """Other tokens hold from now on; a device whose own is not among them is let go."""
        before, self._tokens, self._operator_access = self._tokens, tokens, access
        for connection, name in tuple(self._connections.items()):
            if tokens.get(name) != before.get(name):
                connection.revoke()
        for name in before:
            if tokens.get(name) != before[name] and name in self._service.devices:
                self._service.discard_kept(self._service.device(name))

    def replace_limits(self, limits: DeviceLimits) -> None:
        """Devices may consume so much from now on; what they have used stays used."""
        self._device_limits = limits
        now = asyncio.get_running_loop().time()
        for usage in self._usages.values():
            usage.replace_limits(limits, now)

    def replace_tls(self, tls: ServerTls) -> None:
        """Show another certificate from now on; connections that are open stay."""
        assert self._http is not None
        self._tls = tls
        self._http.replace_tls(tls.context)

    @property
    def _expires_at(self) -> float | None:
        return None if self._tls is None else self._tls.certificate.not_after

    async def wait(self) -> None:
        """Wait until the engine loop ends, and raise what ended it."""
        assert self._rounds is not None
        tasks = [self._rounds] if self._assigning is None else [self._rounds, self._assigning]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def stop(self) -> None:
        """Say goodbye to every board and close; safe to call after a failed start."""
        if self._http is None:
            await self._doors.stop()
            return
        self._http.stop_listening()
        if self._assigning is not None:
            self._assigning.cancel()
            await asyncio.wait([self._assigning])
        if self._rounds is not None:
            rounds, self._rounds = self._rounds, None
            for connection in self._connections:
                connection.going_away(RETRY_AFTER_SECONDS)
            self._service.stop()
            await asyncio.wait([rounds])
        for connection in self._connections:
            connection.close()  # each gives its board FAREWELL_SECONDS
        await self._http.stop()
        await self._doors.stop()

    async def _health(self, request: web.Request) -> web.Response:
        """All learn that it is well; how much there is to do, those who see metrics."""
        health: dict[str, str | int] = {"status": "ok"}
        if self._is_operator(request, "metrics"):
            health["target_model"] = self._service.target.model_name
            health["devices"] = len(self._connections)
            health["streams"] = sum([len(planner.streams) for planner in self._service.planners])
        return web.json_response(health)

    async def _metrics(self, request: web.Request) -> web.Response:
        self._check_operator(request, "metrics")
        return web.Response(
            body=await self._metrics_page.read(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _dashboard_state(self, request: web.Request) -> web.Response:
        self._check_operator(request, "dashboard")
        body, headers = (
            await self._dashboard.read(),
            {**BINDING_HEADERS, "Cache-Control": "no-store"},
        )
        if any(known.value == self._dashboard.tag for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        answer = web.Response(body=body, content_type="application/json", headers=headers)
        answer.etag = self._dashboard.tag
        return answer

    async def _vocabulary(self, request: web.Request) -> web.Response:
        """For boards without a model."""
        self._charge_device(request, "the vocabulary needs")
        return await self._tokenizer_answers.vocabulary(request)

    async def _token_ids(self, request: web.Request) -> web.Response:
        """For boards whose clients ask."""
        name = self._charge_device(request, "tokens need", QUESTION_COST)
        return await self._tokenizer_answers.tokens(request, self._service.device(name))

    async def _device(self, request: web.Request) -> web.StreamResponse:
        name = self._authenticate(request)
        if name is None:
            self._service.metrics.rejected("token")
            raise web.HTTPUnauthorized(
                text="this verifier does not know the token\n", headers=_CHALLENGE
            )
        if hdrs.SEC_WEBSOCKET_PROTOCOL in request.headers:  # the server would log each of them
            raise web.HTTPBadRequest(text="boards speak no subprotocol\n")
        self._check_room(name)
        self._charge(name)
        return await self._entrance.serve(request, name, self._usage(name))

    def _drafts_changed(self, device: Device) -> None:
        if self.assigned_drafts is not None:
            self.assigned_drafts.follow(device)

    def _usage(self, name: str) -> DeviceUsage:
        if name not in self._usages:
            now = asyncio.get_running_loop().time()
            self._usages[name] = DeviceUsage(self._device_limits, now)
        return self._usages[name]

    def _check_room(self, name: str) -> None:
        num_of_device = sum(device == name for device in self._connections.values())
        if num_of_device >= MAX_CONNECTIONS_PER_DEVICE:
            self._turn_away(f"device {name} has {num_of_device} connections open already")
        if len(self._connections) >= self._max_connections:
            self._turn_away(f"{self._max_connections} connections are open already")

    def _charge_device(
        self, request: web.Request, what_needs: str, cost: int = CONNECTION_COST
    ) -> str:
        """The device that asks, for only a device may; each request counts as messages of it."""
        name = self._authenticate(request)
        if name is None:
            raise web.HTTPUnauthorized(text=f"{what_needs} a device's token\n", headers=_CHALLENGE)
        self._charge(name, cost)
        return name

    def _charge(self, name: str, cost: int = CONNECTION_COST) -> None:
        """A request of a device costs it as much as many messages."""
        try:
            self._usage(name).take_messages(cost, asyncio.get_running_loop().time())
        except RemoteProtocolError as error:
            self._turn_away(f"device {name} sent {error}")

    def _turn_away(self, sentence: str) -> NoReturn:
        self._service.metrics.rejected(ErrorCode.LIMIT)
        raise web.HTTPServiceUnavailable(
            text=f"{sentence}\n", headers={"Retry-After": str(FULL_RETRY_AFTER_SECONDS)}
        )

    def _check_operator(self, request: web.Request, page: Page) -> None:
        if self._is_operator(request, page):
            return
        if page == "dashboard" and self._is_operator(request, "metrics"):
            raise web.HTTPForbidden(text="this token is for /metrics alone\n")
        if self._authenticate(request) is not None:
            raise web.HTTPForbidden(text="metrics are of all devices, not for one of them\n")
        raise web.HTTPUnauthorized(text="metrics need the operator's token\n", headers=_CHALLENGE)

    def _is_operator(self, request: web.Request, page: Page) -> bool:
        is_operator = self._operator_access.is_open_to(request.remote, request.headers, page)
        if is_operator:
            _connection_of(request).welcome()
        return is_operator

    def _authenticate(self, request: web.Request) -> str | None:
        """The device that the bearer token belongs to; it is welcome, who shows another is not."""
        token = bearer_token(request.headers)
        if token is None:
            return None
        device = device_of(token, self._tokens)
        if device is None:
            _connection_of(request).mistrust()
        else:
            _connection_of(request).welcome()
        return device


def _connection_of(request: web.Request) -> GatedConnection:
    connection = gated_connection_of(request.transport)
    if connection is None:
        raise ConnectionResetError("the connection ended before its answer")
    return connection
