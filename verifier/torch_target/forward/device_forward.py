"""What a target leaves to its device: the pass of a round through the model, and its sampling.

`loading` chooses the one or the other; above this interface no code asks where it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from torch import Tensor

from verifier.target.round import DraftCheck, ItemOutcome, Round


class Sampled(NamedTuple):
    """What the rows of a round became, one entry for each check."""

    outcomes: list[ItemOutcome]
    seconds: float  # that they took together once the logits were there
    row_seconds: tuple[float, ...] = ()  # for a row of each; empty where all cost about the same


class DeviceForward(Protocol):
    """A model on its device, made fast there, with its cache; `CpuForward` or `GpuForward`.

    All calls come from one thread, inside `on_device` and `torch.inference_mode`.
    """

    @property
    def keeps_its_thread(self) -> bool:
        """Whether `logits` takes as long as the forward pass does."""
        ...

    @property
    def cached_layers(self) -> frozenset[int]:
        """Layers whose keys and values have been stored."""
        ...

    def on_device(self) -> AbstractContextManager[object]:
        """Make the device the current one of this thread."""
        ...

    def logits(self, round_: Round) -> Tensor:
        """Read the round's tokens; logits [num_rows, vocab_size], of checks before prompt rows.

        They may be overwritten by the next call, and need not be there yet.
        """
        ...

    def sample(self, logits: Tensor, draft_checks: Sequence[DraftCheck]) -> Sampled:
        """Outcomes of checks whose rows stand one after the other; the logits are spent."""
        ...
