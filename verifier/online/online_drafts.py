"""Makes better drafts of what streams taught, again and again, and puts them into the registry.

Boards that are assigned the draft then try the candidate beside it. This module must never put a
draft there that the gate refuses, and never write a text.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NoReturn

import msgspec

from shared.errors import GoodspeedError
from verifier.drafts.candidate_gate import mean_gain, refusal
from verifier.drafts.draft_store import Describe, DraftStore
from verifier.drafts.kept_draft import KeptDraft
from verifier.drafts.tuning_job import TuningJob, TuningResult
from verifier.engine.device import Device
from verifier.online.text_memory import TextMemory

logger = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
# Of a candidate that is better more than these stay: the newest ones, and those that boards lead
# with.
KEPT_CANDIDATES = 2
# After runs that came to nothing, so many times as much must be new.
MOST_TIMES = 8


class OnlinePlan(msgspec.Struct, frozen=True):
    """What is tuned, and how much."""

    draft: str  # of the registry
    target: Path
    work_dir: Path
    training_seconds: float
    least_wrong: int  # positions that are new since the last time
    threads: int
    device: str


class OnlineDrafts:
    """Of one verifier; `run` until cancelled."""

    def __init__(
        self,
        plan: OnlinePlan,
        memory: TextMemory,
        store: DraftStore,
        devices: Mapping[str, Device],
        describe: Describe,
        run_job: Callable[[TuningJob], Awaitable[TuningResult]],
        now: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._memory = memory
        self._store = store
        self._devices = devices
        self._describe = describe
        self._run_job = run_job
        self._now = now
        self._num_runs = 0
        self._num_learned = 0  # of all wrong positions, those that were there at the last run
        self._num_failed = 0  # runs in a row without a candidate: each waits for more to learn from

    async def run(self) -> NoReturn:
        """Tune whenever there is enough to learn from."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self._memory.forget_old(self._now())
            if not self._is_due:
                continue
            try:
                await self.tune_once()
            except (GoodspeedError, OSError) as error:
                self._num_failed += 1
                logger.warning("no draft was made of what streams taught: %s", error)

    async def tune_once(self) -> str | None:
        """Make one candidate; its name, or None: there is none, as the log says.

        Raises:
            GoodspeedError, OSError: registry or files are not to be had.
        """
        plan, catalogue = self._plan, self._store.catalogue().by_name
        base = self._base(catalogue)
        if base is None:
            logger.warning("online.draft %s is not in the registry", plan.draft)
            return None
        plan.work_dir.mkdir(parents=True, exist_ok=True)
        out = plan.work_dir / "candidate.gguf"
        self._num_runs += 1
        self._num_learned = self._memory.num_noted
        job = TuningJob(
            target=plan.target,
            draft=self._store.path_of(base),
            out=out,
            replay=plan.work_dir / "replay.texts",
            texts=self._memory.texts(),
            seconds=plan.training_seconds,
            threads=plan.threads,
            device=plan.device,
            seed=self._num_runs,
        )
        logger.info("tuning %s on %d texts", plan.draft, len(job.texts))
        try:
            result = await self._run_job(job)
            because = result.fault or refusal(result.pairs)
            if because:
                self._num_failed += 1
                logger.info("a draft made of what streams taught is not offered: %s", because)
                return None
            self._num_failed = 0
            # Copied and hashed, and other programs may hold the registry: not on the event loop.
            leaders = self._leaders()
            return await asyncio.to_thread(self._add, out, catalogue, result, leaders)
        finally:
            out.unlink(missing_ok=True)

    def _add(
        self,
        out: Path,
        catalogue: Mapping[str, KeptDraft],
        result: TuningResult,
        leaders: Mapping[str, int],
    ) -> str:
        plan = self._plan
        number = 1 + max(map(_number_of, self._candidates(catalogue)), default=0)
        name = f"{plan.draft}-online-{number}"

        def describe(path: Path, sha256: str, num_bytes: int) -> KeptDraft:
            made = self._describe(path, sha256, num_bytes)
            base = catalogue[plan.draft]
            told = {"labels": base.labels, "licence": base.licence}
            return msgspec.structs.replace(made, origin="candidate", made_from=plan.draft, **told)

        self._store.add(name, out, describe)
        gain = mean_gain(result.pairs)
        logger.info("%s is offered: accepted %+.3f in texts like those of streams", name, gain)
        self._forget_old_ones(leaders)
        return name

    def _forget_old_ones(self, leaders: Mapping[str, int]) -> None:
        catalogue = self._store.catalogue().by_name
        names = sorted(self._candidates(catalogue), key=_number_of)
        for name in names[:-KEPT_CANDIDATES]:
            if not leaders.get(catalogue[name].sha256):
                self._store.remove(name)

    def _base(self, catalogue: Mapping[str, KeptDraft]) -> KeptDraft | None:
        """What most boards that follow the draft lead with; first the draft itself."""
        known = [plan_draft] if (plan_draft := catalogue.get(self._plan.draft)) else []
        known += [catalogue[name] for name in self._candidates(catalogue)]
        leaders = self._leaders()
        return max(known, key=lambda draft: leaders.get(draft.sha256, 0), default=None)

    def _leaders(self) -> dict[str, int]:
        """How many boards lead with each draft."""
        found: dict[str, int] = {}
        for device in self._devices.values():
            sha256 = device.choice.standing.leader.hex()
            found[sha256] = found.get(sha256, 0) + 1
        return found

    def _candidates(self, catalogue: Mapping[str, KeptDraft]) -> list[str]:
        return [name for name, kept in catalogue.items() if kept.made_from == self._plan.draft]

    @property
    def _is_due(self) -> bool:
        """Whether there is enough, and enough of it is new."""
        least, num_new = self._plan.least_wrong, self._memory.num_noted - self._num_learned
        wanted = least * min(1 + self._num_failed, MOST_TIMES)
        return self._memory.num_wrong >= least and num_new >= wanted


def _number_of(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0
