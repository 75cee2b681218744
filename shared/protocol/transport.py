"""How messages travel: the verifier's paths, and the limits that stand on both ends of a websocket.

Pure. This module must never hold what only one end decides.
"""

from __future__ import annotations

DEVICE_PATH = "/v1/device"
VOCABULARY_PATH = "/v1/vocabulary"
# On a 503 of a verifier that loads its model: how much of it is done in per cent, or empty.
LOADING_HEADER = "X-Goodspeed-Loading"

# Messages that wait to be sent: a peer that reads nothing for this many is cut off. One round is
# one message a stream.
MAX_QUEUED_MESSAGES = 1024
# A peer that does not take a message for this long is gone, whatever its socket says.
SEND_TIMEOUT_SECONDS = 10.0

# Of a draft model's row, with a sampled draft token. Here, for settings are read before numpy is.
MAX_ROW_ENTRIES = 64

# Websocket frame header of a payload below 126 bytes, which nearly all are; a client's frames carry
# 4 bytes of mask.
BOARD_FRAME_HEADER_BYTES = 6
VERIFIER_FRAME_HEADER_BYTES = 2


def http_address(url: str, path: str) -> str:
    """Where a verifier that is known by its websocket's address answers requests of HTTP."""
    return "http" + url.removeprefix("ws").rstrip("/") + path
