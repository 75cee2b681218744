"""The program of a rank that a worker of several GPUs starts; no person does."""

from __future__ import annotations

import logging
import sys
import time

from shared.config.sections import load_config
from shared.daemon.command_line import set_up_logging
from shared.errors import GoodspeedError
from verifier.config import VerifierConfig
from verifier.workers.orders import MAX_ORDER_BYTES, unpack_order
from verifier.workers.ranks.following import end_at_once, end_with_rank_0, follow, place_of

logger = logging.getLogger(__name__)

# What all ranks refuse, rank 0 says, and ends this process with it.
RANK_0_SECONDS = 3.0


def main() -> None:
    """Do one rank's part of the target until rank 0 ends; it reads the exit status."""
    connected, place = place_of(sys.argv[1:])
    end_with_rank_0(connected)
    order = unpack_order(sys.stdin.buffer.readline(MAX_ORDER_BYTES))
    config = load_config(VerifierConfig, overrides=order.settings).config
    set_up_logging("warning", config.log.format)  # what is no warning rank 0 says for all
    from verifier.worker_startup import load_rank

    status = 0
    try:
        follow(connected, load_rank(config, place))
    except GoodspeedError as error:
        time.sleep(RANK_0_SECONDS)
        logger.error("rank %d of %s: %s", place.rank, order.name, error)
        status = 2
    except Exception:
        logger.exception("rank %d of %s failed", place.rank, order.name)
        status = 3
    end_at_once(status)


if __name__ == "__main__":
    main()
