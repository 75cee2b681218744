"""A prompt of 131,072 tokens comes into a verifier with 16 streams: the p99 of their rounds.

Over real sockets, with a target that sleeps as long as a round of so many tokens would take and
does nothing else: what shows is what the verifier itself adds, and whether chunks keep to
`rounds.prefill_slowdown_limit` (1.0: rounds may take twice as long; 2.1 times is the aim).
In the rows with look-back a chunk's tokens take 2 ns for each token before it, as on an H100 with
an 8B model; in one of them the cost curve does not know it.
"""

from __future__ import annotations

import asyncio

from tests.support.ends.long_prompt import beside_others, percentile

NUM_TOKENS = 131_072
NUM_STREAMS = 16
PAIR_SECONDS = 2e-9

# Name, whether the prompt is given by ids, what a pair takes, whether the curve knows it.
ROWS = (
    ("chat", False, 0.0, True),
    ("ids", True, 0.0, True),
    ("ids, look-back", True, PAIR_SECONDS, True),
    ("ids, look-back that the curve does not know", True, PAIR_SECONDS, False),
)


def main() -> None:
    """Print a table: how the prompt was given, and the rounds beside it."""
    print("| prompt | rounds | p99 alone ms | p99 beside ms | longest ms | ratio | first token s |")
    print("|---|---|---|---|---|---|---|")
    for name, is_given_by_ids, seconds_per_pair, knows_pairs in ROWS:
        rounds = asyncio.run(
            beside_others(
                NUM_TOKENS,
                NUM_STREAMS,
                seconds_per_pair=seconds_per_pair,
                knows_pairs=knows_pairs,
                is_given_by_ids=is_given_by_ids,
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
