"""What a draft is made by: sizes, time, seed, and how rates and losses go along the way.

Pure: no clock, no tensor. With the recipe, the target and the prompts the same kind of draft can
be made again; the recipe stands in the draft's file.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from verifier.finetune.recipe.draft_shape import DraftShape

FileWeights = Literal["Q4_0", "Q8_0"]

# Of the whole time; what the target writes is read some twenty times over.
_TEXTS_SHARE = 0.3
_ASKING_SHARE = 0.03
_EXPORT_SECONDS = 12.0
_WARM_UP = 0.02
_DECAY_AT = 0.6  # part of the training from which on rates fall
# Beside acceptance a little of the whole distribution, which goes on where drafts and target
# hardly overlap (probe of 2026-11-26: 0.1).
_KEPT_KL = 0.1
_ALIGNING_RATE = 4e-4
_LORA_RATE = 1e-3


class LossWeights(msgspec.Struct, frozen=True):
    """How much each part of the loss counts."""

    kl: float
    total_variation: float
    utility: float  # 1: positions count as much as they lengthen rounds; 0: all the same


class Recipe(msgspec.Struct, frozen=True):
    """All that is chosen; times are of the machine that makes the draft."""

    shape: DraftShape
    weights: FileWeights = "Q4_0"
    minutes: float = 10.0
    seed: int = 0
    # In short trainings weights of utility lost 6 to 15 % of a round's tokens in every mode, three
    # seeds, one H100 (`tests.benchmarks.cuda_finetune_utility`, 2026-11-27): off.
    utility: float = 0.0
    matrix_rate: float = 4e-3  # the best of 1.5e-3, 4e-3 and 1e-2 in runs of 40 s (2026-11-26)
    embedding_rate: float = 4e-3
    answer_tokens: int = 256
    prompt_tokens: int = 832
    step_tokens: int = 24_576
    slots: int = 1024
    temperatures: tuple[float, ...] = (0.0, 0.8, 1.0)  # that the target writes at, in turn
    # Half of the target's own questions begin with these in turn: talk that it seldom thinks of.
    begun: tuple[str, ...] = ()
    long_prompts: int = 0  # made of several others each, every time that it writes
    # How often the target writes, each time other texts for the next part of the training: so
    # memory holds only a part of them.
    writings: int = 2
    # Part of the training after which acceptance itself is learned, with the file's rounding.
    aligned_at: float = 0.45
    lora_rank: int = 0  # of what learns beside frozen matrices; 0: all weights learn

    def aligning(self, lora_rank: int) -> Recipe:
        """The recipe for a draft that is there: it has learned distributions already.

        Rates are those of small changes, and acceptance is learned from the start on.
        """
        return msgspec.structs.replace(
            self,
            lora_rank=lora_rank,
            matrix_rate=_LORA_RATE if lora_rank else _ALIGNING_RATE,
            embedding_rate=_ALIGNING_RATE,
            aligned_at=0.0,
        )

    @property
    def asking_seconds(self) -> float:
        """For the target's own questions, each time that it writes."""
        return max(2.0, _ASKING_SHARE * 60 * self.minutes / self.writings)

    @property
    def texts_seconds(self) -> float:
        """For the target's answers, each time that it writes."""
        return _TEXTS_SHARE * 60 * self.minutes / self.writings

    @property
    def context_tokens(self) -> int:
        """Of the longest text."""
        return self.prompt_tokens + self.answer_tokens

    def training_seconds(self, spent_seconds: float) -> float:
        """What is left for training when so much has passed before its first part.

        The file is still to be written, and the texts of its other parts.
        """
        later = (self.writings - 1) * (self.asking_seconds + self.texts_seconds)
        return max(1.0, 60 * self.minutes - spent_seconds - later - _EXPORT_SECONDS)

    def rate(self, fraction: float) -> float:
        """The part of the full learning rates, at a fraction of the training."""
        falling = (1.0 - fraction) / (1.0 - _DECAY_AT)
        return max(0.0, min(1.0, fraction / _WARM_UP, falling))

    def is_aligned(self, fraction: float) -> bool:
        """Whether acceptance itself is trained now, with the file's rounding in the loop."""
        return fraction >= self.aligned_at

    def loss_weights(self, fraction: float) -> LossWeights:
        """First KL(target‖draft) alone, which has a slope everywhere, then acceptance."""
        if not self.is_aligned(fraction):
            return LossWeights(1.0, 0.0, 0.0)
        return LossWeights(_KEPT_KL, 1.0, self.utility)
