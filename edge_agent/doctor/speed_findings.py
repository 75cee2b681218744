"""How fast the board drafts, and whether that pays at its verifier: what was measured. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from edge_agent.doctor.payoff import Measures, conditions, predicted_gain
from shared.doctor.findings import Finding, ok, warning

# A measured difference below these is noise on a machine that does something else, too.
_WORTH_SETTING = 1.25
_AS_FAST = 0.9
_PAYS = 1.05
_FEWEST_TOKENS = 8  # of each kind; less says nothing


def thread_counts(num_cores: int, configured: int) -> tuple[int, ...]:
    """Numbers of threads that are worth measuring, the configured one first."""
    few = range(1, min(num_cores, 4) + 1)
    counts = sorted({*few, num_cores // 2, num_cores} - {0, configured})
    return (configured, *counts)


def threads_finding(speeds: Mapping[int, float], configured: int) -> Finding:
    """Tokens per second by number of threads, and which number to set."""
    best = best_threads(speeds)
    sentence = (
        f"{speeds[configured]:.0f} tokens/s with draft.threads = {configured} "
        f"({by_threads(speeds)})"
    )
    if speeds[best] > _WORTH_SETTING * speeds[configured]:
        return warning(
            "threads",
            f"{sentence}; {best} are faster as long as nothing else needs these cores",
            f"set draft.threads = {best}",
        )
    return ok("threads", sentence)


def best_threads(speeds: Mapping[int, float]) -> int:
    """The fewest that are as fast as the fastest number of them."""
    fastest = max(speeds.values())
    return min(threads for threads, speed in speeds.items() if speed >= _AS_FAST * fastest)


def by_threads(speeds: Mapping[int, float]) -> str:
    """Tokens per second for people: `1: 135, 2: 160`."""
    return ", ".join(f"{threads}: {speed:.0f}" for threads, speed in sorted(speeds.items()))


def faster_model(speeds: Mapping[str, float], configured: str) -> str | None:
    """The fastest of a family, if it is much faster than the configured one."""
    best = max(speeds, key=speeds.__getitem__)
    return best if speeds[best] > _WORTH_SETTING * speeds[configured] else None


def quantisation_finding(
    speeds: Mapping[str, float], configured: str, absent: str | None = None
) -> Finding:
    """Tokens per second by model, of those of one family that are here.

    `absent`: a draft that was made for the model, and is not here.
    """
    own = speeds[configured]
    others = {name: speed for name, speed in speeds.items() if name != configured}
    if absent is not None:
        return warning(
            "quantisation",
            f"{absent} was made to draft for {configured}, is many times as fast, and is not here",
            f"goodspeed-agent model pull {absent}, set draft.model = {absent}, then doctor again",
        )
    if not others:
        return ok("quantisation", "no other draft of this family is here to compare")
    measured = ", ".join(f"{name} {speed / own:.2f}" for name, speed in others.items())
    sentence = f"tokens/s of others over those of {configured}: {measured}"
    best = faster_model(speeds, configured)
    if best is not None:
        sentence += f"; set draft.model = {best} if as many of its drafts are accepted"
    return ok("quantisation", sentence)


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Real generations at this verifier, with drafts and without, added up."""

    tokens_with: int
    seconds_with: float
    tokens_without: int
    seconds_without: float
    survived_tokens: int  # of drafts
    rejections: int  # draft tokens that were the first of their path to differ

    @property
    def gain(self) -> float:
        """Tokens per second with drafts over those without."""
        return self.speed_with / self.speed_without

    @property
    def speed_with(self) -> float:
        """Tokens per second."""
        return self.tokens_with / self.seconds_with

    @property
    def speed_without(self) -> float:
        """Tokens per second."""
        return self.tokens_without / self.seconds_without

    @property
    def acceptance_rate(self) -> float:
        """The chance of one draft token to survive."""
        return self.survived_tokens / max(1, self.survived_tokens + self.rejections)


def pays_finding(trial: Trial, draft_token_seconds: float, round_trip_seconds: float) -> Finding:
    """Whether this board makes text faster at this verifier, and what would."""
    if min(trial.tokens_with, trial.tokens_without) < _FEWEST_TOKENS:
        return warning(
            "pays",
            "too few tokens came in time to judge whether drafts pay",
            "goodspeed-agent doctor, while the verifier has less to do",
        )
    sentence = (
        f"{trial.speed_with:.1f} tokens/s with drafts, {trial.speed_without:.1f} without "
        f"({trial.gain:.2f} times), {100 * trial.acceptance_rate:.0f} % of draft tokens accepted, "
        f"round trip {round_trip_seconds * 1e3:.1f} ms"
    )
    if trial.gain > _PAYS:
        return ok("pays", f"this board pays: {sentence}")
    if not trial.survived_tokens + trial.rejections:
        sentence += "; the verifier asked for no draft at all"
    measures = Measures(
        acceptance_rate=min(trial.acceptance_rate, 0.99),
        draft_token_seconds=draft_token_seconds,
        round_trip_seconds=round_trip_seconds,
        round_seconds=1 / trial.speed_without,
    )
    return warning("pays", f"this board does not pay: {sentence}", " or ".join(_remedies(measures)))


def _remedies(measures: Measures) -> Iterator[str]:
    gain = predicted_gain(measures)
    would = list(conditions(measures))
    if would:
        yield from (f"it takes {would[0]}", *would[1:])
    elif gain > _PAYS:
        yield (
            f"by its speed it should gain {gain:.1f} times: give verifier and board a processor "
            "each, and see what else runs there"
        )
    else:
        yield "set draft.model to a model of the target's family that drafts faster"
