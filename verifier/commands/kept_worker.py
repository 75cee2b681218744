"""The program of a worker that `goodspeed-verifier run --workers` starts; no person does."""

from __future__ import annotations

import logging
import sys

from shared.config.sections import load_config
from shared.daemon.command_line import set_up_logging
from shared.errors import GoodspeedError
from verifier.config import VerifierConfig
from verifier.target.target import TargetModel
from verifier.workers.kept_process import serve_kept
from verifier.workers.messages import Facts
from verifier.workers.orders import WorkerOrder
from verifier.workers.ranks.following import end_at_once

logger = logging.getLogger(__name__)


def load(order: WorkerOrder) -> tuple[TargetModel, Facts]:
    """The target of the keeper's settings."""
    from verifier.worker_startup import load_worker

    config = load_config(VerifierConfig, overrides=order.settings).config
    set_up_logging(config.log.level, config.log.format)
    return load_worker(config, order.name, lambda told: logger.info("%s: %s", order.name, told))


def main() -> None:
    """Serve at the socket whose number is the only argument; a keeper reads the exit status."""
    status = 0
    try:
        serve_kept(int(sys.argv[1]), load)
    except GoodspeedError as error:
        logger.error("%s", error)
        status = 2
    end_at_once(status)


if __name__ == "__main__":
    main()
