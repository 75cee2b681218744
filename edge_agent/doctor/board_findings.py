"""What heat, supply, clock and memory of a board mean for its drafting. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from edge_agent.board.clock import Clock
from edge_agent.board.heat import Heat
from shared.daemon.resources.main_memory import gib
from shared.doctor.findings import Finding, ok, problem, warning

# Both Raspberry Pi and Jetson slow down from 80 to 85 degrees on.
HOT_CELSIUS = 80.0
# No release of goodspeed is older: a clock that says so was never set.
_FIRST_SANE_YEAR = 2026
# Interpreter, libraries and what clients' answers take beside model and caches.
_PROGRAM_BYTES = 120_000_000

_COOL = "give the board a heat sink or a fan, or lower draft.threads"
_SUPPLY = "take the board maker's own power supply (Raspberry Pi 5: 5 V, 5 A), and a short cable"


class MemoryNeed(msgspec.Struct, frozen=True):
    """What drafting takes, in bytes."""

    weights: int
    caches: int  # of all slots

    @property
    def total(self) -> int:
        """With the program itself."""
        return self.weights + self.caches + _PROGRAM_BYTES


def memory_finding(need: MemoryNeed, free_bytes: int | None) -> Finding:
    """Whether the model and the caches of all its slots fit into what is free."""
    needed = (
        f"model {gib(need.weights)} + caches {gib(need.caches)} + program {gib(_PROGRAM_BYTES)}"
    )
    if free_bytes is None:
        return ok("memory", f"{needed}; the kernel does not tell how much is free")
    sentence = f"{needed}, {gib(free_bytes)} free"
    smaller = "set a smaller draft.model, or lower draft.max_streams or draft.context_tokens"
    if need.weights + need.caches > free_bytes:
        return problem("memory", f"too little: {sentence}", smaller)
    if need.total > free_bytes:
        return warning("memory", f"no room to spare: {sentence}", smaller)
    return ok("memory", sentence)


def heat_findings(heat: Heat) -> Iterator[Finding]:
    """Temperature, throttling, supply; what a board cannot tell is left out."""
    yield _supply(heat)
    yield _temperature(heat)


def _supply(heat: Heat) -> Finding:
    subject = "supply"
    if heat.is_undervolted:
        return problem(
            subject, "the supply voltage is too low right now: the board may stop", _SUPPLY
        )
    if heat.was_undervolted:
        return warning(subject, "the supply voltage was too low since the board started", _SUPPLY)
    if heat.overcurrent_events:
        return warning(
            subject,
            f"the board slowed down {heat.overcurrent_events} times for too much current",
            "sudo nvpmodel -q says the mode of power; a lower one avoids it, a larger supply, too",
        )
    if heat.is_undervolted is None and heat.overcurrent_events is None:
        return ok(subject, "the board does not tell about its supply")
    return ok(subject, "the supply has held since the board started")


def _temperature(heat: Heat) -> Finding:
    subject = "heat"
    at = "" if heat.celsius is None else f" at {heat.celsius:.0f} °C"
    if heat.is_slowed:
        return warning(subject, f"the board is slowed down right now{at}", _COOL)
    if heat.celsius is not None and heat.celsius >= HOT_CELSIUS:
        return warning(subject, f"the board is hot{at}, and about to be slowed down", _COOL)
    if heat.was_slowed:
        return warning(subject, f"the board was slowed down since it started{_now(at)}", _COOL)
    if heat.celsius is None:
        return ok(subject, "the board does not tell its temperature")
    return ok(subject, f"{heat.celsius:.0f} °C")


def _now(at: str) -> str:
    return at and f"; it is{at} now"


def clock_finding(clock: Clock, uses_tls: bool) -> Finding:
    """A clock that was never set makes certificates invalid."""
    set_it = "sudo timedatectl set-ntp true"
    if clock.year < _FIRST_SANE_YEAR:
        sentence = f"the clock says {clock.year}"
        if uses_tls:
            return problem("clock", f"{sentence}, when no certificate was valid yet", set_it)
        return warning("clock", f"{sentence}, so the log's times are wrong", set_it)
    if clock.is_synchronised is False:
        return warning("clock", "the clock has not been set by the network yet", set_it)
    how = "set by the network" if clock.is_synchronised else "plausible"
    return ok("clock", f"the clock is {how}")
