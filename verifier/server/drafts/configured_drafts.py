"""The drafts of the settings: the registry, and what boards may have."""

from __future__ import annotations

from pathlib import Path

from verifier.config import VerifierConfig
from verifier.drafts.draft_store import FOLDER, DraftStore
from verifier.server.drafts.draft_shelf import DraftShelf
from verifier.target.target import Tokenizer


def draft_shelf(config: VerifierConfig, tokenizer: Tokenizer) -> DraftShelf | None:
    """What boards may have; None: nothing."""
    store = draft_store(config)
    if config.drafts.directory is None and store is None:
        return None

    def check_fit(path: Path) -> None:
        # Only here: it is in the wing that imports torch, which a scripted target does without.
        from verifier.torch_target.loading.draft_fit import check_draft_fits

        check_draft_fits(path, tokenizer.token_bytes)

    return DraftShelf(
        check_fit,
        bytes_per_second=float(config.drafts.bytes_per_second),
        directory=config.drafts.directory,
        store=store,
    )


def draft_store(config: VerifierConfig) -> DraftStore | None:
    """The registry; None: nothing is kept, so there is none."""
    directory = config.state.directory
    return None if directory is None else DraftStore(directory / FOLDER)
