"""Reads the dashboard's state off the running verifier, in a thread and in short pieces.

The event loop goes on meanwhile, so what is looked through is copied first, in one step, as for
/metrics. This module must never change anything that it reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from verifier.engine.device_terms import PAUSED
from verifier.engine.fleet_fairness import fairness_of
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.metrics import DEVICES_AT_ONCE
from verifier.engine.service import VerifierService
from verifier.engine.unhurried import unhurried
from verifier.rounds.planner import RoundPlanner
from verifier.scheduling.no_drafts import reasons_for_no_drafts
from verifier.scheduling.token_price import (
    alone_tokens_per_second,
    of_alone_ratio,
    token_price_seconds,
)
from verifier.streams.position_counts import SHOWN_POSITIONS, name_of
from verifier.streams.stream import Stream
from verifier.web.device_promises import DevicePromises
from verifier.web.state import (
    CacheState,
    DashboardState,
    DeviceState,
    DeviceSums,
    WorkerShown,
    device_state,
)

_STREAMS_AT_ONCE = 256  # some 0.2 ms
_REASONS_AT_ONCE = 64  # some 0.5 ms
_NO_SUMS = DeviceSums()
_PAUSED = ("paused", PAUSED)


def read_state(service: VerifierService, now: float) -> DashboardState:
    """The state at `now`; 1,000 devices take some 15 ms of a core."""
    planners = service.planners
    fairness = fairness_of(unhurried(tuple(service.devices.values()), 8 * DEVICES_AT_ONCE))
    return DashboardState(
        target_model=service.target.model_name,
        at_seconds=now,
        totals=service.metrics.totals(),
        budget_tokens=sum([planner.draft_plan.budget_tokens for planner in planners]),
        max_round_tokens=service.planner.settings.schedule.limits.max_round_tokens,
        draft_token_price_seconds=token_price_seconds(service.planner.draft_plan),
        num_running=sum([len(planner.streams) for planner in planners]),
        num_waiting=sum([len(planner.queue) for planner in planners]),
        num_draft_timeouts=sum([planner.patience.num_draft_timeouts for planner in planners]),
        jain_index=fairness.jain_index,
        log_goodput=fairness.log_goodput,
        position_names=[name_of(positions) for positions in SHOWN_POSITIONS],
        cache=_cache_state(planners),
        workers=_worker_states(service.workers),
        devices=list(_device_states(service, now)),
    )


def encode_state(service: VerifierService, now: float) -> bytes:
    """The same as JSON; no number in it is infinite."""
    return msgspec.json.encode(read_state(service, now))


def _cache_state(planners: Sequence[RoundPlanner]) -> CacheState:
    pools = [planner.blocks for planner in planners]
    admissions = [planner.admission for planner in planners]
    return CacheState(
        num_blocks=sum([pool.num_blocks for pool in pools]),
        num_free_blocks=sum([pool.num_free_blocks for pool in pools]),
        block_tokens=pools[0].block_tokens,
        num_preemptions=sum([admission.num_preemptions for admission in admissions]),
        prefix_query_tokens=sum([admission.num_prefix_query_tokens for admission in admissions]),
        prefix_hit_tokens=sum([admission.num_prefix_hit_tokens for admission in admissions]),
    )


def _worker_states(workers: ManyWorkers | None) -> list[WorkerShown]:
    if workers is None:
        return []
    return [
        WorkerShown(
            number=worker.number,
            name=worker.source.name,
            hardware=worker.target.facts.hardware,
            state=worker.state.value,
            because=worker.because,
            num_streams=worker.num_streams,
            num_rounds=worker.num_rounds,
            round_seconds=worker.round_seconds,
            num_lost=worker.num_lost,
            num_moved_in=worker.num_moved_in,
            num_moved_out=worker.num_moved_out,
        )
        for worker in workers.workers
    ]


def _device_states(service: VerifierService, now: float) -> Iterator[DeviceState]:
    sums: dict[str, DeviceSums] = {}
    reasons: dict[str, tuple[str, str]] = {}
    held: Counter[str] = Counter()
    placed: Counter[str] = Counter()  # streams with a place in the cache
    waiting: dict[str, float] = {}
    of_planners = [(planner, _open_streams(planner)) for planner in service.planners]
    for planner, streams in of_planners:
        _add_sums(streams, sums)
        placed.update([stream.device for stream in tuple(planner.streams.values())])
    for planner, streams in of_planners:
        parked = tuple(planner.admission.parked.values())
        reasons = {**_reasons(planner, (*streams, *parked), sums), **reasons}
        held.update(planner.admission.held_blocks())
        for device_name, seconds in planner.admission.waiting_seconds(now).items():
            waiting[device_name] = max(seconds, waiting.get(device_name, 0.0))
    first = service.planner
    alone = alone_tokens_per_second(first.draft_plan, first.payoff)
    paused, schedule = first.patience.paused, first.settings.schedule
    promises = DevicePromises([planner.promises for planner in service.planners])
    for device in unhurried(tuple(service.devices.values()), DEVICES_AT_ONCE):
        yield device_state(
            device,
            sums.get(device.name, _NO_SUMS),
            cache_blocks=held.get(device.name, 0),
            waiting_seconds=waiting.get(device.name),
            of_alone_ratio=of_alone_ratio(
                device.estimates.goodput.tokens_per_second, placed[device.name], alone
            ),
            idle=_PAUSED if device.name in paused else reasons.get(device.name),
            weight=schedule.device_weights.get(device.name, 1.0),
            cap=schedule.device_caps.get(device.name),
            promise=promises.of(device.name),
        )


def _open_streams(planner: RoundPlanner) -> tuple[Stream, ...]:
    return (*planner.streams.values(), *planner.queue.values())


def _add_sums(streams: Sequence[Stream], sums: dict[str, DeviceSums]) -> None:
    for stream in unhurried(streams, _STREAMS_AT_ONCE):
        of_device = sums.setdefault(stream.device, DeviceSums())
        of_device.draft_length += stream.draft_length
        of_device.window += stream.window
        of_device.num_streams += 1
        of_device.num_fused += stream.estimates.mode.is_fused
        of_device.context_tokens += stream.num_tokens


def _reasons(
    planner: RoundPlanner, streams: Sequence[Stream], sums: dict[str, DeviceSums]
) -> dict[str, tuple[str, str]]:
    """Cause and sentence of each device that drafts nothing: those of its first stream."""
    first: dict[str, Stream] = {}
    for stream in streams:
        if not sums.get(stream.device, _NO_SUMS).draft_length:
            first.setdefault(stream.device, stream)
    plan, settings = planner.draft_plan, planner.settings.schedule
    found: dict[str, tuple[str, str]] = {}
    for piece in unhurried(_pieces(first.values(), _REASONS_AT_ONCE), 1):
        for stream, reason in zip(piece, reasons_for_no_drafts(piece, plan, settings), strict=True):
            if reason is not None:
                found[stream.device] = reason
    return found


def _pieces(streams: Iterable[Stream], num_at_once: int) -> Iterator[list[Stream]]:
    rest = iter(streams)
    while piece := list(islice(rest, num_at_once)):
        yield piece
