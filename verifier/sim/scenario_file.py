"""A scenario from its TOML file and the files that it names; every problem at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.config.layers import (
    ConfigFile,
    Origin,
    Problem,
    Setting,
    read_config_file,
    read_layers,
)
from shared.config.sections import load_table
from shared.config.toml_lines import find_lines, line_of
from shared.config.words import did_you_mean
from shared.errors import ConfigError, ModelError
from shared.speculation.confidence import MAX_CONFIDENCE, UNKNOWN_CONFIDENCE
from verifier.configured_rounds import configured_policy
from verifier.cost_curve.curve import CostCurve
from verifier.rounds.settings import RoundsSection
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection

_TABLES = ("scenario", "target", "rounds", "boards")
MAX_TRACE_TOKENS = 10_000_000
# Right or not; where the board told how sure it was, a pair with that.
TracedToken = int | tuple[int, Annotated[int, Meta(ge=0, le=MAX_CONFIDENCE)]]


def read_scenario(path: Path) -> Scenario:
    """The scenario of a file.

    Raises:
        ConfigError: with every problem of it, each with file, line and key.
    """
    file = read_config_file(path)
    problems: list[Problem] = []
    tables: dict[str, list[Setting]] = {}
    for item in read_layers([file], {}, {}):
        if isinstance(item, Problem):
            problems.append(item)
        elif item.path[0] not in _TABLES:
            problems.append(_unknown_table(item))
        elif len(item.path) == 1:
            words = f"{item.key}: must be a table, [{item.key}]"
            problems.append(Problem(item.origin, words))
        else:
            tables.setdefault(item.path[0], []).append(item)
    run, wrong = load_table("scenario", ScenarioSection, tables.get("scenario", []))
    target, wrong_target = load_table("target", TargetSection, tables.get("target", []))
    rounds, wrong_rounds = load_table("rounds", RoundsSection, tables.get("rounds", []))
    problems += wrong + wrong_target + wrong_rounds
    boards: dict[str, BoardGroup] = {}
    for name, settings in _groups(tables.get("boards", []), file, problems):
        boards[name], wrong = load_table(f"boards.{name}", BoardGroup, settings)
        problems += wrong
    if not boards and not problems:
        words = "boards: no board is there; add [boards.NAME]"
        problems.append(Problem(Origin(0, 0, file.name), words))
    scenario = Scenario(name=path.stem, run=run, target=target, rounds=rounds, boards=boards)
    if not problems:
        problems += _misfits(scenario, file)
    if not problems:
        scenario, problems = _with_files(scenario, file, path.parent)
    if problems:
        raise ConfigError(tuple(str(problem) for problem in sorted(problems)))
    return scenario


def _groups(
    settings: Sequence[Setting], file: ConfigFile, problems: list[Problem]
) -> Iterator[tuple[str, list[Setting]]]:
    """Each group's settings with the lines that they stand on."""
    for group in settings:
        name = group.path[1]
        if not isinstance(group.value, dict):
            words = f"{group.key}: must be a table, [boards.NAME] with its keys below"
            problems.append(Problem(group.origin, words))
            continue
        yield (
            name,
            [
                Setting((f"boards.{name}", key), value, _origin(file, ("boards", name, key)))
                for key, value in group.value.items()
            ],
        )


def _origin(file: ConfigFile, path: tuple[str, ...]) -> Origin:
    line = line_of(path, find_lines(file.text))
    name = file.name if line is None else f"{file.name}:{line}"
    return Origin(layer=0, line=line or 0, name=name)


def _unknown_table(setting: Setting) -> Problem:
    meant = did_you_mean(setting.path[0], _TABLES)
    hint = f" (did you mean {meant}?)" if meant else ""
    return Problem(setting.origin, f"{setting.path[0]}: unknown table{hint}")


def _misfits(scenario: Scenario, file: ConfigFile) -> Iterator[Problem]:
    """What cannot be played together."""
    num_streams = sum(group.count * group.streams for group in scenario.boards.values())
    if scenario.rounds.max_round_tokens < num_streams:
        words = (
            f"rounds.max_round_tokens = {scenario.rounds.max_round_tokens}: must be at least "
            f"{num_streams}, a token for each stream"
        )
        yield Problem(_origin(file, ("rounds", "max_round_tokens")), words)
    for name, group in scenario.boards.items():
        if group.joins_at_seconds >= scenario.run.seconds:
            words = (
                f"boards.{name}.joins_at_seconds = {group.joins_at_seconds:g}: must be less than "
                f"scenario.seconds = {scenario.run.seconds:g}"
            )
            yield Problem(_origin(file, ("boards", name, "joins_at_seconds")), words)
        if group.slo_milliseconds and scenario.rounds.barrier:
            words = (
                f"boards.{name}.slo_milliseconds = {group.slo_milliseconds:g}: must be left out "
                "with rounds.barrier, whose rounds wait for every board"
            )
            yield Problem(_origin(file, ("boards", name, "slo_milliseconds")), words)


def _with_files(
    scenario: Scenario, file: ConfigFile, directory: Path
) -> tuple[Scenario, list[Problem]]:
    """The scenario with what the files hold that it names; paths start beside it."""
    problems: list[Problem] = []
    traces: dict[Path, tuple[bool, ...]] = {}
    trace_confidences: dict[Path, bytes] = {}
    for name, group in scenario.boards.items():
        if group.trace is not None:
            try:
                trace = read_trace(directory / group.trace)
                traces[group.trace], trace_confidences[group.trace] = trace
            except ConfigError as error:
                origin = _origin(file, ("boards", name, "trace"))
                problems.append(Problem(origin, f"boards.{name}.trace: {error.problems[0]}"))
    curve_json = None
    if scenario.target.curve is not None:
        try:
            curve_json = _read_bytes(directory / scenario.target.curve)
            CostCurve.from_json(curve_json)
        except (ConfigError, ModelError) as error:
            sentence = error.problems[0] if isinstance(error, ConfigError) else str(error)
            origin = _origin(file, ("target", "curve"))
            problems.append(Problem(origin, f"target.curve: {sentence}"))
    rounds = _found_beside(scenario.rounds, directory)
    try:
        configured_policy(rounds)
    except ConfigError as error:
        # Each begins with the key of the file that is wrong.
        for sentence in error.problems:
            key = sentence.partition(":")[0]
            problems.append(Problem(_origin(file, tuple(key.split("."))), sentence))
    whole = msgspec.structs.replace(
        scenario,
        rounds=rounds,
        traces=traces,
        trace_confidences=trace_confidences,
        curve_json=curve_json,
    )
    return whole, problems


def _found_beside(rounds: RoundsSection, directory: Path) -> RoundsSection:
    """With the files that it names as paths from where the program runs."""
    named = {key: getattr(rounds, key) for key in ("awc_weights", "awc_waiting_weights")}
    found = {key: directory / file for key, file in named.items() if file is not None}
    return msgspec.structs.replace(rounds, **found)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError((f"{path} cannot be read: {error.strerror}",)) from None


def read_trace(path: Path) -> tuple[tuple[bool, ...], bytes]:
    """Which tokens were right, and how sure the board was of each, where it told.

    Raises:
        ConfigError: the file cannot be read, or holds anything else.
    """
    try:
        tokens = msgspec.json.decode(_read_bytes(path), type=tuple[TracedToken, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError((f"{path} is no list of 0 and 1: {error}",)) from None
    pairs = [(token, UNKNOWN_CONFIDENCE) if isinstance(token, int) else token for token in tokens]
    bits = [bit for bit, _ in pairs]
    if not 0 < len(bits) <= MAX_TRACE_TOKENS or set(bits) - {0, 1}:
        raise ConfigError((f"{path} must hold 1 to {MAX_TRACE_TOKENS:,} numbers, each 0 or 1",))
    return tuple(bit == 1 for bit in bits), bytes([confidence for _, confidence in pairs])
