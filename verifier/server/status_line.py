"""What `systemctl status` shows of a verifier: boards, streams, tokens/s since it was read last."""

from __future__ import annotations

import asyncio

from verifier.engine.service import VerifierService


class StatusLine:
    """Reads the service; tokens/s are those since the time before."""

    def __init__(self, service: VerifierService, now: float) -> None:
        self._service = service
        self._read_at = now
        self._num_tokens = service.metrics.num_output_tokens

    def read(self) -> str:
        """One line, such as `SmolLM2: 3 boards, 5 streams, 212 tokens/s`."""
        service, now = self._service, asyncio.get_running_loop().time()
        num_tokens = service.metrics.num_output_tokens
        speed = (num_tokens - self._num_tokens) / max(now - self._read_at, 1e-3)
        self._read_at, self._num_tokens = now, num_tokens
        num_boards = sum(device.outbox is not None for device in service.devices.values())
        boards = _counted(num_boards, "board")
        streams = _counted(sum(len(planner.streams) for planner in service.planners), "stream")
        return f"{service.target.model_name}: {boards}, {streams}, {speed:.0f} tokens/s"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
