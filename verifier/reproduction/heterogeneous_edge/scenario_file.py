"""A heterogeneous edge network from its TOML file; every problem at once."""

from __future__ import annotations

from pathlib import Path

from shared.config.layers import ConfigFile, read_config_file
from shared.config.sections import load_config
from shared.config.toml_lines import find_lines, line_of
from shared.errors import ConfigError
from verifier.reproduction.heterogeneous_edge.scenario import EdgeScenario


def read_edge_scenario(path: Path) -> EdgeScenario:
    """The scenario of a file; keys that it does not have are the paper's.

    Raises:
        ConfigError: with every problem of it, each with file, line and key.
    """
    file = read_config_file(path)
    scenario = load_config(EdgeScenario, [file]).config
    if scenario.longest_request_bytes > scenario.stations.cache_bytes:
        raise ConfigError((_no_room(scenario, file),))
    return scenario


def _no_room(scenario: EdgeScenario, file: ConfigFile) -> str:
    line = line_of(("stations", "small_memory_gigabytes"), find_lines(file.text))
    where = file.name if line is None else f"{file.name}:{line}"
    stations = scenario.stations
    wanted = scenario.longest_request_bytes - stations.cache_bytes
    wanted_gigabytes = stations.small_memory_gigabytes + 1e-9 * wanted
    return (
        f"{where}: stations.small_memory_gigabytes = {stations.small_memory_gigabytes:g}: must be "
        f"at least {wanted_gigabytes:.2f}, the weights of {stations.draft_model} and the cache of "
        "the longest request"
    )
