"""Sampling of a round behind its forward pass, with one copy to the GPU and one back.

What the checks ask for is packed and sent while the forward pass is still running, so that the
kernel starts the moment the logits are there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from verifier.target.round import DraftCheck, ItemOutcome
from verifier.torch_target.kernels.launch import timing_event
from verifier.torch_target.kernels.processing import process_rows_on_gpu
from verifier.torch_target.kernels.processing_numbers import ProcessingNumbers
from verifier.torch_target.kernels.row_records import RowRecords, outcomes
from verifier.torch_target.kernels.sampling import sample_rows


def verify_rows_on_gpu(
    logits: Tensor, draft_checks: Sequence[DraftCheck]
) -> tuple[list[ItemOutcome], float]:
    """Outcomes of checks whose rows [num_rows, vocab_size] stand one after the other.

    Waits for the GPU. Also returns the seconds from the end of the logits to the end of the
    sampling. The logits are spent afterwards.
    """
    logits_done, results_done = timing_event(), timing_event()
    logits_done.record()
    logits = processed_on_gpu(logits, draft_checks)
    rows = RowRecords.of(draft_checks, logits.shape[1])
    results = sample_rows(
        logits, _sent(rows.records, logits.device), _sent(rows.entries, logits.device)
    )
    results_done.record()
    answers = outcomes(draft_checks, results.cpu().numpy())
    results_done.synchronize()
    return answers, logits_done.elapsed_time(results_done) / 1e3


def processed_on_gpu(logits: Tensor, draft_checks: Sequence[DraftCheck]) -> Tensor:
    """The rows to sample from: the same tensor where no stream asks, else float32."""
    asked = ProcessingNumbers.of(draft_checks)
    if asked is None:
        return logits
    logits = logits.to(torch.float32).contiguous()
    process_rows_on_gpu(logits, _sent(asked.numbers, logits.device), asked.num_records)
    return logits


def _sent(content: NDArray[np.generic], device: torch.device) -> Tensor:
    """On the device, without waiting for what runs there."""
    return torch.from_numpy(content).pin_memory().to(device, non_blocking=True)
