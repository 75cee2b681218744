"""Who may take a device's connection over: the same agent always, others a few times."""

from __future__ import annotations

from verifier.server.takeovers import MAX_TAKEOVERS, QUIET_SECONDS, Takeovers


def fight(takeovers: Takeovers, num_attempts: int, now: float = 0.0) -> list[bool]:
    """Two agents in turn, one second apart."""
    allowed = []
    for i in range(num_attempts):
        allowed.append(takeovers.is_allowed(1 + i % 2, now + i))
        if allowed[-1]:
            takeovers.connect(1 + i % 2)
    return allowed


def connected(instance_id: int) -> Takeovers:
    takeovers = Takeovers()
    takeovers.connect(instance_id)
    return takeovers


def test_the_same_agent_takes_over_as_often_as_its_link_breaks() -> None:
    takeovers = connected(7)
    assert all(takeovers.is_allowed(7, now / 10) for now in range(100))


def test_others_take_over_a_few_times_and_then_the_one_that_is_there_stays() -> None:
    takeovers = connected(2)
    allowed = fight(takeovers, MAX_TAKEOVERS + 2)
    assert [True] * MAX_TAKEOVERS + [False] == allowed[: MAX_TAKEOVERS + 1]
    last = 1 + (MAX_TAKEOVERS - 1) % 2
    assert takeovers.is_allowed(last, MAX_TAKEOVERS + 3.0)


def test_who_keeps_trying_stays_refused() -> None:
    takeovers = connected(2)
    fight(takeovers, MAX_TAKEOVERS)
    assert not any(takeovers.is_allowed(9, 10.0 + 60.0 * i) for i in range(100))


def test_after_a_while_of_peace_an_agent_may_take_over_again() -> None:
    takeovers = connected(2)
    fight(takeovers, MAX_TAKEOVERS)
    assert takeovers.is_allowed(9, MAX_TAKEOVERS + QUIET_SECONDS)


def test_agents_that_tell_no_id_are_never_the_same() -> None:
    takeovers = connected(0)
    allowed = [takeovers.is_allowed(0, float(now)) for now in range(MAX_TAKEOVERS + 1)]
    assert [True] * MAX_TAKEOVERS + [False] == allowed
