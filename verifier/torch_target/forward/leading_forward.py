"""The forward pass of rank 0, which gives each round to the other ranks before it does its part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from torch import Tensor

from verifier.target.round import DraftCheck, Round
from verifier.target.target import DeviceLost
from verifier.torch_target.forward.device_forward import DeviceForward, Sampled


class LeadingForward:
    """Implements `DeviceForward` over that of one rank.

    After a pass that failed here the others may wait within it for ever, so no round can follow.
    """

    def __init__(self, own: DeviceForward, tell: Callable[[Round], None]) -> None:
        self._own = own
        self._tell = tell

    @property
    def keeps_its_thread(self) -> bool:
        return self._own.keeps_its_thread

    @property
    def cached_layers(self) -> frozenset[int]:
        return self._own.cached_layers

    def on_device(self) -> AbstractContextManager[object]:
        return self._own.on_device()

    def logits(self, round_: Round) -> Tensor:
        """See `DeviceForward`.

        Raises:
            DeviceLost: a rank is lost, or this one failed.
        """
        try:
            self._tell(round_)
            return self._own.logits(round_)
        except Exception as error:
            raise DeviceLost(f"a rank of the target failed: {error}") from error

    def sample(self, logits: Tensor, draft_checks: Sequence[DraftCheck]) -> Sampled:
        return self._own.sample(logits, draft_checks)
