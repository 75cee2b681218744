"""The files of the web chat, as they lie in this package, by their path on the board.

Pure but for reading these files. This module must never know a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from shared.daemon.web_page import Asset, read_page

PAGE_PATH: Final = "/"
_PARTS_PATH = "/web/"


@cache
def read_assets() -> Mapping[str, Asset]:
    """All of them; read once."""
    return read_page("edge_agent.web", PAGE_PATH, _PARTS_PATH)
