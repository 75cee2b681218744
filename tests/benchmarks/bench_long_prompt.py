"""A long prompt comes into a verifier with 16 streams: the p99 of their rounds.

Over real sockets, with a target that sleeps as long as a round of so many tokens would take and
does nothing else: what shows is what the verifier itself adds, and whether chunks keep to
their limit: `rounds.prefill_slowdown_limit` (1.0: rounds may take twice as long; 2.1 times is the
aim) where a device may do alone what all may together, and in the last row the default of
`rounds.device_prefill_slowdown_limit` (0.15; 1.25 times is the aim), at which a prompt is read for
longer: there it is a shorter one.
In the rows with look-back a chunk's tokens take 2 ns for each token before it, as on an H100 with
an 8B model; in one of them the cost curve does not know it.
"""

from __future__ import annotations

import asyncio

from tests.support.ends.long_prompt import beside_others, percentile
from verifier.rounds.settings import RoundsSection

NUM_TOKENS, NUM_TOKENS_BY_DEFAULT = 131_072, 16_384
NUM_STREAMS = 16
PAIR_SECONDS = 2e-9

WHOLE = 1.0  # of the limit
DEVICE_LIMIT = RoundsSection().device_prefill_slowdown_limit
# Name and tokens, whether the prompt is given by ids, what a pair takes, whether the curve knows
# it, and by how much the device may lengthen others' rounds.
ROWS = (
    ("chat", NUM_TOKENS, False, 0.0, True, WHOLE),
    ("ids", NUM_TOKENS, True, 0.0, True, WHOLE),
    ("ids, look-back", NUM_TOKENS, True, PAIR_SECONDS, True, WHOLE),
    ("ids, look-back that the curve does not know", NUM_TOKENS, True, PAIR_SECONDS, False, WHOLE),
    ("ids, default limit", NUM_TOKENS_BY_DEFAULT, True, 0.0, True, DEVICE_LIMIT),
)


def main() -> None:
    """Print a table: how the prompt was given, and the rounds beside it."""
    print("| prompt | rounds | p99 alone ms | p99 beside ms | longest ms | ratio | first token s |")
    print("|---|---|---|---|---|---|---|")
    for name, num_tokens, is_given_by_ids, seconds_per_pair, knows_pairs, device_limit in ROWS:
        rounds = asyncio.run(
            beside_others(
                num_tokens,
                NUM_STREAMS,
                seconds_per_pair=seconds_per_pair,
                knows_pairs=knows_pairs,
                is_given_by_ids=is_given_by_ids,
                device_limit=device_limit,
            )
        )
        alone = 1000 * percentile(rounds.seconds_alone, 0.99)
        beside = 1000 * percentile(rounds.seconds_beside, 0.99)
        longest = 1000 * max(rounds.seconds_beside)
        print(
            f"| {name} | {len(rounds.seconds_beside)} | {alone:.1f} | {beside:.1f} | {longest:.1f} "
            f"| {beside / alone:.2f} | {rounds.seconds_to_first_token:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
