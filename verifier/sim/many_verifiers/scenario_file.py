"""A world of many verifiers from its TOML file and the trace that it names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.config.layers import read_config_file
from shared.config.sections import load_config
from shared.config.toml_lines import find_lines, line_of
from shared.errors import ConfigError
from shared.speculation.goodput import IntArray
from verifier.sim.many_verifiers.scenario import ManyScenario
from verifier.sim.scenario_file import read_trace


def read_many_scenario(path: Path) -> tuple[ManyScenario, IntArray | None]:
    """The scenario of a file, and the recorded bits that its devices replay, if any.

    Raises:
        ConfigError: with every problem of it, each with file, line and key.
    """
    file = read_config_file(path)
    scenario = load_config(ManyScenario, [file]).config
    if scenario.devices.trace is None:
        return scenario, None
    try:
        bits, _ = read_trace(path.parent / scenario.devices.trace)
    except ConfigError as error:
        line = line_of(("devices", "trace"), find_lines(file.text))
        raise ConfigError((f"{file.name}:{line}: devices.trace: {error.problems[0]}",)) from None
    return scenario, np.array(bits, dtype=np.int64)
