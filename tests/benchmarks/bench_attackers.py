"""What an honest board notices of attackers: `python -m tests.benchmarks.bench_attackers`.

Each attacker alone, then every two at once, two of a kind too, at a verifier process of their own
with the settings of the program and a scripted target of 20 ms a round. The board has two streams
without drafts, one greedy and one sampled, whose texts are known. A row is the 99th percentile of
the time between two verdicts of a stream and its ratio to that with nobody there, measured a few
rows before: once as the board sees it, once less what the threads of verifier and board waited for
a core meanwhile.
Attackers are nicer processes, but on few cores they still delay a verifier that is ready
to run, as any other program there does; that is not the verifier's doing, and the second ratio
leaves it out. It is a lower bound, for threads may wait at the same time, or while nothing waits
for them, as the first one is an upper bound. A row with a question mark was measured on a machine
that was too busy to tell. Then comes what the verifier itself counts of the board's rounds without
a prompt of its own, again 99th percentiles: their tokens, in milliseconds what the target should
take for what is in them, as a ratio to the same with nobody there, what it took, and what planning,
settling and other callbacks of the loop added; and each device's part of that loop. What the target
should take depends on no other program.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Sequence

from tests.system.attackers.attacker import ATTACKERS
from tests.system.attackers.honest_board import LOWEST_PRIORITY, Noticed, beside
from tests.system.attackers.verifier import RoundTimes
from verifier.rounds.settings import RoundsSection

ALONE_EVERY = 6  # rows
MOST_SLOWER = 1.25
NUM_TRIES = 4


def row(names: Sequence[str], alone: Noticed, noticed: Noticed) -> str:
    mark = " " if own_ratio(alone, noticed) <= MOST_SLOWER else "*"
    if not (alone.is_clear and noticed.is_clear):
        mark = "?"
    text = "equal" if not noticed.num_wrong else f"{noticed.num_wrong} wrong"
    return (
        f"{' + '.join(names) or 'nobody':<40} {noticed.slow_milliseconds:>7.1f} "
        f"{noticed.slow_milliseconds / alone.slow_milliseconds:>6.2f} "
        f"{noticed.own_milliseconds:>8.1f} {own_ratio(alone, noticed):>6.2f}{mark} "
        f"{len(noticed.seconds):>6} {noticed.num_ended:>6} {noticed.num_texts:>6} {text:<7}"
        f"{where(alone.times, noticed.times)}"
    )


def where(alone: RoundTimes | None, times: RoundTimes | None) -> str:
    """Where the time of the verifier's slow rounds went."""
    if times is None or alone is None:
        return ""
    loop = " ".join(f"{name} {part:.1%}" for name, part in times.loop_parts.items())
    parts = times.target, times.plan, times.settle, times.others
    asked = f"{times.num_tokens:>4.0f} {times.asked:>5.1f} {times.asked / alone.asked:>5.2f}"
    return f" {asked} {' '.join(f'{part:5.1f}' for part in parts)}  {loop}"


def own_ratio(alone: Noticed, noticed: Noticed) -> float:
    return noticed.own_milliseconds / alone.own_milliseconds


async def clearly(
    names: Sequence[str], seconds: float, device_prefill_slowdown_limit: float, niceness: int
) -> Noticed:
    """Once more, a few times at most, where the machine was too busy to tell."""
    for _ in range(NUM_TRIES):
        noticed = await beside(names, seconds, device_prefill_slowdown_limit, niceness)
        if noticed.is_clear:
            break
    return noticed


async def measure(
    rows: Sequence[Sequence[str]],
    seconds: float,
    device_prefill_slowdown_limit: float,
    niceness: int,
) -> None:
    """Print a row for each group of attackers."""
    head = f"{'attackers':<40} {'p99 ms':>7} {'ratio':>6} {'own p99':>8} {'ratio':>7} {'gaps':>6} "
    head += f"{'ended':>6} {'texts':>6} {'text':<7}  num should ratio  took plan settle other; loop"
    print(head)
    num_slower = num_harmed = num_unclear = 0
    for number, names in enumerate(rows):
        if number % ALONE_EVERY == 0:
            alone = await clearly((), seconds, device_prefill_slowdown_limit, niceness)
            print(row((), alone, alone), flush=True)
        noticed = await clearly(names, seconds, device_prefill_slowdown_limit, niceness)
        print(row(names, alone, noticed), flush=True)
        is_clear = alone.is_clear and noticed.is_clear
        num_unclear += not is_clear
        num_slower += is_clear and own_ratio(alone, noticed) > MOST_SLOWER
        num_harmed += bool(noticed.num_ended or noticed.num_wrong)
    print(
        f"{len(rows)} rows: {num_slower} above {MOST_SLOWER}, {num_unclear} unclear, "
        f"{num_harmed} with a stream ended or a text changed"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row")
    parser.add_argument("--only", nargs="*", default=[], help="one row of these attackers")
    parser.add_argument("--among", nargs="*", default=[], help="every two of these attackers")
    parser.add_argument("--alone", action="store_true", help="no pairs")
    parser.add_argument(
        "--device-prefill-slowdown-limit",
        type=float,
        default=RoundsSection().device_prefill_slowdown_limit,
        help="by how much prompts of a device may lengthen rounds: the setting",
    )
    parser.add_argument(
        "--niceness",
        type=int,
        default=LOWEST_PRIORITY,
        help="of the attackers, beyond that of this program; on a busy machine nice ones do little",
    )
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = [(name,) for name in ATTACKERS]
    if not options.alone:
        rows += itertools.combinations_with_replacement(ATTACKERS, 2)
    if options.among:
        rows = list(itertools.combinations_with_replacement(options.among, 2))
    if options.only:
        rows = [tuple(options.only)]
    limit = options.device_prefill_slowdown_limit
    asyncio.run(measure(rows, options.seconds, limit, options.niceness))


if __name__ == "__main__":
    main()
