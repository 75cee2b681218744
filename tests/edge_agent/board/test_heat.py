"""Sensors of real boards, as fake trees of sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.board.heat import Heat, read_heat
from tests.support.sysfs import PI_THROTTLED, jetson_orin, pi_5, sensor, thermal_zone, write_tree


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert Heat() == read_heat(tmp_path)


def test_a_cool_raspberry_pi(tmp_path: Path) -> None:
    assert Heat(
        celsius=55.0,
        is_undervolted=False,
        was_undervolted=False,
        is_slowed=False,
        was_slowed=False,
    ) == read_heat(write_tree(tmp_path, pi_5()))


@pytest.mark.parametrize(
    ("bits", "undervolted", "slowed"),
    [
        ("1", (True, False), (False, False)),
        ("10000", (False, True), (False, False)),
        ("2", (False, False), (True, False)),
        ("4", (False, False), (True, False)),
        ("8", (False, False), (True, False)),
        ("20000", (False, False), (False, True)),
        ("50005", (True, True), (True, True)),
        ("0xe0008", (False, False), (True, True)),
    ],
)
def test_each_bit_of_the_firmware(
    bits: str, undervolted: tuple[bool, bool], slowed: tuple[bool, bool], tmp_path: Path
) -> None:
    heat = read_heat(write_tree(tmp_path, pi_5(bits)))
    assert undervolted == (heat.is_undervolted, heat.was_undervolted)
    assert slowed == (heat.is_slowed, heat.was_slowed)


def test_a_pi_whose_kernel_has_the_alarm_only(tmp_path: Path) -> None:
    heat = read_heat(write_tree(tmp_path, sensor(3, "rpi_volt", in0_lcrit_alarm=1)))
    assert Heat(is_undervolted=True) == heat


def test_the_firmware_and_the_alarm_may_each_see_it(tmp_path: Path) -> None:
    tree = pi_5() | sensor(1, "rpi_volt", in0_lcrit_alarm=1)
    assert read_heat(write_tree(tmp_path, tree)).is_undervolted


def test_a_jetson_counts_overcurrent_and_skips_zones_that_are_off(tmp_path: Path) -> None:
    heat = read_heat(write_tree(tmp_path, jetson_orin(events=2)))
    assert Heat(celsius=49.125, overcurrent_events=6) == heat


def test_what_is_no_number_is_not_told(tmp_path: Path) -> None:
    tree = thermal_zone(0, "cpu-thermal", "hot") | {PI_THROTTLED: "broken"}
    assert Heat() == read_heat(write_tree(tmp_path, tree))
