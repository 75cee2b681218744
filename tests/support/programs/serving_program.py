"""A program that answers on a port of its own: verifier or agent, the same after every start."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.programs.program import Program


class ServingProgram(Program):
    """A program with health and metrics on a port; `ready` is what its health says in the end.

    `speaks_tls`: SSL_CERT_FILE says by whose certificates.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        port: int,
        ready: Mapping[str, object],
        cores: set[int] | None = None,
        settings: Mapping[str, str] | None = None,
        speaks_tls: bool = False,
    ) -> None:
        super().__init__(name, command, log, cores=cores, settings=settings)
        self.port = port
        self._ready = ready
        self._speaks_tls = speaks_tls

    @property
    def url(self) -> str:
        if self._speaks_tls:
            return f"https://localhost:{self.port}"
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_ready(self) -> bool:
        return self._ready.items() <= (self.health() or {}).items()

    def wait_until_ready(self) -> None:
        """Return when it is ready.

        Raises:
            ProgramFailed: it ended before that, or took too long.
        """
        self.wait_for(lambda: self.is_ready, "was not ready")

    def health(self) -> dict[str, Any] | None:
        """What it says of itself, None while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                said: dict[str, Any] = json.load(answer)
        except OSError:
            return None
        return said

    def metrics_page(self) -> str:
        """Its metrics as Prometheus reads them."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            page: str = answer.read().decode()
        return page

    def metrics(self) -> dict[str, float]:
        """Its metrics by name and labels."""
        lines = self.metrics_page().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}
