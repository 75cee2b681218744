"""The world in which batches by order, by deadlines and ours are compared: fixed before they are.

Three classes of devices with an SLO of their own, chats that end and begin again, and a target of
which a token takes 5 % of an empty round, so that batches matter. None of its numbers is a paper's:
DiP-SD's device constants and WISP's are not known.
"""

from __future__ import annotations

from verifier.rounds.settings import RoundsSection
from verifier.sim.fleet import FleetBoard
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection

# Milliseconds a token: of a spoken answer, of one that is read, of one that nothing waits for.
SLO_MILLISECONDS = {"strict": 80.0, "usual": 240.0, "lax": 480.0}
NUM_DEVICES = (12, 24, 36, 48, 60)
SECONDS = 30.0
SPEEDS = (40.0, 90.0, 165.0)  # draft tokens per second: a Raspberry Pi 4 to a Jetson Orin Nano
ACCEPTANCES = (0.6, 0.7, 0.8)
ROUND_TRIPS = (10.0, 30.0, 60.0)  # milliseconds
FIXED_MILLISECONDS, TOKEN_MILLISECONDS = 30.0, 1.5


def scenario_of(num_devices: int, seed: int, *, promises: bool = False) -> Scenario:
    """A world of so many devices; `promises`: the verifier knows their SLOs and promises them."""
    return Scenario(
        name="slo",
        run=ScenarioSection(seconds=SECONDS, seed=seed),
        target=TargetSection(
            fixed_milliseconds=FIXED_MILLISECONDS, token_milliseconds=TOKEN_MILLISECONDS
        ),
        rounds=RoundsSection(),
        boards={
            name: BoardGroup(
                count=num_devices // len(SLO_MILLISECONDS),
                draft_tokens_per_second=SPEEDS,
                acceptance=ACCEPTANCES,
                round_trip_milliseconds=ROUND_TRIPS,
                output_tokens=200,
                think_seconds=2.0,
                join_spread_seconds=4.0,
                slo_milliseconds=milliseconds if promises else None,
            )
            for name, milliseconds in SLO_MILLISECONDS.items()
        },
    )


def slo_class_of(board: FleetBoard) -> tuple[str, float]:
    """Its class, and the seconds of a token that are its SLO."""
    name = board.name.rsplit("-", 1)[0]
    return name, 1e-3 * SLO_MILLISECONDS[name]
