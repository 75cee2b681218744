"""A round is cut into tiles and parts that cover every query row and every visible key once."""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.target.round import RoundItem
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.paged_layout import PagedLayout, positions_of

BLOCK_TOKENS = 16
HEADS = HeadShape(9, 3)


def item(stream: int, num_cached: int, num_new: int) -> RoundItem:
    num_blocks = -(-(num_cached + num_new) // BLOCK_TOKENS)
    table = tuple(100 * stream + i for i in range(num_blocks))
    return RoundItem(stream, (0,) * num_new, num_cached, table, None)


def laid_out(
    items: list[RoundItem], heads: HeadShape, windows: list[int | None], num_cores: int | None
) -> PagedLayout:
    return PagedLayout.of(items, positions_of(items), BLOCK_TOKENS, heads, windows, num_cores)


def test_new_tokens_go_to_the_slots_behind_the_cached_ones() -> None:
    items = [RoundItem(0, (1, 2, 3), 15, (7, 2), None), RoundItem(1, (4,), 0, (5,), None)]
    layout = laid_out(items, HeadShape(4, 2), [None], num_cores=1)
    assert [7 * 16 + 15, 2 * 16, 2 * 16 + 1, 5 * 16] == layout.slots.tolist()
    assert [[7, 2], [5, 0]] == layout.block_tables.tolist()


@pytest.mark.parametrize(("num_new", "rows"), [(1, 16), (5, 16), (6, 32), (11, 64), (400, 64)])
def test_a_tile_holds_what_a_tensor_core_takes(num_new: int, rows: int) -> None:
    layout = laid_out([item(0, 9, num_new)], HEADS, [None], num_cores=1)
    assert rows == layout.rows_per_tile


def test_many_short_streams_are_not_cut_into_parts() -> None:
    items = [item(i, 200, 4) for i in range(64)]
    layout = laid_out(items, HEADS, [None], num_cores=132)
    assert 0 == layout.works[None].num_partials == len(layout.works[None].tiles)


def test_one_long_stream_keeps_every_core_busy() -> None:
    layout = laid_out([item(0, 40_000, 4)], HEADS, [None], num_cores=132)
    work = layout.works[None]
    assert 132 <= 3 * len(work.work) == 3 * work.num_partials


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 90)), min_size=1, max_size=6),
    st.none() | st.integers(1, 700),
    st.sampled_from([None, 1, 16, 132]),
)
def test_every_row_meets_every_key_that_it_sees_once(
    sizes: list[tuple[int, int]], window: int | None, num_cores: int | None
) -> None:
    items = [item(i, *size) for i, size in enumerate(sizes)]
    layout = laid_out(items, HEADS, [window], num_cores=num_cores)
    work = layout.works[window]
    keys = defaultdict(list)
    for _, _, first_row, _, first_key, end_key, stream, part in work.work.tolist():
        keys[stream, first_row].append((first_key, end_key, part))
    for stream, (num_cached, num_new) in enumerate(sizes):
        num_rows = num_new * HEADS.num_members
        for first_row in range(0, num_rows, layout.rows_per_tile):
            parts = keys.pop((stream, first_row))
            last_row = min(first_row + layout.rows_per_tile, num_rows) - 1
            first_query, last_query = (num_cached + r // 3 for r in (first_row, last_row))
            first_seen = 0 if window is None else max(0, first_query - window + 1)
            assert first_seen - layout.step_keys < parts[0][0] <= first_seen
            assert last_query < parts[-1][1] <= last_query + layout.step_keys
            assert all(left[1] == right[0] for left, right in itertools.pairwise(parts))
    assert {} == dict(keys)


def test_parts_are_numbered_as_their_tiles_say() -> None:
    items = [item(0, 5000, 4), item(1, 10, 1), item(2, 9000, 30)]
    work = laid_out(items, HEADS, [None], num_cores=132).works[None]
    numbered = [row[7] for row in work.work.tolist() if row[7] >= 0]
    assert list(range(work.num_partials)) == numbered
    assert numbered == [part for row in work.tiles.tolist() for part in range(row[3], row[4])]


@given(st.integers(0, 3000), st.integers(1, 40), st.none() | st.integers(1, 700))
def test_fixed_cuts_are_the_same_for_a_row_alone_and_among_others(
    num_cached: int, num_new: int, window: int | None
) -> None:
    among = laid_out([item(0, 77, 3), item(1, num_cached, num_new)], HEADS, [window], None)
    alone = laid_out([item(0, num_cached + num_new - 1, 1)], HEADS, [window], None)
    cuts = {key for row in alone.works[window].work.tolist()[1:] for key in row[4:5]}
    assert cuts <= {row[4] for row in among.works[window].work.tolist()}
    assert all(key % 512 == 0 for key in cuts)
    assert among.rows_per_tile == alone.rows_per_tile
