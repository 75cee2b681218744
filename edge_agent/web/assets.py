"""The page of the web chat by its path on the board, made of the files in this package.

Pure but for reading these files. This module must never know a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from shared.web.served_page import Asset, read_page

PAGE_PATH: Final = "/"


@cache
def read_assets() -> Mapping[str, Asset]:
    """Read once."""
    return {PAGE_PATH: read_page("edge_agent.web")}
