"""The agent's settings: every key with its default, its limits and what it is for.

This module must never read a file or an environment variable; `shared.config.sections` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from edge_agent.drafting.settings import LONGEST_NGRAM
from shared.config.addresses import is_loopback, is_near
from shared.config.secrets import TOKEN_PATTERN
from shared.config.sections import LogSection, Section
from shared.config.tls_files import unpaired
from shared.config.words import SECRET, must_be
from shared.protocol.transport import MAX_ROW_ENTRIES

# Case matters in neither, and browsers write them small.
_HOST = r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*"
_ORIGIN = rf"(null|https?://{_HOST}(:\d{{1,5}})?|{_HOST})"


FOUND_BY_MDNS = "mdns"
"""An address that says: look for a verifier on this network."""


class VerifierSection(Section, frozen=True):
    """The verifier that this board drafts for."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^(mdns|wss?://[^\s/?#@]+(/[^\s?#]*)?)\Z",
            extra=must_be("ws:// or wss://, a host and perhaps a port"),
            description="where it listens; ws:// only for this host and private networks; "
            "mdns: look for one at the start (server.advertise), which ca_file or pin must prove",
        ),
    ] = "ws://127.0.0.1:8443"
    token_file: Annotated[
        Path | None,
        Meta(description="file with this device's token, readable by its owner and group only"),
    ] = None
    token: Annotated[
        Annotated[
            str,
            Meta(
                pattern=TOKEN_PATTERN,
                extra=must_be("a token as `goodspeed-verifier token add` prints it, gsd_…")
                | SECRET,
            ),
        ]
        | None,
        Meta(description="the token itself, in place of token_file"),
    ] = None
    ca_file: Annotated[
        Path | None,
        Meta(description="PEM file with the authorities that wss:// trusts; none: the system's"),
    ] = None
    pin: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^sha256//[A-Za-z0-9+/]{43}=\Z",
                extra=must_be("sha256// and the hash of the verifier's public key in base64"),
            ),
        ]
        | None,
        Meta(
            description="the verifier's public key, sha256//…=; without ca_file that alone counts"
        ),
    ] = None
    certificate_file: Annotated[
        Path | None,
        Meta(description="PEM file that this board shows a verifier with client_ca_file"),
    ] = None
    key_file: Annotated[
        Path | None,
        Meta(description="PEM file with its key, readable by its owner and group only"),
    ] = None
    allow_insecure: Annotated[
        bool,
        Meta(description="allow ws:// over public networks: each machine between can read along"),
    ] = False

    def unfit(self) -> Iterator[tuple[str, str]]:
        """A real address, no plain text over public networks, and one token."""
        host = _host(self.url)
        is_found = self.url == FOUND_BY_MDNS
        if is_found and self.ca_file is None and self.pin is None:
            yield (
                "url",
                "an address as long as neither verifier.pin nor verifier.ca_file proves the right "
                "verifier: any machine of the network can claim to be it",
            )
        elif is_found:
            pass
        elif host is None:
            yield "url", "ws:// or wss://, a host and perhaps a port from 1 to 65535"
        elif self.url.startswith("ws:") and not self.allow_insecure and not is_near(host):
            yield (
                "url",
                "wss:// for a host that is not on a private network, unless "
                "verifier.allow_insecure = true",
            )
        if self.token is not None and self.token_file is not None:
            yield "token_file", "left out when verifier.token is set"
        yield from unpaired(self.certificate_file, self.key_file, "verifier")
        if self.url.startswith("ws:"):
            for name in ("ca_file", "pin", "certificate_file"):
                if getattr(self, name) is not None:
                    yield name, "left out as long as verifier.url is ws://"


class DraftSection(Section, frozen=True):
    """The draft model on this board."""

    model: Annotated[
        str,
        Meta(
            description="a name known to `goodspeed-agent model pull`, or a path; "
            "empty: none, n-grams draft alone"
        ),
    ] = "smollm2-135m-instruct"
    threads: Annotated[
        int, Meta(ge=0, le=1024, description="for drafting; 0: one, best where cores are shared")
    ] = 0
    batch_threads: Annotated[
        int, Meta(ge=0, le=1024, description="for reading a prompt; 0: as many as there are cores")
    ] = 0
    context_tokens: Annotated[
        int, Meta(ge=128, le=1 << 20, description="longest prompt and output of one stream")
    ] = 2048
    gpu_layers: Annotated[
        int, Meta(ge=0, le=1024, description="layers on the board's GPU; needs a CUDA build")
    ] = 0
    max_streams: Annotated[int, Meta(ge=1, le=64, description="generations at once")] = 4
    confidence_stop: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1.0,
            description="stop a draft early where the likeliest token is below this; 0: never",
        ),
    ] = 0.0
    ngram_tokens: Annotated[
        int,
        Meta(
            ge=0,
            le=LONGEST_NGRAM,
            description="tokens that must recur to be drafted without the model, at most; 0: off",
        ),
    ] = 4
    assigned_megabytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 20,
            description="room for drafts that the verifier's operator assigns; 0: takes none, "
            "for a model file is as trusted as a program",
        ),
    ] = 0
    row_entries: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_ROW_ENTRIES,
            description="most probabilities sent with a sampled draft token",
        ),
    ] = 32

    def unfit(self) -> Iterator[tuple[str, str]]:
        """Something must draft."""
        if self.ngram_tokens == 1:
            yield "ngram_tokens", f"0, or from 2 to {LONGEST_NGRAM}"
        if not self.model and not self.ngram_tokens:
            yield "model", "a name or a path as long as draft.ngram_tokens is 0"


class ApiSection(Section, frozen=True):
    """The APIs of OpenAI, Anthropic and Ollama, the chat websocket and the page on this board."""

    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port; 0: any that is free")] = 8090
    token_file: Annotated[
        Path | None,
        Meta(description="file with the key that clients must send; none: no key is asked for"),
    ] = None
    certificate_file: Annotated[
        Path | None,
        Meta(description="PEM file: the port speaks TLS and shows this; none: plain text"),
    ] = None
    key_file: Annotated[
        Path | None,
        Meta(description="PEM file with its key, readable by its owner and group only"),
    ] = None
    allowed_origins: Annotated[
        str,
        Meta(
            pattern=rf"^({_ORIGIN}([ ,]+{_ORIGIN})*)?\Z",
            extra=must_be("origins such as https://chat.example, or hosts such as *.local"),
            description="pages of other sites that may use the board, with commas between them: "
            "https://chat.example, or *.local for all pages of hosts there",
        ),
    ] = ""
    allowed_hosts: Annotated[
        str,
        Meta(
            pattern=rf"^({_HOST}([ ,]+{_HOST})*)?\Z",
            extra=must_be("names of hosts, such as board.example or *.local"),
            description="names under which clients may ask for the board, beside this machine's "
            "own; empty: with a key any name",
        ),
    ] = ""
    max_queued_requests: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="requests that wait while the verifier takes no more of this board; 0: "
            "none waits",
        ),
    ] = 64
    queue_timeout: Annotated[
        float,
        Meta(ge=0.0, le=3600.0, description="seconds that a request waits at most"),
    ] = 120.0

    def unfit(self) -> Iterator[tuple[str, str]]:
        """No client on the network gets in without a key."""
        if self.token_file is None and not is_loopback(self.host):
            yield "host", "a loopback address as long as api.token_file is not set"
        yield from unpaired(self.certificate_file, self.key_file, "api")


class AgentConfig(msgspec.Struct, frozen=True):
    """All settings of one agent."""

    verifier: VerifierSection = VerifierSection()
    draft: DraftSection = DraftSection()
    api: ApiSection = ApiSection()
    log: LogSection = LogSection()


def listed(names: str) -> frozenset[str]:
    """The names in a setting that lists them."""
    return frozenset(names.replace(",", " ").split())


def _host(url: str) -> str | None:
    try:
        address = urlsplit(url)
        return address.hostname if address.port != 0 else None
    except ValueError:  # a port or an IPv6 address that is none
        return None
