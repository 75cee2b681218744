"""`goodspeed-verifier devices`: who is there and how it goes; pause, weigh, cap, promise, label.

What is set goes into a file in the directory of state, which the running verifier takes over within
a second.
"""

from __future__ import annotations

import click
import msgspec

from shared.config.sections import Loaded
from shared.daemon.command_line import settings_options
from shared.daemon.peer_text import one_line, terminal_text
from verifier.commands.live_state import LiveDevice, NoState, read_live_state
from verifier.commands.printed_table import print_table
from verifier.commands.set_terms import device_setter, known_terms
from verifier.commands.settings import SETTINGS
from verifier.config import VerifierConfig
from verifier.engine.device_terms import (
    MAX_CAP,
    MAX_SLO_SECONDS,
    MAX_WEIGHT,
    MIN_WEIGHT,
    USUAL_TERMS,
    AllTerms,
    DeviceTerms,
)
from verifier.server.device_tokens import read_tokens

_EXAMPLES = """\b
Examples:
  goodspeed-verifier devices ls
  goodspeed-verifier devices pause kitchen
  goodspeed-verifier devices weight kitchen 2        # twice the share of a device of weight 1
  goodspeed-verifier devices cap kitchen 4           # draft tokens of a stream and round
  goodspeed-verifier devices slo kitchen 0.1         # a token in 0.1 s is promised to new streams
"""
_NOTHING = "–"
_COLUMNS = ("device", "state", "streams", "tokens/s", "accepted", "drafts/s", "RTT ms", "set")


@click.group(epilog=_EXAMPLES)
def devices() -> None:
    """List devices with live figures; pause, weigh, cap and label them, promise them tokens."""


@devices.command(name="ls")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@settings_options(SETTINGS)
def list_devices(loaded: Loaded[VerifierConfig], as_json: bool) -> None:
    """List all devices that have a token, with what is set and what the verifier measures."""
    config = loaded.config
    names, terms = sorted(read_tokens(config.server.tokens_file)), known_terms(config)
    live: dict[str, LiveDevice] = {}
    fault = ""
    try:
        live = read_live_state(config)
    except NoState as error:
        fault = str(error)
    if as_json:
        rows = [_row(name, terms, live.get(name)) for name in names]
        report = {"devices": rows, "fault": fault or None}
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    known = [(name, terms.by_device.get(name, USUAL_TERMS), live.get(name)) for name in names]
    print_table(_COLUMNS, [_cells(*one) for one in known])
    if fault:
        click.echo(f"live figures are missing: {terminal_text(fault)}", err=True)


@devices.command()
@device_setter
def pause(terms: DeviceTerms) -> DeviceTerms:
    """Let the streams of DEVICE wait until `resume`; they keep what they have."""
    return msgspec.structs.replace(terms, is_paused=True)


@devices.command()
@device_setter
def forget(terms: DeviceTerms) -> DeviceTerms:
    """Forget what was kept of DEVICE to make drafts of (online.draft), and keep nothing more."""
    return msgspec.structs.replace(terms, is_private=True)


@devices.command()
@device_setter
def learn(terms: DeviceTerms) -> DeviceTerms:
    """Let texts of DEVICE be kept again, where online.draft is set."""
    return msgspec.structs.replace(terms, is_private=False)


@devices.command()
@device_setter
def resume(terms: DeviceTerms) -> DeviceTerms:
    """Let a paused DEVICE go on."""
    return msgspec.structs.replace(terms, is_paused=False)


@devices.command()
@device_setter
@click.argument("weight", type=click.FloatRange(MIN_WEIGHT, MAX_WEIGHT))
def weight(terms: DeviceTerms, weight: float) -> DeviceTerms:
    """Let DEVICE have so many times the share of others; 1 is usual."""
    return msgspec.structs.replace(terms, weight=weight)


@devices.command()
@device_setter
@click.argument("tokens", metavar="TOKENS|none")
def cap(terms: DeviceTerms, tokens: str) -> DeviceTerms:
    """Let a stream of DEVICE draft at most so many tokens for a round; 0: none at all."""
    if tokens == "none":
        return msgspec.structs.replace(terms, cap=None)
    if not tokens.isdecimal() or int(tokens) > MAX_CAP:
        raise click.BadParameter(f"must be from 0 to {MAX_CAP}, or none", param_hint="TOKENS")
    return msgspec.structs.replace(terms, cap=int(tokens))


@devices.command()
@device_setter
@click.argument("seconds", metavar="SECONDS|usual")
def slo(terms: DeviceTerms, seconds: str) -> DeviceTerms:
    """Promise new streams of DEVICE a token in so many seconds; 0: nothing; usual: as all others.

    A stream for which that would break what others were promised waits for its start.
    """
    if seconds == "usual":
        return msgspec.structs.replace(terms, slo_token_seconds=None)
    try:
        promised = float(seconds)
    except ValueError:
        promised = -1.0
    if not 0.0 <= promised <= MAX_SLO_SECONDS:
        words = f"must be from 0 to {MAX_SLO_SECONDS:g}, or usual"
        raise click.BadParameter(words, param_hint="SECONDS")
    return msgspec.structs.replace(terms, slo_token_seconds=promised)


@devices.command()
@device_setter
@click.argument("label")
def rename(terms: DeviceTerms, label: str) -> DeviceTerms:
    """Show LABEL beside DEVICE; the name in its token stays. An empty one takes it away."""
    if len(label) > 80 or not (label.isprintable() or not label):
        raise click.BadParameter("must be up to 80 printable characters", param_hint="LABEL")
    return msgspec.structs.replace(terms, label=label)


def _row(name: str, terms: AllTerms, live: LiveDevice | None) -> dict[str, object]:
    set_terms = terms.by_device.get(name, USUAL_TERMS)
    return {
        "name": name,
        **{field: getattr(set_terms, field) for field in set_terms.__struct_fields__},
        "live": live,
    }


def _cells(name: str, terms: DeviceTerms, live: LiveDevice | None) -> list[str]:
    shown = f"{name} ({one_line(terms.label)})" if terms.label else name
    known = LiveDevice(name) if live is None else live
    state = "connected" if known.is_connected else "away"
    round_trip = known.round_trip_seconds
    return [
        shown,
        "paused" if terms.is_paused else state,
        str(known.num_streams),
        _number(known.goodput_tokens_per_second, ".1f"),
        _number(known.acceptance, ".2f"),
        _number(known.draft_tokens_per_second, ".1f"),
        _number(None if round_trip is None else round_trip * 1e3, ".1f"),
        _set(terms),
    ]


def _number(value: float | None, form: str) -> str:
    return _NOTHING if value is None else format(value, form)


def _set(terms: DeviceTerms) -> str:
    told = [f"weight {terms.weight:g}"] if terms.weight != 1.0 else []
    told += [f"cap {terms.cap}"] if terms.cap is not None else []
    slo_seconds = terms.slo_token_seconds
    told += [f"slo {slo_seconds:g} s"] if slo_seconds is not None else []
    told += [f"drafts {' '.join(terms.drafts)}"] if terms.drafts else []
    told += ["nothing kept"] if terms.is_private else []
    return ", ".join(told) or _NOTHING
