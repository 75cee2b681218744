"""Merged projections give what each gives alone, in whatever order a model asks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from verifier.torch_target.layers.merged_projections import MergedLinear, can_merge


def projections(*sizes: int, bias: bool = False) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(8, size, bias=bias) for size in sizes]


@pytest.mark.parametrize("bias", [False, True])
def test_each_part_is_what_its_projection_gives(bias: bool) -> None:
    plain = projections(6, 4, 4, bias=bias)
    x = torch.randn(1, 3, 8)
    expected = [projection(x) for projection in plain]
    merged = MergedLinear(plain)
    for number in (0, 1, 2, 1, 2, 0):
        torch.testing.assert_close(merged.part(number, x), expected[number])
    torch.testing.assert_close(merged.whole(x), torch.cat(expected, dim=-1))


def test_another_input_is_another_product() -> None:
    plain = projections(6, 4)
    merged = MergedLinear(plain)
    first, second = torch.randn(2, 1, 3, 8).unbind()
    merged.part(0, first)
    torch.testing.assert_close(merged.part(1, second), plain[1](second))


def test_an_input_that_was_changed_in_place_is_computed_anew() -> None:
    plain = projections(6, 4)
    merged = MergedLinear(plain)
    x = torch.randn(1, 3, 8)
    merged.part(0, x)
    merged.part(1, x)
    x.mul_(2)
    torch.testing.assert_close(merged.part(0, x), plain[0](x))


def test_projections_keep_views_and_no_weight_is_stored_twice() -> None:
    plain = projections(6, 4)
    merged = MergedLinear(plain)
    storage = merged._weight.untyped_storage().data_ptr()
    assert all(p.weight.untyped_storage().data_ptr() == storage for p in plain)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (projections(6, 4), True),
        ([*projections(6), *projections(4, bias=True)], False),
        ([*projections(6), None], False),
        ([*projections(6), nn.Linear(5, 4, bias=False)], False),
        ([*projections(6), nn.Identity()], False),
    ],
)
def test_only_plain_layers_of_one_input_are_merged(
    parts: list[nn.Module | None], expected: bool
) -> None:
    assert expected == can_merge(parts)
