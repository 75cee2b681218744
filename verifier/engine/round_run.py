"""One round in the engine thread; where the target fails, the round without the guilty items.

This module must never know what a stream is, nor settle anything.
"""

from __future__ import annotations

import logging
import time

import msgspec

from verifier.rounds.bisection import Bisection
from verifier.target.round import DraftCheck, ItemFailure, ItemOutcome, Round, RoundOutcome
from verifier.target.target import DeviceLost, OutOfMemory, TargetLost, TargetModel

logger = logging.getLogger(__name__)

# How long further parts of a failed round may be started: so many times what it took, or so long.
RERUN_FACTOR = 4.0
LEAST_RERUN_SECONDS = 2.0

# Of a round's own time, for all of its grammars together: to ask them what is forced, which the
# next round waits for. An answer takes 5 to 300 µs and a token that it saves a part of a round.
FORCED_SHARE = 0.02
# After these no part of the round can be run.
_FINAL = frozenset({ItemFailure.DEVICE_LOST, ItemFailure.WORKER_LOST})


def run_round(target: TargetModel, round_: Round) -> RoundOutcome | ItemFailure:
    """Run a round, without the items that make it fail; a failure where no item could be run."""
    started_at = time.monotonic()
    outcome = _attempt(target, round_, logging.ERROR)
    if not isinstance(outcome, RoundOutcome) and outcome not in _FINAL:
        now = time.monotonic()
        seconds = max(RERUN_FACTOR * (now - started_at), LEAST_RERUN_SECONDS)
        outcome = _without_guilty(target, round_, outcome, now + seconds)
    return _with_forced(round_, outcome) if isinstance(outcome, RoundOutcome) else outcome


def _with_forced(round_: Round, outcome: RoundOutcome) -> RoundOutcome:
    """Tell grammars what came, and the planner what they force behind it."""
    checks = [item.draft_check for item in round_.items]
    num_held = sum([check is not None and check.masks is not None for check in checks])
    if not num_held:
        return outcome
    seconds = FORCED_SHARE * (outcome.forward_seconds + outcome.sampling_seconds) / num_held
    pairs = zip(checks, outcome.items, strict=True)
    items = tuple([_item_with_forced(check, answer, seconds) for check, answer in pairs])
    return msgspec.structs.replace(outcome, items=items)


def _item_with_forced(
    check: DraftCheck | None, answer: ItemOutcome | None, seconds: float
) -> ItemOutcome | None:
    if check is None or check.masks is None or answer is None:
        return answer
    if answer.failure is not None or answer.is_late:
        return answer
    own = () if answer.token_id is None else (answer.token_id,)
    token_ids = (*check.draft_token_ids[: answer.num_accepted], *own)
    forced_ids = check.masks.advance(token_ids, seconds)
    return msgspec.structs.replace(answer, forced_ids=forced_ids) if forced_ids else answer


def _without_guilty(
    target: TargetModel, round_: Round, failure: ItemFailure, deadline: float
) -> RoundOutcome | ItemFailure:
    search = Bisection(len(round_.items))
    answers: list[ItemOutcome | None] = [_failed(failure) for _ in round_.items]
    outcomes: list[RoundOutcome] = []
    num_reruns = 0
    while (part := search.next_part) is not None and time.monotonic() < deadline:
        items = round_.items[part.start : part.stop]
        outcome = _attempt(target, Round(items), logging.DEBUG)
        num_reruns += 1
        if outcome in _FINAL:
            return outcome
        if isinstance(outcome, RoundOutcome):
            answers[part.start : part.stop] = outcome.items
            outcomes.append(outcome)
        else:
            answers[part.start : part.stop] = [_failed(outcome) for _ in part]
        search.tell(has_failed=not isinstance(outcome, RoundOutcome))
    if not outcomes:
        return failure
    logger.error(
        "of the %d items of the round %d failed alone and %d with others, in %d re-runs",
        *(len(round_.items), len(search.guilty), len(search.undecided), num_reruns),
    )
    forward_seconds = sum(outcome.forward_seconds for outcome in outcomes)
    sampling_seconds = sum(outcome.sampling_seconds for outcome in outcomes)
    return RoundOutcome(tuple(answers), forward_seconds, sampling_seconds, num_reruns)


def _attempt(target: TargetModel, round_: Round, level: int) -> RoundOutcome | ItemFailure:
    # Only the cause is kept: the traceback holds the memory that the round had taken.
    try:
        return target.run(round_)
    except TargetLost as error:  # the round may be run elsewhere
        logger.debug("a worker is lost in a round of %d tokens: %s", round_.num_tokens, error)
        return ItemFailure.WORKER_LOST
    except Exception as error:
        sentence = "the target model failed in a round of %d tokens"
        logger.log(level, sentence, round_.num_tokens, exc_info=True)
        return _cause(error)


def _failed(failure: ItemFailure) -> ItemOutcome:
    return ItemOutcome(0, None, failure=failure)


def _cause(error: Exception) -> ItemFailure:
    match error:
        case DeviceLost():
            return ItemFailure.DEVICE_LOST
        case OutOfMemory() | MemoryError():
            return ItemFailure.OUT_OF_MEMORY
        case _:
            return ItemFailure.EXCEPTION
