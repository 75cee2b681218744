"""From settings to what notes wrong drafts and makes better ones of them."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from shared.errors import ConfigError
from verifier.config import VerifierConfig
from verifier.drafts.draft_store import Describe, DraftStore
from verifier.engine.service import VerifierService
from verifier.online.online_drafts import OnlineDrafts, OnlinePlan
from verifier.online.text_memory import TextMemory
from verifier.online.tuning_process import run_tuning
from verifier.online.wrong_drafts import WrongDrafts


class Online(msgspec.Struct, frozen=True):
    """Both of them, over one memory."""

    wrong: WrongDrafts
    drafts: OnlineDrafts


def start_online(
    config: VerifierConfig,
    service: VerifierService,
    store: DraftStore | None,
    target: Path,
    describe: Describe,
) -> Online:
    """Note wrong drafts of a service from now on; `online.draft` is set.

    Raises:
        ConfigError: there is nowhere to keep drafts, or the target cannot be learned from.
    """
    section = config.online
    if store is None or config.state.directory is None:
        raise ConfigError(("online.draft: must be empty as long as state.directory is not set",))
    if target.is_dir():
        raise ConfigError(("online.draft: must be empty where target.model is no GGUF file",))
    memory = TextMemory(section.most_tokens, 3600.0 * section.hours)
    plan = OnlinePlan(
        draft=section.draft,
        target=target,
        work_dir=config.state.directory / "online",
        training_seconds=60.0 * section.minutes,
        least_wrong=section.least_wrong,
        threads=section.threads,
        device=section.device,
    )
    wrong = WrongDrafts(memory, time.monotonic)
    service.metrics.watchers.append(wrong)
    devices = service.devices
    drafts = OnlineDrafts(plan, memory, store, devices, describe, run_tuning, time.monotonic)
    return Online(wrong, drafts)
