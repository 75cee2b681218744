"""Training for a time: batches, rates along the way, one CUDA graph for each bucket.

It must never read numbers back more often than it tells of progress.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from verifier.finetune.recipe.recipe import Recipe
from verifier.finetune.training.batches import Batches
from verifier.finetune.training.student import Progress, Student
from verifier.finetune.training.target_logits import TargetLogits

_STEPS_BETWEEN = 8  # two looks at the clock
_WARM_UP_STEPS = 2  # before a graph is captured: libraries choose kernels


@dataclass(frozen=True, slots=True)
class Report:
    """How far training is."""

    fraction: float
    seconds: float
    num_steps: int
    num_positions: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class Watchers:
    """What is called now and then."""

    report: Callable[[Report], None]  # every `report_seconds`
    keep: Callable[[float, int], None]  # checkpoints, with seconds and steps so far
    report_seconds: float
    keep_seconds: float = 120.0


UNWATCHED = Watchers(lambda report: None, lambda seconds, steps: None, math.inf, math.inf)


class TrainingLoop:
    """One student, over the same batches again and again."""

    def __init__(
        self,
        student: Student,
        batches: Batches,
        logits: TargetLogits,
        recipe: Recipe,
        clock: Callable[[], float],
    ) -> None:
        self._student, self._batches, self._logits = student, batches, logits
        self._recipe, self._clock = recipe, clock
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._is_on_gpu = student.model.last_norm.is_cuda
        self.num_steps, self.seconds = 0, 0.0  # those before a restart included
        self.run_steps = self.num_positions = self.num_read_tokens = 0
        self.run_seconds = self.capture_seconds = 0.0

    def run(
        self,
        total_seconds: float,
        watchers: Watchers,
        *,
        total_steps: int | None = None,
        until: float = 1.0,
    ) -> None:
        """Until training has taken `total_seconds`, those before a restart included.

        `total_steps`: how far it is goes by steps, in place of seconds. `until`: a part of it after
        which to stop; another run goes on.
        """
        began = reported = kept = self._clock()
        started = began - self.seconds
        while True:
            now = self._clock()
            self.seconds, self.run_seconds = now - started, now - began
            fraction = self.seconds / total_seconds
            if total_steps is not None:
                fraction = self.num_steps / total_steps
            if fraction >= until:
                break
            self._adjust(fraction)
            for _ in range(_STEPS_BETWEEN):
                self._step()
            if self._is_on_gpu:
                torch.cuda.synchronize()
            if now - reported >= watchers.report_seconds:
                watchers.report(self.reported(fraction))
                reported = now
            if now - kept >= watchers.keep_seconds:
                watchers.keep(self.seconds, self.num_steps)
                kept = now
        watchers.report(self.reported(until))

    def reported(self, fraction: float) -> Report:
        """How far it is; waits for the device."""
        counted = (self.seconds, self.num_steps, self.num_positions)
        return Report(fraction, *counted, self._student.progress())

    def run_idle_steps(self) -> None:
        """A few steps that change no weight, to look at what they spend; for a training that ended.

        They would change the optimisers' momentum.
        """
        self._student.adjust(0.0, self._recipe.loss_weights(1.0))
        for _ in range(_STEPS_BETWEEN):
            self._step()

    def _adjust(self, fraction: float) -> None:
        recipe, student = self._recipe, self._student
        kind = recipe.weights if recipe.is_aligned(fraction) else None
        if kind != student.kind:
            student.kind = kind
            self._graphs.clear()  # they compute without rounding
        student.adjust(recipe.rate(fraction), recipe.loss_weights(fraction))

    def _step(self) -> None:
        index = self._batches.next_index()
        bucket = self._batches.buckets[index]
        bucket.draw()
        logits = self._logits.fill(bucket.state_rows)
        if self._is_on_gpu:
            self._graph(index).replay()
        else:
            self._student.step(bucket, logits)
        self.num_steps += 1
        self.run_steps += 1
        self.num_positions += bucket.num_positions
        self.num_read_tokens += bucket.num_rows * bucket.width

    def _graph(self, index: int) -> torch.cuda.CUDAGraph:
        if not self._graphs:
            began = self._clock()
            self._capture()
            self.capture_seconds += self._clock() - began
        return self._graphs[index]

    def _capture(self) -> None:
        """One graph a bucket, all in one pool of memory; the steps of trying out count as steps."""
        torch.cuda.empty_cache()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for bucket in self._batches.buckets:
                for _ in range(_WARM_UP_STEPS):
                    bucket.draw()
                    self._student.step(bucket, self._logits.fill(bucket.state_rows))
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        pool = torch.cuda.graph_pool_handle()
        for index, bucket in enumerate(self._batches.buckets):
            self._student.forget_gradients()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self._student.step(bucket, self._logits.rows(bucket.num_positions))
            self._graphs[index] = graph
