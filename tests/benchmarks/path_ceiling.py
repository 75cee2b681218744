"""The most that drafting ahead on one path can give one stream: `python -m …path_ceiling`.

A dynamic program over the life of a path finds when each round should start if everything is known
but which token dies: draft tokens arrive one by one, each survives with the same chance, the target
may wait before any round. Its tokens/s are a bound for every verifier and board that follow one
path, whatever their windows and policies; the rival waits for whole drafts of one length. Computed,
not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import click

from verifier.goodput import expected_tokens

STEP_SECONDS = 0.002
LONGEST_WAIT_SECONDS = 0.3
LONGEST_LIFE_SECONDS = 1.2  # few paths live longer
NUM_HALVINGS = 20


@click.command()
@click.option("--round-ms", default=62.0, show_default=True)
@click.option("--draft-token-ms", default=7.4, show_default=True)
@click.option("--round-trip-ms", default=100.0, show_default=True)
@click.option("--rate", "rates", multiple=True, type=float, default=(0.9, 0.935, 0.95))
@click.option("--length", "lengths", multiple=True, type=int, default=(8, 16, 20))
def main(
    round_ms: float,
    draft_token_ms: float,
    round_trip_ms: float,
    rates: tuple[float, ...],
    lengths: tuple[int, ...],
) -> None:
    """Print the bound for each acceptance rate, and its ratio to waiting for drafts."""
    times = (round_ms / 1e3, draft_token_ms / 1e3, round_trip_ms / 1e3)
    heads = [f"waiting for {length}, bound over it" for length in lengths]
    print(f"| acceptance | bound tokens/s | {' | '.join(heads)} |\n|---|---|{'---|' * len(heads)}")
    for rate in rates:
        bound = bound_tokens_per_second(rate, *times)
        rivals = [waiting_tokens_per_second(rate, length, *times) for length in lengths]
        cells = " | ".join(f"{rival:.1f}, {bound / rival:.2f}" for rival in rivals)
        print(f"| {rate} | {bound:.1f} | {cells} |", flush=True)


def waiting_tokens_per_second(
    rate: float, length: int, round_: float, token: float, round_trip: float
) -> float:
    """Of a stream whose rounds wait for a whole draft; all times in seconds."""
    return expected_tokens(rate, length) / (round_trip + length * token + round_)


def bound_tokens_per_second(rate: float, round_: float, token: float, round_trip: float) -> float:
    """The speed at which the best plan of a path's life is worth what its time costs."""
    low, high = 0.0, 1.0 / token
    for _ in range(NUM_HALVINGS):
        speed = (low + high) / 2
        gain = _best_gain(rate, speed, round_, token, round_trip)
        low, high = (speed, high) if gain > 0 else (low, speed)
    return low


def _best_gain(rate: float, speed: float, round_: float, token: float, round_trip: float) -> float:
    """Tokens of a path's life, less what its time would give at `speed`, by the best plan."""

    @cache
    def best(step: int, num_committed: int) -> float:
        """From `step` on: the verdict that began the path is at 0, the path is alive."""
        now = step * STEP_SECONDS
        if now > LONGEST_LIFE_SECONDS:
            return 0.0
        return max(_gains(step, num_committed))

    def _gains(step: int, num_committed: int) -> Iterator[float]:
        for waited in range(int(LONGEST_WAIT_SECONDS / STEP_SECONDS)):
            start = (step + waited) * STEP_SECONDS
            num_drafted = max(int((start - round_trip) / token), 0)
            num_live = max(num_drafted - num_committed, 0)
            end = step + waited + round(round_ / STEP_SECONDS)
            tokens = expected_tokens(rate, num_live)
            # The round's own token must be the path's next one, too.
            alive = rate ** (num_live + 1)
            yield (
                tokens
                - speed * (waited * STEP_SECONDS + round_)
                + alive * best(end, num_committed + num_live + 1)
            )

    return best(0, 0)


if __name__ == "__main__":
    main()
