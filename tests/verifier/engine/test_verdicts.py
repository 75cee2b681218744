"""Who is told of a round before the next one starts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.ends.planning import make_stream
from verifier.engine.verdicts import told_first
from verifier.rounds.planner import StreamResult

DEVICES = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=80)


def results_of(*devices: str) -> list[StreamResult]:
    """Of a round with a stream of each of these."""
    return [StreamResult.ended(make_stream(i, device=name)) for i, name in enumerate(devices)]


def told(*devices: str) -> tuple[list[str], list[str]]:
    first, rest = told_first(results_of(*devices))
    return [r.stream.device for r in first], [r.stream.device for r in rest]


def test_devices_with_the_fewest_streams_are_told_first() -> None:
    many = ("many",) * 8
    assert (["good", "good", "many", "many"], ["many"] * 6) == told(*many, "good", "good")
    assert (["good", *["more"] * 3], ["many"] * 8) == told(*many, *("more",) * 3, "good")


def test_a_device_that_is_alone_has_its_next_round_first() -> None:
    assert ([], ["one"] * 8) == told(*("one",) * 8)
    assert ([], []) == told()


def test_a_round_of_very_many_streams_is_not_looked_through() -> None:
    devices = [f"d{i}" for i in range(65)]
    assert ([], devices) == told(*devices)
    assert 4 == len(told(*devices[:-1])[0])


@given(DEVICES)
def test_each_is_told_once_and_no_more_than_a_few_first(devices: list[str]) -> None:
    results = results_of(*devices)
    first, rest = told_first(results)
    assert len(first) <= 4
    numbers = [result.stream.number for result in (*first, *rest)]
    assert list(range(len(devices))) == sorted(numbers)
    of_first = [devices.count(result.stream.device) for result in first]
    assert max(of_first, default=0) <= min([devices.count(r.stream.device) for r in rest] or [80])
