"""What the verifier knows of the drafts that a board holds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.protocol.messages import AssignedDraft, Assignment, VerifierMessage
from verifier.engine.device import MAX_LET_GO, Device
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.kept_streams import KeptStreams


def draft(name: str) -> AssignedDraft:
    return AssignedDraft(name, 9, name.encode().ljust(32, b"."))


WREN, FINCH = draft("wren"), draft("finch")


class Outbox:
    """Remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[VerifierMessage] = []

    def send(self, message: VerifierMessage) -> None:
        self.sent.append(message)

    def send_parts(self, messages: Sequence[VerifierMessage]) -> None:
        self.sent += messages

    def stream_ended(self, channel: int) -> None:
        """Nothing to note."""

    def replace(self) -> None:
        """Likewise."""


@pytest.fixture
def device() -> Device:
    made = Device("kitchen", DeviceEstimates(), KeptStreams(1))
    made.outbox, made.takes_drafts = Outbox(), True
    return made


def sent(device: Device) -> list[VerifierMessage]:
    assert isinstance(device.outbox, Outbox)
    return device.outbox.sent


def test_an_assignment_is_told_once_and_to_boards_that_take_drafts_alone(device: Device) -> None:
    assignment = Assignment((WREN,), (1,))
    for _ in range(2):
        device.assign(assignment)
    device.assign(Assignment())
    assert [assignment, Assignment()] == sent(device)
    device.takes_drafts = False
    device.assign(assignment)
    assert 2 == len(sent(device))


def test_each_draft_has_its_own_acceptance_and_speed_and_the_same_goodput(device: Device) -> None:
    device.own_estimates.speed.observe_round_trip(0.1)
    device.hold(1, WREN, 0.002, ())
    held = device.held[1].estimates
    assert held.acceptance is not device.own_estimates.acceptance
    assert held.goodput is device.own_estimates.goodput
    assert (0.002, 0.1) == (held.speed.draft_token_seconds, held.speed.round_trip_seconds)


def test_what_is_known_of_a_draft_outlives_its_connection(device: Device) -> None:
    device.hold(1, WREN, 0.002, ())
    before = device.held[1].estimates
    device.let_go_of()
    assert {} == device.held
    device.hold(7, WREN, 0.002, ())
    assert before is device.held[7].estimates
    assert {} == device.let_go


def test_only_so_many_drafts_are_remembered(device: Device) -> None:
    for number in range(3 * MAX_LET_GO):
        device.hold(1, draft(f"draft-{number}"), 0.002, ())
        device.let_go_of()
    assert MAX_LET_GO == len(device.let_go)


def test_a_draft_under_another_number_is_the_same_one(device: Device) -> None:
    device.hold(1, WREN, 0.002, ())
    device.hold(2, WREN, 0.002, ())
    assert [2] == list(device.held)
    device.hold(3, FINCH, 0.002, ())
    device.refuse(WREN, "no room")
    assert [3] == list(device.held)
    assert {WREN.sha256: "no room"} == device.refused
    device.hold(4, WREN, 0.002, ())
    assert {} == device.refused


def test_another_boards_confidence_with_the_same_draft_is_where_it_begins(device: Device) -> None:
    other = Device("garage", DeviceEstimates(), KeptStreams(1))
    other.hold(1, WREN, 0.002, ())
    device.hold(1, WREN, 0.002, (other, device))
    assert device.held[1].estimates.calibration is not other.held[1].estimates.calibration


def test_what_is_in_use_is_what_has_the_first_turn_and_is_held(device: Device) -> None:
    assert "" == device.draft_in_use
    device.assign(Assignment((WREN, FINCH), (2,)))
    assert "" == device.draft_in_use
    device.hold(1, FINCH, 0.002, ())
    assert "finch" == device.draft_in_use
    device.assign(Assignment((WREN, FINCH), (0, 2, 2, 0)))
    assert "" == device.draft_in_use
