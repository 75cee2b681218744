"""What both ends of a worker's connection know of streams from the rounds before.

Tables of blocks are mostly those of the round before: to make runs of a table of 65 blocks, or the
table of its runs, takes 1.7 µs, to see that it is the one of before 0.3 (one core, 2026-11). What
penalties count grows by a few tokens a round, so only these are sent: of a stream with 128,000
different tokens all of it is 1 MB. Both ends go through the same rounds in the same order and
forget by the same rule, so that they always know the same.

Pure. This module must never know more of a stream than its number.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.errors import RemoteProtocolError
from verifier.target.processing import SeenTokens
from verifier.target.round import RoundItem
from verifier.workers.columns import Runs, blocks_of, runs_of, unpacked
from verifier.workers.messages import WireSeen

# Of all streams together: 48 MB at each end. Whose were used longest ago are forgotten.
MAX_KNOWN_TOKENS = 1 << 22


class SentStreams:
    """At the verifier: what the rounds had that were sent over one connection."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[tuple[int, ...], Runs]] = {}
        self._seen = _KnownSeen()

    def runs(self, items: Sequence[RoundItem]) -> list[Runs]:
        """The runs of the items of the next round, in their order."""
        before, self._runs = self._runs, {}
        runs = []
        for item in items:
            known, table = before.get(item.stream), item.block_table
            # Mostly it is the very same tuple; to compare 65 blocks is to read all of them.
            if known is None or (known[0] is not table and known[0] != table):
                known = table, runs_of(table)
            self._runs[item.stream] = known
            runs.append(known[1])
        return runs

    def new_seen(self, stream: int, seen: SeenTokens) -> WireSeen:
        """What the worker does not know of it yet."""
        known = self._seen.of(stream)
        if known is not None and not _goes_on(known, seen):
            known = None  # another text
        self._seen.keep(stream, seen)
        num_known, changed = 0, np.zeros(0, dtype=np.int64)
        if known is not None:
            num_known = len(known.token_ids)
            changed = np.flatnonzero(known.num_written != seen.num_written[:num_known])
        new_counts = seen.num_written[changed], seen.num_written[num_known:]
        return WireSeen(
            num_known,
            seen.token_ids[num_known:].astype("<u4").tobytes(),
            changed.astype("<u4").tobytes(),
            np.concatenate(new_counts).astype("<f4", copy=False).tobytes(),
            seen.draft_places.astype("<u4").tobytes(),
        )


class ReadStreams:
    """At the worker: what the rounds had that came over one connection."""

    def __init__(self, num_blocks: int) -> None:
        self._num_blocks = num_blocks
        self._tables: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._seen = _KnownSeen()

    def tables(self, runs: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The tables of the items of the next round, in their order.

        Raises:
            RemoteProtocolError: a block lies outside of the cache.
        """
        before, self._tables = self._tables, {}
        tables = []
        for one in runs:
            table = before.get(one)
            if table is None:
                table = blocks_of(one, self._num_blocks)
            self._tables[one] = table
            tables.append(table)
        return tables

    def seen(self, stream: int, wire: WireSeen, num_drafts: int, vocab_size: int) -> SeenTokens:
        """All that the stream has seen.

        Raises:
            RemoteProtocolError: it does not fit what came before, its drafts or the vocabulary.
        """
        token_ids, num_written = self._known(stream, wire.num_known)
        new_ids = unpacked(wire.new_ids, "<u4", "seen tokens").astype(np.int64)
        changed = unpacked(wire.changed, "<u4", "changed counts")
        num_counts = len(changed) + len(new_ids)
        counts = unpacked(wire.counts, "<f4", "counts of seen tokens", num_counts)
        places = unpacked(wire.draft_places, "<u4", "places of drafts", num_drafts)
        if int(new_ids.max(initial=0)) >= vocab_size:
            raise RemoteProtocolError(f"a seen token lies beyond a vocabulary of {vocab_size}")
        num_seen = wire.num_known + len(new_ids)
        new_places, first_at = np.unique(places[places >= num_seen], return_index=True)
        has_places = (changed < wire.num_known).all() and (np.diff(first_at) > 0).all()
        if not has_places or (new_places != num_seen + np.arange(len(new_places))).any():
            raise RemoteProtocolError(f"a place does not fit {num_seen} seen tokens")
        num_written[changed] = counts[: len(changed)]
        seen = SeenTokens(
            np.concatenate([token_ids, new_ids]),
            np.concatenate([num_written, counts[len(changed) :]]),
            places.astype(np.int64),
        )
        self._seen.keep(stream, seen)
        return seen

    def _known(self, stream: int, num_known: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Its tokens, and a copy of their counts."""
        if not num_known:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        known = self._seen.of(stream)
        if known is None or len(known.token_ids) != num_known:
            raise RemoteProtocolError(f"{num_known} seen tokens of stream {stream} are not known")
        return known.token_ids, known.num_written.copy()


class _KnownSeen:
    """What streams have seen until their last round, as far as there is room."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, SeenTokens] = OrderedDict()
        self._num_tokens = 0

    def of(self, stream: int) -> SeenTokens | None:
        return self._known.get(stream)

    def keep(self, stream: int, seen: SeenTokens) -> None:
        """In place of what was known of it."""
        known = self._known.pop(stream, None)
        if known is not None:
            self._num_tokens -= len(known.token_ids)
        self._known[stream] = seen
        self._num_tokens += len(seen.token_ids)
        while self._num_tokens > MAX_KNOWN_TOKENS:
            _, forgotten = self._known.popitem(last=False)
            self._num_tokens -= len(forgotten.token_ids)


def _goes_on(known: SeenTokens, seen: SeenTokens) -> bool:
    """Whether a text with these tokens has grown from the other one."""
    return np.array_equal(known.token_ids, seen.token_ids[: len(known.token_ids)])
