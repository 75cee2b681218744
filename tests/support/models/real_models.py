"""The real models that `make test` pulls before it runs anything."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from edge_agent.models.presets import DEFAULT_MODEL, resolve
from shared.config.model_files import default_cache_dir
from shared.errors import ModelError


def real_model(name: str = DEFAULT_MODEL) -> Path:
    """Return the checked file of a pulled model, or fail with what to do about it.

    On a board (without torch) the test is skipped, which has not pulled them.
    """
    try:
        return resolve(name, default_cache_dir(os.environ))
    except ModelError as error:
        if find_spec("torch") is None:
            pytest.skip(f"a board without the models of the tests: {error}")
        pytest.fail(f"{error} (or run `make test`, which pulls what the tests need)")
