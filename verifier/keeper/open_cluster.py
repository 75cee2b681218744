"""Whether a Ray lets in who has no token: then every program of its network runs code there."""

from __future__ import annotations

import subprocess
import sys

from verifier.keeper.ray_environment import strangers_environment

_STATUS_SECONDS = 20.0


def lets_strangers_in(address: str) -> bool:
    """Asked as a stranger would, in a process of its own: a process has one way to show itself."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        asked = subprocess.run(
            command,
            env=strangers_environment(),
            capture_output=True,
            timeout=_STATUS_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0
