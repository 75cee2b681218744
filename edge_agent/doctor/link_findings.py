"""What was found on the way to the verifier: transport, round trip, handshake. Pure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from shared.config.addresses import is_loopback, is_near
from shared.doctor.findings import Finding, ok, problem, warning
from shared.errors import (
    AuthRejected,
    ConfigError,
    GoodspeedError,
    HandshakeRejected,
    UntrustedVerifier,
    VerifierLoading,
)

# Drafts that come so much later than expected miss their round more often than not.
_MUCH_JITTER_SECONDS = 0.03


class RoundTrips(msgspec.Struct, frozen=True):
    """Requests and their answers over one connection that stands."""

    median_seconds: float
    jitter_seconds: float  # the mean difference between one and the next
    num_samples: int


class Greeting(msgspec.Struct, frozen=True):
    """What the verifier said to a board that it welcomes."""

    target_model: str
    num_shared: int  # ids that draft and target both have
    num_lacked: int  # ids of the draft model that the target lacks


def round_trips(samples: Sequence[float]) -> RoundTrips:
    """The middle and the jitter of at least two samples, in seconds."""
    steps = [abs(later - sooner) for sooner, later in itertools.pairwise(samples)]
    return RoundTrips(statistics.median(samples), statistics.fmean(steps), len(samples))


def transport_finding(url: str) -> Finding:
    """Who can read along on the way to the verifier."""
    host = urlsplit(url).hostname or ""
    if url.startswith("wss:"):
        return ok("transport", f"{url}: TLS")
    if is_loopback(host):
        return ok("transport", f"{url}: plain text within this machine")
    if is_near(host):
        return ok("transport", f"{url}: plain text; machines of the private network can read along")
    return warning(
        "transport",
        f"{url}: plain text over a public network: prompts, answers and the token can be read",
        "goodspeed-verifier init --private-ca, on the verifier; set verifier.url = wss://… and "
        "verifier.ca_file",
    )


def round_trip_finding(trips: RoundTrips) -> Finding:
    """How long messages travel, and how evenly."""
    sentence = (
        f"round trip {trips.median_seconds * 1e3:.1f} ms, jitter "
        f"{trips.jitter_seconds * 1e3:.1f} ms ({trips.num_samples} requests)"
    )
    if trips.jitter_seconds > _MUCH_JITTER_SECONDS:
        return warning(
            "network",
            f"{sentence}: drafts come too late for their rounds",
            "take a cable, or turn Wi-Fi's power saving off: sudo iw dev wlan0 set power_save off",
        )
    return ok("network", sentence)


def greeting_finding(greeting: Greeting) -> Finding:
    """Token and vocabulary are accepted."""
    lacked = f", {greeting.num_lacked} are never drafted" if greeting.num_lacked else ""
    return ok(
        "verifier",
        f"accepts this board's token; {greeting.target_model} shares {greeting.num_shared} ids "
        f"with the draft model{lacked}",
    )


def refusal_finding(error: GoodspeedError, url: str) -> Finding:
    """Why there is no connection, by the error of the attempt."""
    sentence = str(error).replace("\n", "; ")
    match error:
        case ConfigError():
            return problem("token", sentence, "goodspeed-verifier token add NAME, on the verifier")
        case AuthRejected():
            return problem(
                "token",
                sentence,
                "goodspeed-verifier token add NAME, on the verifier; its output goes to "
                "verifier.token_file",
            )
        case UntrustedVerifier():
            return problem(
                "transport",
                sentence,
                "goodspeed-verifier init --private-ca, on the verifier, says what a board sets",
            )
        case VerifierLoading():
            return problem("verifier", sentence, "goodspeed-agent doctor again in a minute")
        case HandshakeRejected():
            return problem(
                "verifier",
                sentence,
                "set draft.model to a model of the target's family, or to nothing: n-grams alone",
            )
    return problem(
        "verifier",
        sentence,
        f"see that the verifier runs (sudo systemctl status goodspeed-verifier, on its machine) "
        f"and that verifier.url = {url} is its address",
    )
