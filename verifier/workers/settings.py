"""What an operator sets about targets in other processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from shared.config.sections import Section
from shared.config.words import must_be

MOST_RANKS = 8  # GPUs of one worker, which are all on one host


class WorkersSection(Section, frozen=True):
    """Targets in other processes, here or on other hosts; none: the verifier has its own."""

    local: Annotated[
        int,
        Meta(ge=0, le=64, description="processes on this machine, each with a GPU; 0: none"),
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
        tuple[Annotated[str, Meta(pattern=r"^\[?[A-Za-z0-9:.-]+\]?:[0-9]{1,5}\Z")], ...],
        Meta(
            max_length=64,
            extra=must_be("a list of host:port"),
            description="host:port of workers that run by themselves (`goodspeed-verifier worker`)",
        ),
    ] = ()
    secret_file: Annotated[
        Path | None,
        Meta(description="file with the key that a verifier and such workers prove to each other"),
    ] = None
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

    @property
    def has_any(self) -> bool:
        """Whether the target runs in other processes."""
        return bool(self.local or self.addresses)
