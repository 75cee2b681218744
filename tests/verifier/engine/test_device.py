"""What is learned of a board's confidence belongs to the draft model that it had."""

from __future__ import annotations

import math

from shared.speculation.calibration import CELL_OF, Way
from verifier.engine.device import Device
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.kept_streams import KeptStreams

CONFIDENCE = 160


def board(name: str, *others: Device, draft_model: str = "small") -> Device:
    made = Device(name, DeviceEstimates(), KeptStreams(4))
    made.draft_with(draft_model, [made, *others])
    return made


def drafted_badly(device: Device) -> Device:
    for _ in range(600):
        device.estimates.calibration.observe(Way.GREEDY, bytes([CONFIDENCE]), 0)
    return device


def chance(device: Device) -> float:
    return math.exp(-device.estimates.calibration.hazards[Way.GREEDY][CELL_OF[CONFIDENCE]])


def test_a_board_that_comes_back_with_its_draft_model_is_known() -> None:
    device = drafted_badly(board("kitchen"))
    device.draft_with("small", [device])
    assert chance(device) < 0.1


def test_another_draft_model_is_another_drafter() -> None:
    device = drafted_badly(board("kitchen"))
    device.draft_with("large", [device])
    assert chance(device) > 0.9


def test_a_new_board_begins_with_what_its_draft_model_is_on_others() -> None:
    others = [drafted_badly(board(name)) for name in "abcde"]
    assert chance(board("new", *others)) < 0.1
    assert chance(board("other", *others, draft_model="large")) > 0.9


def test_one_board_alone_decides_nothing_about_a_draft_model() -> None:
    assert chance(board("new", drafted_badly(board("liar")))) > 0.9
