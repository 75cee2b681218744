"""What the dashboard shows, as one message: plain values, each from where /metrics has it.

Totals are since the start: the page that asks twice knows what happened in between, and the
verifier keeps nothing for those who look. Pure; this module must never read a clock or a stream's
text.
"""

from __future__ import annotations

import msgspec

from verifier.engine.device import Device
from verifier.engine.metrics import Totals
from verifier.streams.position_counts import shown
from verifier.web.device_promises import DevicePromise


class DeviceSums(msgspec.Struct):
    """Over a device's open streams, those that wait included."""

    draft_length: int = 0  # 0: its board drafts nothing
    window: int = 0
    num_streams: int = 0
    num_fused: int = 0  # of these: the target writes them alone for now
    context_tokens: int = 0


class DeviceState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One device; None where nothing was measured yet."""

    name: str
    is_connected: bool
    goodput_tokens_per_second: float | None  # of late; the last one of a device without a stream
    of_alone_ratio: float | None  # that over what the target alone would give its streams
    acceptance: float | None  # how often the next draft token survives
    reached: list[int]  # draft tokens that verdicts came to, by SHOWN_POSITIONS
    accepted: list[int]  # and those of them that were accepted
    draft_length: int
    window: int
    num_streams: int
    num_fused: int
    context_tokens: int
    round_trip_seconds: float | None
    draft_tokens_per_second: float | None
    celsius: int | None  # of the board's processor
    troubles: list[str]  # of its hardware, in words
    cache_blocks: int
    waiting_seconds: float | None  # to start, for room or a promise; None: no stream waits
    idle_cause: str | None  # why the draft length is 0, of its first stream
    idle_sentence: str | None
    weight: float  # in what is fair
    cap: int | None  # on its draft length, by its operator
    promise: DevicePromise | None  # of tokens in time
    draft: str  # of the registry, that new streams take first; empty: its board's own
    tried_draft: str | None  # that is compared with it; empty: its board's own
    tried_ratio: float  # of tokens per second over those with the one that leads
    tried_pairs: int
    held_drafts: list[str]  # of the registry


class CacheState(msgspec.Struct, frozen=True, kw_only=True):
    """The target's cache of keys and values."""

    num_blocks: int
    num_free_blocks: int
    block_tokens: int
    num_preemptions: int
    prefix_query_tokens: int
    prefix_hit_tokens: int


class WorkerShown(msgspec.Struct, frozen=True, kw_only=True):
    """One of several workers."""

    number: int
    name: str
    hardware: str
    state: str  # serving, draining, drained or lost
    because: str  # why it is lost
    num_streams: int
    num_rounds: int
    round_seconds: float  # of all of them together
    num_lost: int  # times
    num_moved_in: int  # streams
    num_moved_out: int


class DashboardState(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page shows, at one moment."""

    target_model: str
    at_seconds: float  # of the verifier's own clock: for what happened between two states
    totals: Totals
    budget_tokens: int  # drafts that a round may hold now
    max_round_tokens: int
    draft_token_price_seconds: float  # that one more in a round costs all devices together
    num_running: int  # streams with a place in the cache
    num_waiting: int  # and those without
    num_draft_timeouts: int
    jain_index: float | None
    log_goodput: float | None
    position_names: list[str]
    cache: CacheState
    workers: list[WorkerShown]  # none: the target runs in the verifier
    devices: list[DeviceState]


def device_state(
    device: Device,
    sums: DeviceSums,
    *,
    cache_blocks: int,
    waiting_seconds: float | None,
    idle: tuple[str, str] | None,
    of_alone_ratio: float | None = None,
    weight: float = 1.0,
    cap: int | None = None,
    promise: DevicePromise | None = None,
) -> DeviceState:
    """One device's line; `idle` is cause and sentence, if its boards draft nothing."""
    estimates = device.estimates
    speed = estimates.speed
    reached, accepted = estimates.positions.bars()
    cause, sentence = idle or (None, None)
    standing = device.choice.standing
    names = {held.draft.sha256: held.draft.name for held in device.held.values()}
    return DeviceState(
        name=device.name,
        is_connected=device.outbox is not None,
        goodput_tokens_per_second=estimates.goodput.tokens_per_second,
        of_alone_ratio=of_alone_ratio,
        acceptance=estimates.acceptance.rate if reached else None,
        reached=shown(reached),
        accepted=shown(accepted),
        draft_length=sums.draft_length,
        window=sums.window,
        num_streams=sums.num_streams,
        num_fused=sums.num_fused,
        context_tokens=sums.context_tokens,
        round_trip_seconds=speed.round_trip_seconds,
        draft_tokens_per_second=(
            1 / speed.draft_token_seconds if speed.draft_token_seconds else None
        ),
        celsius=None if device.health is None else device.health.celsius,
        troubles=[] if device.health is None else list(device.health.troubles),
        cache_blocks=cache_blocks,
        waiting_seconds=waiting_seconds,
        idle_cause=cause,
        idle_sentence=sentence,
        weight=weight,
        cap=cap,
        promise=promise,
        draft=device.draft_in_use,
        tried_draft=None if standing.candidate is None else names.get(standing.candidate, ""),
        tried_ratio=standing.speed_ratio,
        tried_pairs=standing.num_pairs,
        held_drafts=sorted(names.values()),
    )
