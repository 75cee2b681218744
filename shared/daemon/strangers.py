"""How much those may ask for who have not shown who they are: for each address, and all together.

What an address has asked for is a debt that it works off at a steady pace. Up to a burst it costs
nothing; beyond that answers wait their turn, and further still the address is not let in. A
peer with the right token owes nothing, so boards that all come back at once, from one address or
many, are let in as fast as they come.

Pure: `now` is an argument. This module must never know what a token is.
"""

from __future__ import annotations

import ipaddress

import msgspec

from shared.config.addresses import is_loopback

# Beside a request without a token, which costs 1.
WRONG_TOKEN_COST = 5.0
NOISE_COST = 1.0  # of a connection that came to no request
SILENCE_COST = 0.1  # of one that said nothing: boards come back in crowds, and some give up
# An answer that would have to wait for longer is a 429, and its address is not let in meanwhile.
MOST_SECONDS = 5.0
# A debt grows no further: however much was asked for, all is forgotten after so long.
MOST_DEBT_SECONDS = 10.0
# A proxy on this machine stands for many; it had better limit each of them itself.
LOOPBACK_SHARE = 5.0
# Addresses that are remembered; beyond that, strangers share one account.
MOST_ADDRESSES = 10_000
_ANYBODY_ELSE = ""


class Pace(msgspec.Struct, frozen=True):
    """How much may be asked for."""

    per_second: float
    burst: float  # at once

    def times(self, factor: float) -> Pace:
        """The pace of so many."""
        return Pace(self.per_second * factor, self.burst * factor)


class StrangerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Requests without a token: 200 of them take 5 % of an event loop (2 cores, 2026-11)."""

    of_address: Pace = Pace(20.0, 100.0)
    together: Pace = Pace(200.0, 1000.0)

    @classmethod
    def at(cls, per_second: float) -> StrangerLimits:
        """Those of so many requests a second from one address; all others as by default."""
        factor = per_second / STRANGER_LIMITS.of_address.per_second
        return cls(
            of_address=STRANGER_LIMITS.of_address.times(factor),
            together=STRANGER_LIMITS.together.times(factor),
        )


STRANGER_LIMITS = StrangerLimits()


class Debt:
    """What was asked for at a pace and is not worked off yet."""

    __slots__ = ("_amount", "_pace", "_since")

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._amount = 0.0
        self._since = 0.0

    def add(self, cost: float, now: float) -> None:
        """Owe so much more."""
        most = self._pace.burst + MOST_DEBT_SECONDS * self._pace.per_second
        self._amount = min(self.at(now) + cost, most)
        self._since = now

    def at(self, now: float) -> float:
        """What is left of it."""
        elapsed = max(now - self._since, 0.0)
        return max(self._amount - elapsed * self._pace.per_second, 0.0)

    def seconds_until_turn(self, now: float) -> float:
        """Until no more is left than may be asked for at once."""
        return max(self.at(now) - self._pace.burst, 0.0) / self._pace.per_second


class Strangers:
    """All addresses that owe something."""

    def __init__(self, limits: StrangerLimits) -> None:
        self.limits = limits
        self.num_refused = 0  # requests and connections that were too many
        self._debts: dict[str, Debt] = {}
        self._together = Debt(limits.together)
        self._known: dict[str, None] = {}  # that a token came from; the oldest first

    def charge(self, address: str, cost: float, now: float) -> None:
        """A stranger has asked for something."""
        place = _network_of(address)
        self._debt_of(place, now).add(cost, now)
        if place not in self._known:
            self._together.add(cost, now)

    def welcome(self, address: str) -> None:
        """A right token came from there: what others do elsewhere no longer counts against it."""
        place = _network_of(address)
        self._known.pop(place, None)
        self._known[place] = None
        if len(self._known) > MOST_ADDRESSES:
            del self._known[next(iter(self._known))]

    def seconds_until_turn(self, address: str, now: float) -> float:
        """How long the address has to wait for what it has asked for; 0: not at all."""
        place = _network_of(address)
        debt = self._debts.get(place) or self._debts.get(_ANYBODY_ELSE)
        seconds = 0.0 if debt is None else debt.seconds_until_turn(now)
        if place not in self._known:
            seconds = max(seconds, self._together.seconds_until_turn(now))
        return seconds

    def is_too_much(self, address: str, now: float) -> bool:
        """Whether the address has asked for more than it can wait for; counts the refusal."""
        is_over = self.seconds_until_turn(address, now) > MOST_SECONDS
        self.num_refused += is_over
        return is_over

    def _debt_of(self, place: str, now: float) -> Debt:
        if place not in self._debts and len(self._debts) >= MOST_ADDRESSES:
            self._debts = {one: debt for one, debt in self._debts.items() if debt.at(now)}
            if len(self._debts) >= MOST_ADDRESSES:
                place = _ANYBODY_ELSE
        if place not in self._debts:
            pace = self.limits.of_address
            self._debts[place] = Debt(pace.times(LOOPBACK_SHARE) if is_loopback(place) else pace)
        return self._debts[place]


def _network_of(address: str) -> str:
    """The address; of IPv6 the first 64 bits: who has one address there has all of them."""
    if ":" not in address or is_loopback(address):
        return address
    try:
        number = int(ipaddress.IPv6Address(address.partition("%")[0]))
    except ValueError:
        return address
    return f"{number >> 64:x}::"
