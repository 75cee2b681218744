"""What was played of a grid of fleets (`simulate_grid`), kept as it ends."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

import msgspec

from tests.benchmarks.grid_tables import ALONE, Cell, Found, Played


class Task(NamedTuple):
    """What one process plays at a time."""

    cell: Cell
    arm: str
    fleet: int


def tasks_of(
    cells: Sequence[Cell], arms: Sequence[str], num_fleets: Mapping[int, int]
) -> list[Task]:
    return [
        Task(cell, arm, fleet)
        for cell, arm in itertools.product(cells, arms)
        for fleet in range(num_fleets[cell.num_boards])
    ]


class Results:
    """What was played of each task; kept in a file where there is one."""

    def __init__(self, file: IO[bytes] | None, num_fleets: Mapping[int, int]) -> None:
        """`num_fleets`: in a cell, by boards in a fleet."""
        self._num_fleets = num_fleets
        self._of_task: dict[Task, Played] = {}
        self._file = file
        if file is not None:
            file.seek(0)
            for line in file:
                task, played = msgspec.json.decode(line, type=tuple[Task, Played])
                self._of_task[task] = played

    def holds(self, task: Task) -> bool:
        return task in self._of_task

    def note(self, task: Task, played: Played) -> None:
        self._of_task[task] = played
        if self._file is not None:
            self._file.write(msgspec.json.encode((task, played)) + b"\n")
            self._file.flush()

    def found(self, cells: Sequence[Cell], arms: Sequence[str]) -> Found:
        """Of each cell that was played with all arms: all boards of all fleets."""
        found = {}
        for cell in cells:
            if all(task in self._of_task for task in tasks_of([cell], arms, self._num_fleets)):
                alone = self._all_fleets(cell, ALONE).ratios
                found[cell] = {
                    arm: _over(self._all_fleets(cell, arm), alone) for arm in arms if arm != ALONE
                }
        return found

    def _all_fleets(self, cell: Cell, arm: str) -> Played:
        fleets = [self._of_task[task] for task in tasks_of([cell], [arm], self._num_fleets)]
        columns = zip(*fleets, strict=True)
        return Played(*[list(itertools.chain.from_iterable(column)) for column in columns])


def _over(played: Played, alone: Sequence[float]) -> Played:
    ratios = zip(played.ratios, alone, strict=True)
    return Played([ratio / of_alone for ratio, of_alone in ratios], played.least)
