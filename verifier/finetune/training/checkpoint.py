"""How far a training is, on disk: whatever interrupts it, a whole checkpoint is there, or none."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch

from shared.daemon.files import move_into_place
from shared.errors import ModelError
from verifier.finetune.training.student import Student


@dataclass(frozen=True, slots=True)
class Reached:
    """What a training had behind it."""

    seconds: float
    num_steps: int
    total_seconds: float  # it was to take


def keep(student: Student, reached: Reached, path: Path) -> None:
    """Write a checkpoint in one step.

    Raises:
        OSError: it cannot be written; the last one stays.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        numbers = [reached.seconds, float(reached.num_steps), reached.total_seconds]
        torch.save({"student": student.state(), "reached": numbers}, fresh)
        move_into_place(fresh, path)
    except RuntimeError as error:  # torch's word for a full disk
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)


def reached_in(path: Path) -> Reached:
    """How far the training of a checkpoint was.

    Raises:
        ModelError: the file is broken.
    """
    return _read(path)[1]


def restore(student: Student, path: Path) -> Reached:
    """Put the student where it was.

    Raises:
        ModelError: the file is broken, or of another draft.
    """
    state, reached = _read(path)
    try:
        student.restore(state)
    except (RuntimeError, KeyError, ValueError) as error:
        raise _cannot_go_on(path, error) from error
    return reached


def _read(path: Path) -> tuple[dict[str, object], Reached]:
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        seconds, num_steps, total_seconds = kept["reached"]
        return kept["student"], Reached(seconds, int(num_steps), total_seconds)
    except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise _cannot_go_on(path, error) from error


def _cannot_go_on(path: Path, error: Exception) -> ModelError:
    return ModelError(f"cannot go on from {path}: {error}; delete it to begin anew")
