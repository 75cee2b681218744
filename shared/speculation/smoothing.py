"""Exponential smoothing of what is measured again and again."""

from __future__ import annotations


def smoothed(before: float | None, sample: float, smoothing: float) -> float:
    """The estimate after another sample, which moves it by `smoothing` of the way; first: all."""
    return sample if before is None else before + smoothing * (sample - before)
