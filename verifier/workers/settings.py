"""What an operator sets about targets in other processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from shared.config.sections import Section
from shared.config.words import must_be

ADDRESS_PATTERN = r"^\[?[A-Za-z0-9:.-]+\]?:[0-9]{1,5}\Z"
ON_RAY = "ray"  # where a worker joins that has no address of its own
RAY_PATTERN = r"^(|local|\[?[A-Za-z0-9:.-]+\]?:[0-9]{1,5})\Z"
MOST_WORKERS = 64
MOST_RANKS = 8  # GPUs of one worker, which are all on one host


class WorkersSection(Section, frozen=True):
    """Targets in other processes, here or on other hosts; none: the verifier has its own."""

    local: Annotated[
        int,
        Meta(
            ge=0, le=MOST_WORKERS, description="processes on this machine, each with a GPU; 0: none"
        ),
    ] = 0
    gpus_per_worker: Annotated[
        int,
        Meta(
            ge=1,
            le=MOST_RANKS,
            description="GPUs of each worker, here, over which its model is split",
        ),
    ] = 1
    addresses: Annotated[
        tuple[Annotated[str, Meta(pattern=ADDRESS_PATTERN)], ...],
        Meta(
            max_length=MOST_WORKERS,
            extra=must_be("a list of host:port"),
            description="host:port of workers that run by themselves (`goodspeed-verifier worker`)",
        ),
    ] = ()
    secret_file: Annotated[
        Path | None,
        Meta(description="file with the key that a verifier and such workers prove to each other"),
    ] = None
    ray: Annotated[
        str,
        Meta(
            pattern=RAY_PATTERN,
            extra=must_be('"local", or host:port of Ray\'s head'),
            description="host:port of the Ray that places workers; local: one of this host's own",
        ),
    ] = ""
    on_ray: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_WORKERS,
            description="workers that Ray places, each with gpus_per_worker GPUs",
        ),
    ] = 0
    ray_token_file: Annotated[
        Path | None,
        Meta(description="file with the token that Ray asks for; not for a local one"),
    ] = None
    ray_namespace: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z",
            extra=must_be("letters, digits, dots, lines"),
            description="of the workers there: verifiers with the same one take turns at them",
        ),
    ] = "goodspeed"
    host: Annotated[
        str, Meta(min_length=1, description="where `goodspeed-verifier worker` listens")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="its port; 0: any that is free")] = 8444
    round_deadline_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=600.0,
            description="a round that takes so long, and 10 times what it should: lost",
        ),
    ] = 2.0

    def unfit(self) -> Iterator[tuple[str, str]]:
        """A port on a network is opened by the secret alone."""
        if self.addresses and self.secret_file is None:
            yield "secret_file", "set where workers.addresses are"
        if self.on_ray and not self.ray:
            yield "ray", "set where workers.on_ray is"
        if self.is_on_other_hosts and self.secret_file is None:
            yield "secret_file", "set where workers.ray is not local"
        if self.is_on_other_hosts and self.ray_token_file is None:
            yield "ray_token_file", "set where workers.ray is not local: it lets in who has it"

    @property
    def is_on_other_hosts(self) -> bool:
        """Whether Ray runs by itself, and workers outlive this verifier there."""
        return self.ray not in ("", "local")

    @property
    def has_any(self) -> bool:
        """Whether the target runs in other processes."""
        return bool(self.local or self.on_ray or self.addresses)

    @property
    def count(self) -> int:
        """All of them, in the order of their numbers: local ones, those on Ray, addresses."""
        return self.local + self.on_ray + len(self.addresses)
