"""Texts around wrong drafts, in memory alone: so many tokens, for so long, and by device.

Pure, without a clock. This module must never write a token anywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

import msgspec

from verifier.drafts.tuning_job import MOST_ANSWER_TOKENS, MOST_PROMPT_TOKENS, TunedText

# Tokens around a wrong one that are learned with it.
BEFORE, BEHIND = 2, 6


class _Kept(msgspec.Struct, frozen=True):
    device: str
    at: float
    text: TunedText
    num_wrong: int

    @property
    def num_tokens(self) -> int:
        return len(self.text.prompt_ids) + len(self.text.token_ids)


class TextMemory:
    """The newest texts, as many as fit."""

    def __init__(self, most_tokens: int, seconds: float) -> None:
        self._most_tokens = most_tokens
        self._seconds = seconds
        self._kept: deque[_Kept] = deque()
        self.num_tokens = 0
        """Of all texts, what is read before them included."""
        self.num_wrong = 0
        """Positions where drafts were wrong, in all texts."""
        self.num_noted = 0
        """The same of all time: what is forgotten counts, too."""

    def __len__(self) -> int:
        return len(self._kept)

    def add(
        self,
        device: str,
        prompt_ids: Sequence[int],
        output_ids: Sequence[int],
        wrong: Collection[int],
        now: float,
        *,
        is_greedy: bool,
    ) -> None:
        """Keep what is around positions of the output where drafts were wrong."""
        if not wrong:
            return
        start = max(0, min(wrong) - BEFORE)
        end = min(len(output_ids), max(wrong) + BEHIND + 1, start + MOST_ANSWER_TOKENS)
        learned = tuple(output_ids[start:end])
        before = (*prompt_ids[-MOST_PROMPT_TOKENS:], *output_ids[:start])[-MOST_PROMPT_TOKENS:]
        num_wrong = sum(start <= position < end for position in wrong)
        if not before or not learned or not num_wrong:
            return
        kept = _Kept(device, now, TunedText(before, learned, is_greedy), num_wrong)
        if kept.num_tokens <= self._most_tokens:
            self._kept.append(kept)
            self._count(kept, 1)
            self.num_noted += num_wrong
            self.forget_old(now)

    def forget_old(self, now: float) -> None:
        """Forget what was kept for too long, and the oldest while there is too much."""
        while self._kept:
            oldest = self._kept[0]
            if now - oldest.at <= self._seconds and self.num_tokens <= self._most_tokens:
                return
            self._count(self._kept.popleft(), -1)

    def forget_devices(self, devices: Collection[str]) -> None:
        """Forget all that came from these."""
        kept, self._kept = self._kept, deque()
        self.num_tokens = self.num_wrong = 0
        for one in kept:
            if one.device not in devices:
                self._kept.append(one)
                self._count(one, 1)

    def texts(self) -> tuple[TunedText, ...]:
        """All, the oldest first; they stay."""
        return tuple(one.text for one in self._kept)

    def _count(self, kept: _Kept, sign: int) -> None:
        self.num_tokens += sign * kept.num_tokens
        self.num_wrong += sign * kept.num_wrong
