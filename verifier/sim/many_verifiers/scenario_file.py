"""A world of many verifiers from its TOML file and the files that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from shared.config.layers import ConfigFile, read_config_file
from shared.config.sections import load_config
from shared.config.toml_lines import find_lines, line_of
from shared.errors import ConfigError
from shared.speculation.goodput import IntArray
from verifier.sim.many_verifiers.arrivals import Arrivals
from verifier.sim.many_verifiers.drawing import Recorded
from verifier.sim.many_verifiers.scenario import ManyScenario
from verifier.sim.scenario_file import read_trace

MAX_REQUESTS = 10_000_000
_Tokens = Annotated[int, Meta(ge=1, le=1 << 20)]
_Request = tuple[Annotated[float, Meta(ge=0.0)], _Tokens, _Tokens]
_Read = TypeVar("_Read")


def read_many_scenario(path: Path) -> tuple[ManyScenario, Recorded]:
    """The scenario of a file, and what its devices replay; paths start beside it.

    Raises:
        ConfigError: with every problem of it, each with file, line and key.
    """
    file = read_config_file(path)
    scenario = load_config(ManyScenario, [file]).config
    problems: list[str] = []

    def read(section: str, trace: Path | None, reader: Callable[[Path], _Read]) -> _Read | None:
        try:
            return None if trace is None else reader(path.parent / trace)
        except ConfigError as error:
            problems.append(_told(file, section, error))
            return None

    recorded = Recorded(
        tokens=read("devices", scenario.devices.trace, _read_tokens),
        arrivals=read("requests", scenario.requests.trace, read_arrivals),
    )
    if problems:
        raise ConfigError(tuple(problems))
    return scenario, recorded


def _told(file: ConfigFile, section: str, error: ConfigError) -> str:
    line = line_of((section, "trace"), find_lines(file.text))
    return f"{file.name}:{line}: {section}.trace: {error.problems[0]}"


def _read_tokens(path: Path) -> IntArray:
    return np.array(read_trace(path)[0], dtype=np.int64)


def read_arrivals(path: Path) -> Arrivals:
    """Requests that were recorded.

    Raises:
        ConfigError: the file cannot be read, or holds anything else.
    """
    try:
        requests = msgspec.json.decode(path.read_bytes(), type=list[_Request])
    except OSError as error:
        raise ConfigError((f"{path} cannot be read: {error.strerror}",)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        words = "is no list of [seconds, prompt tokens, output tokens]"
        raise ConfigError((f"{path} {words}: {error}",)) from None
    if not 0 < len(requests) <= MAX_REQUESTS:
        raise ConfigError((f"{path} must hold 1 to {MAX_REQUESTS:,} requests",))
    times, prompts, outputs = zip(*requests, strict=True)
    asked_at = np.array(times, dtype=np.float64)
    if earlier := np.flatnonzero(np.diff(asked_at) < 0.0).tolist():
        words = f"request {earlier[0] + 1} comes before the one in front of it"
        raise ConfigError((f"{path}: {words}; they must be in the order of time",))
    return Arrivals(asked_at, np.array(prompts), np.array(outputs))
