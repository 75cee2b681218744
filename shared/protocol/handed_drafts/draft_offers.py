"""Draft models that a verifier hands to boards which reach no hub: what it says of them.

Pure. A list of offers is JSON, so that curl shows it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.errors import RemoteProtocolError

OFFERS_PATH = "/v1/drafts"  # each offer is below it, by its name
MAX_OFFERS = 256
MAX_OFFERS_BYTES = 256 * 1024
OFFER_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
LABEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"
MAX_LABELS = 16
MAX_LICENCE_LENGTH = 80
MAX_ASSIGNED_DRAFTS = 4  # of one board, beside its own

Sha256 = Annotated[bytes, Meta(min_length=32, max_length=32)]


class DraftOffer(msgspec.Struct, frozen=True):
    """A GGUF file whose vocabulary is the target's."""

    name: Annotated[str, Meta(pattern=rf"^{OFFER_NAME}\Z")]
    num_bytes: Annotated[int, Meta(ge=1, le=1 << 40)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    licence: Annotated[str, Meta(max_length=MAX_LICENCE_LENGTH)] = ""  # "": not told
    labels: Annotated[
        tuple[Annotated[str, Meta(pattern=rf"^{LABEL}\Z")], ...], Meta(max_length=MAX_LABELS)
    ] = ()  # domains or languages that it is for
    is_assigned: bool = False  # to the board that asks
    suits: bool = False  # of all, the one that the board would write fastest with, as was judged


class AssignedDraft(msgspec.Struct, frozen=True, array_like=True):
    """An offer in a message (`shared.protocol.messages.Assignment`)."""

    name: Annotated[str, Meta(pattern=rf"^{OFFER_NAME}\Z")]
    num_bytes: Annotated[int, Meta(ge=1, le=1 << 40)]
    sha256: Sha256


def pack_offers(offers: Sequence[DraftOffer]) -> bytes:
    """As JSON, `MAX_OFFERS` at most."""
    return msgspec.json.encode(list(offers[:MAX_OFFERS]))


def unpack_offers(packed: bytes) -> tuple[DraftOffer, ...]:
    """What a verifier offers.

    Raises:
        RemoteProtocolError: that is no list of offers.
    """
    try:
        offers = msgspec.json.decode(packed, type=tuple[DraftOffer, ...])
    except msgspec.MsgspecError as error:
        raise RemoteProtocolError(f"the verifier's list of drafts is none: {error}") from error
    if len(offers) > MAX_OFFERS:
        raise RemoteProtocolError(f"{len(offers)} drafts are offered, more than {MAX_OFFERS}")
    return offers
