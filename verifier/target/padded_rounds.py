"""To how many tokens rounds are padded where each number of them has a CUDA graph of its own.

A graph takes a tenth of a second to make, so there are few; but above 128 tokens every token takes
time. The cost curve has to know both sides of every step. This module must never see a GPU.
"""

from __future__ import annotations

# Tokens from which rounds are padded to multiples of so many. With Qwen3-14B's shape on an H100 a
# round of 144 tokens takes 4 % less as one of 160 than as one of 192.
_STEPS = ((128, 32), (256, 64))
_STEPS_FROM = _STEPS[0][0]
MOST_PADDED_TOKENS = 1024  # longer rounds hold prompts: launches hide behind their products


def padded_tokens(num_tokens: int) -> int:
    """How many tokens a round of so many is padded to."""
    if num_tokens <= _STEPS_FROM:
        return padded_number(num_tokens)
    step = max(step for above, step in _STEPS if num_tokens > above)
    return -(-num_tokens // step) * step


def padded_number(number: int) -> int:
    """The next of 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, …: at most a third is padding."""
    if number <= 2:
        return number
    power = 1 << (number - 1).bit_length()
    return power * 3 // 4 if number <= power * 3 // 4 else power


def padded_sizes() -> list[int]:
    """All numbers that rounds are padded to, in order."""
    return sorted({padded_tokens(number) for number in range(1, MOST_PADDED_TOKENS + 1)})


def stepped_sizes() -> list[int]:
    """Those above which every step counts: a line between powers of two is off by a quarter."""
    return [size for size in padded_sizes() if size >= _STEPS_FROM]
