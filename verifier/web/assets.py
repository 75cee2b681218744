"""The page of the dashboard by its path at the port, made of the files in this package.

Pure but for reading these files. This module must never know a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from shared.web.served_page import Asset, read_page

PAGE_PATH: Final = "/dashboard"
STATE_PATH: Final = "/dashboard/state"


@cache
def read_assets() -> Mapping[str, Asset]:
    """All of them, which hold no secret; read once."""
    return {PAGE_PATH: read_page("verifier.web")}
