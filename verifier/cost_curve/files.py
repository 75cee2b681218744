"""Cost curves as files in the directory of state: `profile` and `run` write them, `run` reads."""

from __future__ import annotations

import logging
from pathlib import Path

from shared.errors import ModelError
from verifier.cost_curve.curve import CostCurve, CurveSubject

logger = logging.getLogger(__name__)


def curve_path(directory: Path, model_name: str) -> Path:
    """Where the curve of a model is kept."""
    return directory / f"{model_name}.curve.json"


def read_curve(path: Path, subject: CurveSubject) -> CostCurve | None:
    """The saved curve, or none with a warning that says why it cannot be used."""
    if not path.exists():
        return None
    try:
        return CostCurve.from_json(path.read_bytes(), subject)
    except ModelError as error:
        logger.warning("%s: %s; measuring again", path, error)
        return None


def write_curve(path: Path, curve: CostCurve) -> None:
    """Replace the file in one step: a reader finds the old curve or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_bytes(curve.to_json())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
