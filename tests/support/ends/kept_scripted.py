"""A program: a worker with the scripted target, started by a keeper as the real one is."""

from __future__ import annotations

import os
import sys
import time

import msgspec

from shared.speculation.scripted_model import ScriptedModel
from tests.support.ends.endless_model import MODEL_SEED, VOCAB_SIZE, EndlessModel
from tests.support.ends.worker_facts import scripted_facts
from verifier.target.round import Round, RoundOutcome
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.target import TargetModel
from verifier.workers.kept_process import serve_kept
from verifier.workers.messages import Facts
from verifier.workers.orders import WorkerOrder


class Poisoned(ScriptedTarget):
    """Ends its process where a round begins to read a prompt that begins with a certain token."""

    poison = -1

    def run(self, round_: Round) -> RoundOutcome:
        starts = [item.token_ids[0] for item in round_.items if not item.num_cached_tokens]
        if self.poison in starts:
            os._exit(9)
        return super().run(round_)


def load(order: WorkerOrder) -> tuple[TargetModel, Facts]:
    """By the order's settings: `delay_seconds` of a round, `load_seconds`, `poison`."""
    settings = {"delay_seconds": 0.0, "load_seconds": 0.0, "poison": -1, **order.settings}
    if settings.get("fails"):
        sys.exit(3)
    time.sleep(float(str(settings["load_seconds"])))
    delay = float(str(settings["delay_seconds"]))
    num_blocks = int(str(settings.get("num_blocks", 4096)))
    model = EndlessModel(ScriptedModel(VOCAB_SIZE, MODEL_SEED))
    target = Poisoned(model, num_blocks=num_blocks, delay_seconds=lambda num_tokens: delay)
    target.poison = int(str(settings["poison"]))
    weights = str(settings.get("weights", "scripted"))
    facts = scripted_facts(target, order.name, weights)
    return target, msgspec.structs.replace(facts, process_id=os.getpid())


if __name__ == "__main__":
    serve_kept(int(sys.argv[1]), load)
