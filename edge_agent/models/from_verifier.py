"""Pulling a draft model that the verifier offers."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import msgspec

from edge_agent.link.draft_fetch import fetch_draft, list_offers
from edge_agent.models.arrival import arriving_path, finish, forget_old_parts
from edge_agent.models.cache import check_free_space, recorded_sha256, sha256_of, work_dir
from edge_agent.models.progress import PullProgress
from shared.config.model_files import cached_path
from shared.errors import LinkLost
from shared.protocol.handed_drafts.draft_offers import DraftOffer


class OfferingVerifier(msgspec.Struct, frozen=True):
    """A verifier that may be asked for drafts."""

    url: str
    token: str
    tls: ssl.SSLContext | None = None

    def offers(self) -> tuple[DraftOffer, ...]:
        """What it offers.

        Raises:
            LinkLost, AuthRejected, RemoteProtocolError: see `list_offers`.
        """
        return asyncio.run(list_offers(self.url, self.token, self.tls))


def pull_offer(
    verifier: OfferingVerifier, offer: DraftOffer, cache_dir: Path, progress: PullProgress
) -> Path:
    """The checked file of an offer; goes on where an earlier pull of the same bytes ended.

    Raises:
        LinkLost: the verifier fell silent; the next pull goes on.
        ModelError: the bytes are wrong, or there is no room for them.
    """
    path = cached_path(cache_dir, offer.name)
    # Alone in the cache: no other pull adds to the same file.
    with work_dir(cache_dir, lambda: progress.begin_stage("waiting for another pull to end")):
        if recorded_sha256(path) == offer.sha256 and path.is_file():
            progress.begin_stage("verifying sha256", offer.num_bytes)
            if sha256_of(path, progress.update) == offer.sha256:
                return path
        forget_old_parts(cache_dir)
        arriving = arriving_path(cache_dir, offer.sha256)
        have = arriving.stat().st_size if arriving.exists() else 0
        check_free_space(cache_dir, max(0, offer.num_bytes - have))
        progress.begin_stage(f"downloading {offer.name} from the verifier", offer.num_bytes)
        try:
            asyncio.run(
                fetch_draft(
                    *(verifier.url, verifier.token, offer, arriving, progress.update), verifier.tls
                )
            )
        except LinkLost as error:
            raise LinkLost(f"{error}; what has come is kept: pull again to go on") from error
        return finish(arriving, cache_dir, offer.name, offer.sha256, progress)
