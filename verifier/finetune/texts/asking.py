"""The target asks itself: what its users might say, without any user's words.

After `user` in its own template a chat model goes on with a question, and ends it where a turn
ends (Xu et al. 2024, Magpie, arXiv 2406.08464).
"""

from __future__ import annotations

from collections.abc import Sequence

from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.texts.chat_frame import ChatFrame
from verifier.finetune.texts.writing import (
    Advance,
    Clock,
    Question,
    WritingPlan,
    words_of,
    write_texts,
)
from verifier.finetune.texts.written_texts import OWN_QUESTIONS

_TEMPERATURES = (0.8, 1.0)
_LEAST_TOKENS = 4


def ask_itself(
    model: LlamaModel,
    plan: WritingPlan,
    frames: Sequence[ChatFrame],
    special_ids: frozenset[int],
    num_questions: int,
    *,
    clock: Clock,
    advance: Advance,
) -> list[tuple[int, ...]]:
    """Whole prompts, all different; fewer than asked for, where time ends or questions repeat.

    `frames`: in turn; words of a user that stand in what is before are part of the question.
    """
    questions = [
        Question(i % len(frames), _TEMPERATURES[i // len(frames) % 2]) for i in range(num_questions)
    ]
    before, domains = [frame.before for frame in frames], [OWN_QUESTIONS] * len(frames)
    asked = write_texts(*(model, plan, before, domains, questions), clock=clock, advance=advance)
    found: dict[tuple[int, ...], None] = {}
    for place in asked.places:
        words = words_of(asked, place, plan.end_ids)
        if words is None or len(words) < _LEAST_TOKENS or not special_ids.isdisjoint(words):
            continue
        found[frames[place.prompt_index].around(words)] = None
    return list(found)
