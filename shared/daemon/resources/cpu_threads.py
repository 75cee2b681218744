"""How CPU threads of torch and llama.cpp wait for each other: spin for a moment, then sleep.

By default libgomp's threads spin for milliseconds, hundreds of times in a round, and take the core
from whatever the thread that they wait for shares it with. One round of 8 tokens of SmolLM2-135M
took 324 milliseconds (median) beside other programs, and 5.5 seconds with one more busy loop; with
this limit 31 and 83. With nothing else running, both take 29 (2 cores of an EPYC 9005, torch 2.13,
2026-11).
"""

from __future__ import annotations

from collections.abc import MutableMapping

SPIN_COUNT = 3000  # outlasts most pauses between the products of a layer


def limit_spinning(environ: MutableMapping[str, str]) -> None:
    """Set the limit in the environment, unless its user did; only before either is loaded."""
    environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
