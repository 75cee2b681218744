"""The verifier's settings: every key with its default, its limits and what it is for.

Defaults stand here alone. What a setting may be where that is a few words (a policy, a precision)
is the business of the wing that knows what they mean. This module must never read a file or an
environment variable; `shared.config.sections` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared.config.sections import LogSection, Section
from shared.config.tls_files import unpaired
from shared.config.words import must_be
from verifier.drafts.settings import DraftsSection, OnlineSection
from verifier.rounds.settings import MAX_STREAM_TOKENS, RoundsSection
from verifier.target.precision import GenerationDefaults, Precision, Quantisation
from verifier.workers.settings import WorkersSection


class ServerSection(Section, frozen=True):
    """The port that boards connect to."""

    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="port; 0: any that is free")] = 8443
    tokens_file: Annotated[
        Path,
        Meta(description="devices and the hashes of their tokens; `goodspeed-verifier token add`"),
    ] = Path("/etc/goodspeed/credentials/tokens")
    certificate_file: Annotated[
        Path | None,
        Meta(description="PEM file: the port speaks TLS and shows this; none: plain text"),
    ] = None
    key_file: Annotated[
        Path | None,
        Meta(description="PEM file with its key, readable by its owner and group only"),
    ] = None
    client_ca_file: Annotated[
        Path | None,
        Meta(description="mutual TLS: PEM file with the authorities of all clients' certificates"),
    ] = None
    metrics_token_file: Annotated[
        Path | None,
        Meta(
            description="file with the token of /metrics and /dashboard; none: no token opens them"
        ),
    ] = None
    metrics_on_loopback: Annotated[
        bool,
        Meta(
            description="show /metrics and /dashboard to programs on this machine, but to no proxy"
        ),
    ] = True
    advertise: Annotated[
        bool,
        Meta(description="tell the network by mDNS that a verifier is here; boards' init finds it"),
    ] = False
    heartbeat_seconds: Annotated[
        float,
        Meta(
            ge=1.0,
            le=600.0,
            description="silence after which a board is pinged; no answer for half of it: lost",
        ),
    ] = 10.0
    stranger_requests_per_second: Annotated[
        float,
        Meta(
            ge=0.1,
            le=1e6,
            description="without a token, from one address (all together 10 times); more wait",
        ),
    ] = 20.0
    max_connections: Annotated[
        int, Meta(ge=1, le=100_000, description="open connections, boards and others")
    ] = 256
    doors: Annotated[
        int,
        Meta(
            ge=0,
            le=64,
            description="processes for boards' websockets, beside the verifier's; not with TLS",
        ),
    ] = 0

    def unfit(self) -> Iterator[tuple[str, str]]:
        """TLS takes a certificate and its key."""
        yield from unpaired(self.certificate_file, self.key_file, "server")
        if self.client_ca_file is not None and self.certificate_file is None:
            yield "client_ca_file", "left out as long as server.certificate_file is not set"


class TargetSection(Section, frozen=True):
    """The target model, whose text comes out."""

    model: Annotated[
        str,
        Meta(min_length=1, description="a known name, a GGUF file or a safetensors directory"),
    ] = "smollm2-135m-instruct"
    chat_template: Annotated[
        str,
        Meta(description="a Jinja file, or the name of one that the model brings; empty: its own"),
    ] = ""
    chat_template_kwargs: Annotated[
        Mapping[str, Any],
        Meta(description="arguments for it, such as { enable_thinking = false }; clients' win"),
    ] = {}
    device: Annotated[
        str,
        Meta(
            pattern=r"^(auto|cpu|cuda(:[0-9]{1,2})?)\Z",
            extra=must_be("auto, cpu, cuda or cuda:N"),
            description="where it runs: auto, cpu, cuda or cuda:N",
        ),
    ] = "auto"
    dtype: Annotated[
        Precision,
        Meta(description="auto: 16 bits on a GPU, bfloat16 if it can; float32 on a CPU: exact"),
    ] = "auto"
    quantisation: Annotated[
        Quantisation,
        Meta(description="linear layers in int8, fp8 or int4: less memory; text is that model's"),
    ] = "none"
    batch_invariant: Annotated[
        bool,
        Meta(description="on a GPU: no text depends on what else is in a round; slower"),
    ] = False
    generation_defaults: Annotated[
        GenerationDefaults,
        Meta(description="where a request is silent, sample as the model says: model, or none"),
    ] = "model"
    threads: Annotated[int, Meta(ge=0, le=1024, description="on a CPU; 0: torch chooses")] = 0
    context_tokens: Annotated[
        int,
        Meta(ge=128, le=MAX_STREAM_TOKENS, description="longest prompt and output of one stream"),
    ] = 2048
    kv_cache_tokens: Annotated[
        Annotated[int, Meta(ge=128, le=1 << 30)] | Literal["auto"],
        Meta(
            description="key/value cache of all streams; auto: what a GPU has free; 16384 on a CPU"
        ),
    ] = "auto"
    memory_fraction: Annotated[
        float,
        Meta(
            ge=0.1,
            le=1.0,
            description="on a GPU, the part that auto takes of what weights and a round leave free",
        ),
    ] = 0.9
    block_tokens: Annotated[
        int, Meta(ge=1, le=1024, description="tokens in one block of the key/value cache")
    ] = 16

    def unfit(self) -> Iterator[tuple[str, str]]:
        """One stream must fit into the cache."""
        if self.kv_cache_tokens != "auto" and self.kv_cache_tokens < self.context_tokens:
            yield "kv_cache_tokens", f"at least target.context_tokens = {self.context_tokens}"


class LimitsSection(Section, frozen=True):
    """What one device may consume."""

    # Messages and bytes are beyond what an honest board can say. One with 64 streams and rounds of
    # 5 ms gets 64 × 200 = 12,800 verdicts a second and answers each with a Draft; half as many
    # again are left for `Ready`, second Drafts, `Cancel` and `Open`. With four tokens of 64 row
    # entries a Draft has 1.3 kB, and so many of them 16 MiB. A Draft takes 20 µs of the event loop
    # (2 cores, 2026-11): a board at the limit takes 40 % of a core, and never more than one
    # message's time at once.

    max_streams_per_device: Annotated[
        int, Meta(ge=1, le=4096, description="generations at once")
    ] = 8
    max_context_tokens_per_device: Annotated[
        Annotated[int, Meta(ge=1)] | Literal["auto"],
        Meta(description="what its streams may come to; auto: what each of them may, in sum"),
    ] = "auto"
    max_messages_per_second: Annotated[
        int,
        Meta(
            ge=10,
            le=10_000_000,
            description="from one device; the default is beyond 64 streams in rounds of 5 ms",
        ),
    ] = 20_000
    max_bytes_per_second: Annotated[
        int,
        Meta(ge=1024, le=1 << 40, description="from one device, with all frames and headers"),
    ] = 16 << 20
    max_prompt_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_STREAM_TOKENS)] | Literal["auto"],
        Meta(description="longest prompt; auto: what leaves room for a token of output"),
    ] = "auto"
    max_tokens: Annotated[
        int,
        Meta(
            ge=1, le=MAX_STREAM_TOKENS, description="longest output, within target.context_tokens"
        ),
    ] = 4096
    grace_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            le=86_400.0,
            description="how long the streams of a lost board are kept for it; 0: not at all",
        ),
    ] = 120.0


class StateSection(Section, frozen=True):
    """What is kept from one start to the next."""

    directory: Annotated[
        Path | None,
        Meta(
            description="where the cost curve, the registry of drafts and what is set for devices "
            "are kept; none: measured at every start, no registry"
        ),
    ] = None


class VerifierConfig(msgspec.Struct, frozen=True):
    """All settings of one verifier."""

    server: ServerSection = ServerSection()
    target: TargetSection = TargetSection()
    rounds: RoundsSection = RoundsSection()
    limits: LimitsSection = LimitsSection()
    drafts: DraftsSection = DraftsSection()
    workers: WorkersSection = WorkersSection()
    online: OnlineSection = OnlineSection()
    state: StateSection = StateSection()
    log: LogSection = LogSection()
