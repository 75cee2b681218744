"""Drafts that come with the repository: small ones, made for their target."""

from __future__ import annotations

import shutil
from pathlib import Path

from edge_agent.models.presets import ShippedModel
from shared.errors import ModelError

SHIPPED_DRAFTS = Path(__file__).parents[2] / "devices" / "drafts"


def copy_shipped(preset: ShippedModel, to: Path, directory: Path = SHIPPED_DRAFTS) -> None:
    """Copy a draft out of the checkout that this program runs from.

    Raises:
        ModelError: there is none; a verifier may offer it, or a path name it.
    """
    path = directory / f"{preset.name}.gguf"
    if not path.is_file():
        raise ModelError(
            f"{preset.name} comes with goodspeed's repository (devices/drafts), and this is no "
            "checkout of it; pull it from a verifier that offers it, or name the file by its path"
        )
    shutil.copyfile(path, to)
