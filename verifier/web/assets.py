"""The files of the dashboard, as they lie in this package, by their path at the port.

Pure but for reading these files. This module must never know a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from shared.daemon.web_page import Asset, read_page

PAGE_PATH: Final = "/dashboard"
STATE_PATH: Final = "/dashboard/state"
_PARTS_PATH = "/dashboard/"


@cache
def read_assets() -> Mapping[str, Asset]:
    """All of them, which hold no secret; read once."""
    return read_page("verifier.web", PAGE_PATH, _PARTS_PATH)
