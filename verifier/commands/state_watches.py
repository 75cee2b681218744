"""What a running verifier takes over from the directory of state once a command changed it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from verifier.config import VerifierConfig
from verifier.engine.device_terms import FILE_NAME, AllTerms, read_terms

if TYPE_CHECKING:
    from verifier.engine.service import VerifierService
    from verifier.server.drafts.assigned_drafts import AssignedDrafts


async def watch_devices(config: VerifierConfig, take_over: Callable[[AllTerms], None]) -> NoReturn:
    """Take over what `goodspeed-verifier devices` sets; without a directory there is nothing."""
    from shared.daemon.file_watch import watch_file

    directory = config.state.directory
    if directory is None:
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")
    await watch_file(lambda: directory / FILE_NAME, lambda path: take_over(read_terms(path)))


async def watch_drafts(config: VerifierConfig, assigned: AssignedDrafts | None) -> NoReturn:
    """Take over what `goodspeed-verifier drafts` adds and removes; likewise."""
    from shared.daemon.file_watch import watch_file
    from verifier.server.drafts.configured_drafts import draft_store

    store = draft_store(config)
    if store is None or assigned is None:
        await asyncio.Event().wait()
        raise AssertionError("there is no registry")
    await watch_file(lambda: store.catalogue_path, lambda path: assigned.look_again())


async def watch_workers(config: VerifierConfig, service: VerifierService) -> NoReturn:
    """Take over what `goodspeed-verifier workers` asks for, where there are any."""
    from shared.daemon.file_watch import watch_file
    from verifier.engine.worker_orders import FILE_NAME, OrdersInForce, read_orders

    directory, workers = config.state.directory, service.workers
    if directory is None or workers is None:
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")
    path = directory / FILE_NAME
    orders = OrdersInForce(workers, read_orders(path))
    await watch_file(lambda: path, lambda changed: orders.take_over(read_orders(changed)))
