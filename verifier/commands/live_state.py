"""What a running verifier says of its devices, asked on this machine as its dashboard asks."""

from __future__ import annotations

import http.client
import ssl

import msgspec

from shared.config.secrets import read_key_file
from shared.errors import GoodspeedError
from verifier.config import VerifierConfig
from verifier.web.assets import STATE_PATH

_ANSWER_SECONDS = 5.0
_ANYWHERE = ("", "0.0.0.0", "::")


class NoState(GoodspeedError):
    """There is no verifier to ask, or it does not tell."""


class LiveDevice(msgspec.Struct, frozen=True):
    """Of the dashboard's state what a list shows."""

    name: str
    is_connected: bool = False
    num_streams: int = 0
    goodput_tokens_per_second: float | None = None
    acceptance: float | None = None
    draft_tokens_per_second: float | None = None
    round_trip_seconds: float | None = None
    idle_sentence: str | None = None
    draft: str = ""
    tried_draft: str | None = None
    tried_ratio: float = 1.0
    tried_pairs: int = 0
    held_drafts: tuple[str, ...] = ()


class LiveWorker(msgspec.Struct, frozen=True):
    """Of the dashboard's state what a list of workers shows."""

    number: int
    name: str
    hardware: str
    state: str
    because: str
    num_streams: int
    num_rounds: int
    round_seconds: float
    num_lost: int
    num_moved_in: int
    num_moved_out: int


class _State(msgspec.Struct):
    devices: list[LiveDevice]
    workers: list[LiveWorker] = []


def read_live_state(config: VerifierConfig) -> dict[str, LiveDevice]:
    """All devices that the running verifier knows, by name.

    Raises:
        NoState: why there is nothing to be had.
    """
    return {device.name: device for device in _read_state(config).devices}


def read_live_workers(config: VerifierConfig) -> list[LiveWorker]:
    """All workers of the running verifier; NoState: why there is nothing to be had."""
    return _read_state(config).workers


def _read_state(config: VerifierConfig) -> _State:
    host, port = config.server.host, config.server.port
    address = "127.0.0.1" if host in _ANYWHERE else host
    headers = {"Host": "localhost"}
    if config.server.metrics_token_file is not None:
        headers["Authorization"] = f"Bearer {read_key_file(config.server.metrics_token_file)}"
    connection = _connection(config, address, port)
    try:
        connection.request("GET", STATE_PATH, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise NoState(f"no verifier answers at {address}:{port} ({reason})") from None
    finally:
        connection.close()
    if answer.status == 503:
        raise NoState("the verifier loads its model")
    if answer.status != 200:
        raise NoState(
            f"the verifier answers {answer.status}: set server.metrics_token_file, or "
            "server.metrics_on_loopback = true"
        )
    return msgspec.json.decode(body, type=_State)


def _connection(config: VerifierConfig, address: str, port: int) -> http.client.HTTPConnection:
    if config.server.certificate_file is None:
        return http.client.HTTPConnection(address, port, timeout=_ANSWER_SECONDS)
    # The very certificate that the settings name; it need not be for the address of loopback.
    context = ssl.create_default_context(cafile=config.server.certificate_file)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return http.client.HTTPSConnection(address, port, timeout=_ANSWER_SECONDS, context=context)
