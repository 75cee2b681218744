"""The border around the libraries that load models: whatever they raise is one sentence behind it.

It must never name a class of theirs: every new file finds another one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import GoodspeedError, ModelError

logger = logging.getLogger(__name__)


@contextmanager
def model_border(attempt: str) -> Iterator[None]:
    """Around all that loads a model; `attempt` begins the sentence (`cannot load X as a target`).

    Raises:
        ModelError: a library raised anything; the sentence ends with the first line of that.
    """
    try:
        yield
    except (GoodspeedError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of Rust code is no Exception
        logger.debug("%s", attempt, exc_info=True)
        raise ModelError(f"{attempt}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; its class where that alone would not be understood."""
    line, _, _ = str(error).strip().replace(":\n", ":").partition("\n")
    if isinstance(error, (OSError, ValueError, RuntimeError)) and line:
        return line.strip()
    name = type(error).__name__
    return f"{name}: {line.strip()}" if line else name
