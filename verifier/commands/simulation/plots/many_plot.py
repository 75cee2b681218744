"""The history of many verifiers, drawn with matplotlib (the extra `plot`)."""

from __future__ import annotations

import numpy as np

from verifier.commands.simulation.plots.pictures import panels, written
from verifier.sim.many_verifiers.outcome import ManyOutcome

# Tested tokens of a stream in a round: the least of each band, and its name.
BANDS = ((0, "none"), (1, "1"), (2, "2"), (3, "3 to 4"), (5, "5 to 8"), (9, "9 and more"))


def draw_many(outcome: ManyOutcome, file_format: str) -> bytes:
    """The picture: windows over time, and what came of them."""
    history = outcome.history
    counts = np.array(history.window_counts, dtype=np.float64)
    figure, axes = panels(1, 3, (17, 4.5))
    windows, tokens, busy = axes[0]
    parts = np.add.reduceat(counts, [least for least, _ in BANDS], axis=1)
    parts /= np.maximum(parts.sum(axis=1, keepdims=True), 1.0)
    windows.stackplot(history.seconds, parts.T, labels=[name for _, name in BANDS])
    mean = counts @ np.arange(counts.shape[1]) / np.maximum(counts.sum(axis=1), 1.0)
    means = windows.twinx()
    means.plot(history.seconds, mean, color="black", label="mean")
    means.set(ylabel="tested tokens, mean (black)", ylim=(0.0, None))
    windows.set(ylabel="part of streams' rounds, by tested tokens", ylim=(0.0, 1.0))
    windows.legend(fontsize=7, loc="lower right")
    tokens.plot(history.seconds, history.tokens_per_second)
    tokens.set(ylabel="tokens/s of all devices", ylim=(0.0, None))
    busy.plot(history.seconds, history.utilisation)
    busy.set(ylabel="part of the time in which verifiers run rounds", ylim=(0.0, 1.02))
    for axis in axes[0]:
        axis.set(xlabel="seconds", xlim=(0.0, None))
    return written(figure, file_format)
