"""Whether a file of 4 bits may go out: beside the best one of 8 bits that is known it must hold.

That is the better of the same weights in 8 bits and, where a draft was there, of that. All are
judged on the same held-out texts; nothing that was not judged is let out. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shared.protocol.held_out_texts import JudgedMode
from verifier.finetune.recipe.recipe import FileWeights

ALLOWED_LOSS = 0.02  # of acceptance, in any mode
_NO_TEXT = "no held-out text says what 4 bits lose: written in 8 bits"


class TwinFiles(msgspec.Struct, frozen=True):
    """Acceptance of both files by mode; empty where nothing was judged."""

    four_bits: Mapping[JudgedMode, float]
    eight_bits: Mapping[JudgedMode, float]

    @property
    def loss(self) -> float | None:
        """The most that 4 bits lose in any mode; None: it is not known."""
        losses = [self.eight_bits[mode] - self.four_bits[mode] for mode in self.four_bits]
        return max(losses, default=None)

    @property
    def weights(self) -> FileWeights:
        """Of the file that may go out."""
        return "Q4_0" if self.loss is not None and self.loss <= ALLOWED_LOSS else "Q8_0"

    def __str__(self) -> str:
        if self.loss is None:
            return _NO_TEXT
        beside = ", ".join(
            f"{mode} {self.four_bits[mode]:.3f} / {self.eight_bits[mode]:.3f}"
            for mode in self.four_bits
        )
        verdict = f"4 bits lose {max(0.0, self.loss):.3f} at most, of {ALLOWED_LOSS} allowed"
        if self.weights != "Q4_0":
            verdict += ": written in 8 bits"
        return f"held out, 4 bits / 8 bits: {beside}; {verdict}"
