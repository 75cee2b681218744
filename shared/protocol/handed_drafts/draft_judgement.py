"""What was measured of drafts on held-out texts: told by a board, kept by a verifier.

Pure. A report is JSON, so that people and programs read it, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.errors import RequestRefused

Rate = Annotated[float, Meta(ge=0.0, le=1.0)]


class DraftJudgement(msgspec.Struct, frozen=True):
    """Of one file, by its checksum."""

    name: str
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    num_bytes: Annotated[int, Meta(ge=1)]
    tokens_per_second: Annotated[float, Meta(gt=0.0)]  # of the machine that judged, one thread
    drawn_per_second: Annotated[float, Meta(gt=0.0)]  # with draws
    accepted: Mapping[str, Mapping[str, Rate]]  # by way to accept, by domain

    @property
    def acceptance(self) -> float:
        """The mean over ways and domains, each of which counts the same."""
        means = [sum(found.values()) / len(found) for found in self.accepted.values() if found]
        return sum(means) / len(means) if means else 0.0


def pack_judgements(judgements: Sequence[DraftJudgement]) -> bytes:
    """As indented JSON."""
    return msgspec.json.format(msgspec.json.encode(list(judgements)))


def unpack_judgements(packed: bytes, name: str) -> tuple[DraftJudgement, ...]:
    """What the file `name` holds.

    Raises:
        RequestRefused: that is no list of judgements.
    """
    try:
        return msgspec.json.decode(packed, type=tuple[DraftJudgement, ...])
    except msgspec.MsgspecError as error:
        made = "`goodspeed-agent model judge --json` writes one"
        raise RequestRefused(f"{name} is no judgement of drafts: {error}; {made}") from None
