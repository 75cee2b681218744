"""Pictures as bytes, by matplotlib (the extra `plot`); the same picture has the same bytes."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

from shared.errors import GoodspeedError

FORMATS = ("svg", "png", "pdf")


def check_matplotlib(wanted_by: str) -> None:
    """Before a run that takes long.

    Raises:
        GoodspeedError: there is none.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise GoodspeedError(f"{wanted_by} needs matplotlib: pip install 'goodspeed[plot]'")


def check_plotting(file: Path) -> None:
    """The same, and the name of the file that --plot names.

    Raises:
        GoodspeedError: there is no matplotlib, or the file's name says no format.
    """
    if file.suffix[1:] not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS[:-1]) + f" or .{FORMATS[-1]}"
        raise GoodspeedError(f"--plot {file}: the name must end with {endings}")
    check_matplotlib("--plot")


def panels(num_rows: int, num_columns: int, size_inches: tuple[float, float]) -> tuple[Any, Any]:
    """A figure and its axes [num_rows][num_columns]."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "goodspeed"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        num_rows, num_columns, figsize=size_inches, layout="constrained", squeeze=False
    )
    return figure, axes


def written(figure: Any, file_format: str) -> bytes:
    """The bytes of a figure, which is closed."""
    from matplotlib import pyplot

    buffer = io.BytesIO()
    metadata = {"Date": None} if file_format == "svg" else None
    figure.savefig(buffer, format=file_format, metadata=metadata)
    pyplot.close(figure)
    return buffer.getvalue()
