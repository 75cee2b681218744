"""Acceptance with top-p is what boards' judgement computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_agent.judging.overlap import acceptances
from shared.protocol.held_out_texts import TargetRow, text_of
from shared.speculation.probabilities import probabilities
from shared.speculation.sampling import SamplingParameters
from verifier.finetune.training.sampled_overlap import cool_acceptance


@pytest.mark.parametrize("scale", [0.5, 2.0, 6.0], ids=["flat", "middling", "sharp"])
def test_rows_are_judged_as_the_agent_judges_them(scale: float) -> None:
    generator = torch.Generator().manual_seed(3)
    target = scale * torch.randn(20, 400, generator=generator)
    draft = target + 0.7 * scale * torch.randn(20, 400, generator=generator)
    ours = cool_acceptance(target, draft)
    cool = SamplingParameters(temperature=0.8, top_p=0.95)
    for row in range(20):
        token_ids, probs = probabilities(target[row].numpy(), cool)
        kept = TargetRow(token_ids.astype(np.uint32), probs.astype(np.float32))
        text = text_of("any", "0.8", [1], [int(token_ids[0])], [kept])
        theirs, _ = acceptances(text, 0, draft[row].numpy())
        # Boards send rows of 8-bit numbers, and files keep the target's in float16.
        assert float(ours[row]) == pytest.approx(theirs, abs=0.01)
