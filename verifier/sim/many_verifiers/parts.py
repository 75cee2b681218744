"""A world in parts: each process plays some of the verifiers, and hears of the others.

Verifiers meet only at routing. Between slices each part tells what routing asks for, and hands over
the devices whose requests have ended; all parts route all requests, and come to the same. So the
outcome does not hang on how many parts there are. This module must never start a process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from shared.speculation.goodput import IntArray

Array = npt.NDArray[Any]
NewsT = TypeVar("NewsT")


class Part(NamedTuple):
    """Every `num_parts`-th verifier, from `number` on."""

    number: int
    num_parts: int

    def owns(self, num_targets: int) -> npt.NDArray[np.bool_]:
        """Which verifiers it plays [num_targets]."""
        owned: npt.NDArray[np.bool_] = np.arange(num_targets) % self.num_parts == self.number
        return owned


WHOLE = Part(0, 1)


class Exchange(Protocol):
    """Tells all parts, this one too, and hears of all, in the order of their numbers."""

    def __call__(self, news: NewsT) -> Sequence[NewsT]:
        """Every part must call it as often as every other."""
        ...


def alone(news: NewsT) -> Sequence[NewsT]:
    """The exchange of the only part."""
    return [news]


class Rows(NamedTuple):
    """Some entries of arrays that belong together."""

    which: IntArray
    values: Sequence[Array]  # of each array those entries

    @classmethod
    def of(cls, arrays: Sequence[Array], which: IntArray) -> Rows:
        """As they are now."""
        return cls(which, [array[which] for array in arrays])

    def put(self, arrays: Sequence[Array]) -> None:
        """Let another process's arrays hold the same."""
        for array, values in zip(arrays, self.values, strict=True):
            array[self.which] = values


class News(NamedTuple):
    """What a part tells between two slices."""

    devices: Rows  # whose requests have ended at its verifiers
    targets: Rows  # its verifiers
