"""Whether a Ray lets in who has no token: then every program of its network runs code there.

Asked as a stranger would, by a program of its own: a process shows itself in one way for ever.
"""

from __future__ import annotations

import subprocess
import sys

from verifier.keeper.ray_environment import strangers_environment

_ANSWER_SECONDS = 10.0
_MOST_SECONDS = 30.0


def lets_strangers_in(address: str) -> bool:
    """False, too, where nothing answers; who has a token finds that out."""
    command = [sys.executable, "-m", "verifier.keeper.open_cluster", address]
    environment = strangers_environment()
    try:
        asked = subprocess.run(
            command, env=environment, capture_output=True, timeout=_MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def main() -> None:
    """Read a name that Ray's head keeps, which fails where it asks for a token."""
    import ray._raylet

    client = ray._raylet.GcsClient(address=sys.argv[1])
    client.internal_kv_keys(b"", namespace=None, timeout=_ANSWER_SECONDS)


if __name__ == "__main__":
    main()
