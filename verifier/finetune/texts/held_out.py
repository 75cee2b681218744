"""What the target writes on prompts that no draft learns from, in every mode that is judged.

In float32, as a verifier computes it on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from shared.protocol.held_out_texts import (
    JUDGED_MODES,
    HeldOutText,
    JudgedMode,
    TargetRow,
    text_of,
)
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.texts.writing import Advance, Clock, Question, WritingPlan, write_texts
from verifier.finetune.texts.written_texts import TextPlace, WrittenTexts

_TEMPERATURES: dict[JudgedMode, float] = {"greedy": 0.0, "0.8": 0.8, "1": 1.0}
_TOP_P = 0.95
# At temperature 1 what is left out of a row counts as never accepted: at most this much, and more
# only where that takes more entries than a row may have.
_LEFT_OUT = 0.001
_MAX_ENTRIES = 768
_CHUNK = 1024  # positions whose logits are in memory together


def write_held_out(
    target: LlamaModel,
    plan: WritingPlan,
    prompts: Sequence[Sequence[int]],
    domains: Sequence[str],
    *,
    clock: Clock,
    advance: Advance,
) -> WrittenTexts:
    """All prompts in all modes; texts of the mode 0.8 are drawn without the cut of top-p."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    questions = [Question(i, _TEMPERATURES[mode]) for mode in JUDGED_MODES for i in order]
    return write_texts(target, plan, prompts, domains, questions, clock=clock, advance=advance)


def mode_of(place: TextPlace) -> JudgedMode:
    """The mode that a text was written in."""
    return next(mode for mode in JUDGED_MODES if _TEMPERATURES[mode] == place.temperature)


def judged_texts(target: LlamaModel, texts: WrittenTexts) -> Iterator[HeldOutText]:
    """The texts with the target's rows, as a file keeps them."""
    own = target.embedding if target.unembedding is None else target.unembedding
    for place in texts.places:
        mode = mode_of(place)
        rows: list[TargetRow] = []
        if mode != "greedy":
            for part in texts.rows(place).split(_CHUNK):  # type: ignore[no-untyped-call]
                rows += _rows(texts.states[part].float() @ own.float().T, mode)
        prompt = texts.prompts[place.prompt_index]
        tokens = texts.answer(place).tolist()
        yield text_of(texts.domain(place), mode, prompt, tokens, rows)


def _rows(logits: Tensor, mode: JudgedMode) -> Iterator[TargetRow]:
    """A target's rows as the mode's sampling leaves them."""
    probs = (logits / _TEMPERATURES[mode]).softmax(-1)
    highest, token_ids = probs.topk(min(_MAX_ENTRIES, probs.shape[-1]), -1)
    wanted = 1 - _LEFT_OUT if mode == "1" else _TOP_P
    before = highest.cumsum(-1) - highest
    counts = (before < wanted).sum(-1).tolist()
    if mode != "1":  # the cut distribution is what verifiers sample from
        is_kept = before < wanted
        highest = highest * is_kept / (highest * is_kept).sum(-1, keepdim=True)
    ids, kept = token_ids.cpu().numpy().astype(np.uint32), highest.cpu().numpy()
    for row, count in enumerate(counts):
        yield TargetRow(ids[row, :count], kept[row, :count].astype(np.float32))
