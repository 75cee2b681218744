"""Draft models in GGUF files, run by llama.cpp in this process.

It must never be used by two threads at once (`LlamaDrafter.interrupt` excepted), and it trusts no
return code: llama.cpp reports full caches, impossible roll-backs and aborts by numbers.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.draft_model.drafter import DraftInterrupted, Forward, check_batch, check_truncation
from edge_agent.draft_model.llama_batch import BatchArrays, Piece, split_batch
from edge_agent.draft_model.llama_binding import llama_cpp
from edge_agent.draft_model.llama_library import error_lines, load_model, reason
from edge_agent.draft_model.llama_memory import (
    cached_token_bytes,
    check_cache_memory,
    check_weight_memory,
)
from edge_agent.draft_model.llama_vocabulary import read_token_bytes
from shared.errors import ModelError, OutOfCache
from shared.protocol.vocabulary import TokenBytes

logger = logging.getLogger(__name__)

# One llama_decode takes at most this many tokens: llama.cpp's default physical batch. Larger ones
# do not read a prompt faster on a CPU, and need larger compute buffers.
BATCH_TOKENS = 512
_DECODE_OK = 0
_DECODE_CACHE_FULL = 1
_DECODE_ABORTED = 2


class LlamaDrafter:
    """A GGUF model with `num_slots` sequences, each with its own cache of `context_tokens`.

    That is fewer where the model was trained with fewer: it then drafts less far.

    `threads` compute single tokens, `batch_threads` prompts. They spin at barriers, so every thread
    needs an idle core: two threads on two idle x86 cores draft 160 tokens/s (one: 135), on two busy
    ones 8 (one: 80; SmolLM2-135M Q4_1). `gpu_layers` -1 offloads every layer.

    Raises:
        ModelError: the file is missing or broken, or memory does not hold the model or its caches.
    """

    def __init__(
        self,
        path: Path,
        num_slots: int,
        context_tokens: int,
        threads: int,
        batch_threads: int,
        gpu_layers: int = 0,
    ) -> None:
        self.model_name = path.stem
        self.num_slots = num_slots
        self._held_tokens = [0] * num_slots
        # llama.cpp asks the abort callback after every node of its graph, about 1,000 times a
        # token. A Python callback would wait for the GIL, and so for a busy event loop, each time;
        # C's strlen answers "how long is this flag" without it: 0 goes on, 1 aborts.
        self._abort_flag = ctypes.create_string_buffer(2)
        self._abort_callback = ctypes.cast(ctypes.CDLL(None).strlen, llama_cpp.ggml_abort_callback)
        self._arrays = BatchArrays(BATCH_TOKENS)
        self._batch = _llama_batch(self._arrays)
        self._context: llama_cpp.llama_context_p | None = None
        if not gpu_layers:
            check_weight_memory(path)
        self._model: llama_cpp.llama_model_p | None = load_model(path, gpu_layers)
        self.context_tokens = _context_within(self._model, context_tokens)
        try:
            if not gpu_layers:
                check_cache_memory(self._model, num_slots * self.context_tokens)
            self._context = self._make_context(threads, batch_threads)
        except ModelError:
            self.close()
            raise
        self._memory = llama_cpp.llama_get_memory(self._context)
        # Recurrent layers overwrite their state in place: after an aborted pass it is worthless.
        self._state_survives_abort = not (
            llama_cpp.llama_model_is_recurrent(self._model)
            or llama_cpp.llama_model_is_hybrid(self._model)
        )
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        assert vocab is not None
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(vocab)
        self.token_bytes = TokenBytes(read_token_bytes(vocab))
        self._row_type = ctypes.c_float * self.vocab_size
        logger.info(
            "memory: weights %.0f MB, caches of %d streams with %d tokens each %.0f MB",
            *(llama_cpp.llama_model_size(self._model) / 1e6, num_slots, self.context_tokens),
            num_slots * self.context_tokens * cached_token_bytes(self._model) / 1e6,
        )

    def forward(self, batch: Sequence[Forward]) -> list[NDArray[np.float32] | None]:
        """Append the batch to its slots; see `Drafter.forward`."""
        check_batch(self, batch)
        self._abort_flag[0] = b"\x00"
        results: list[NDArray[np.float32] | None] = [None] * len(batch)
        try:
            for pieces in split_batch(batch, BATCH_TOKENS):
                self._decode(batch, pieces, results)
        except (DraftInterrupted, ModelError):
            self._undo(batch)
            raise
        for item in batch:
            self._held_tokens[item.slot] += len(item.token_ids)
        return results

    def num_tokens(self, slot: int) -> int:
        return self._held_tokens[slot]

    def truncate(self, slot: int, num_tokens: int) -> int:
        """Keep the first `num_tokens` tokens of a slot; see `Drafter.truncate`."""
        check_truncation(self, slot, num_tokens)
        self._held_tokens[slot] = self._keep(slot, num_tokens)
        return self._held_tokens[slot]

    def interrupt(self) -> None:
        """Abort the forward in progress; see `Drafter.interrupt`. On a GPU: between two batches."""
        self._abort_flag[0] = b"\x01"

    def close(self) -> None:
        """Free the model and its caches; a second call does nothing."""
        if self._context is not None:
            llama_cpp.llama_free(self._context)
            self._context = None
        if self._model is not None:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def _make_context(self, threads: int, batch_threads: int) -> llama_cpp.llama_context_p:
        assert self._model is not None
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = self.num_slots * self.context_tokens
        params.n_seq_max = self.num_slots
        params.kv_unified = False  # each slot has its own cells: none can take another's
        params.swa_full = True  # without it, sliding-window layers cannot be rolled back
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_outputs_max = self.num_slots  # a slot wants logits at most once per forward
        params.n_threads = threads
        params.n_threads_batch = batch_threads
        params.abort_callback = self._abort_callback
        params.abort_callback_data = ctypes.cast(self._abort_flag, ctypes.c_void_p)
        with error_lines() as errors:
            context: llama_cpp.llama_context_p | None = llama_cpp.llama_init_from_model(
                self._model, params
            )
        if context is None:
            raise ModelError(
                f"llama.cpp cannot make {self.num_slots} slots of {self.context_tokens} tokens "
                f"for {self.model_name}: {reason(errors)}"
            )
        assert llama_cpp.llama_n_ctx_seq(context) >= self.context_tokens
        return context

    def _decode(
        self,
        batch: Sequence[Forward],
        pieces: Sequence[Piece],
        results: list[NDArray[np.float32] | None],
    ) -> None:
        assert self._context is not None, "the drafter is closed"
        rows = self._arrays.fill(batch, pieces, self._held_tokens)
        self._batch.n_tokens = self._arrays.num_tokens
        code = llama_cpp.llama_decode(self._context, self._batch)
        if code == _DECODE_ABORTED or self._abort_flag[0] != b"\x00":
            raise DraftInterrupted
        if code == _DECODE_CACHE_FULL:
            raise OutOfCache(f"llama.cpp has no cache left for {self._batch.n_tokens} tokens")
        if code != _DECODE_OK:
            raise ModelError(f"llama.cpp failed with code {code} in {self.model_name}")
        for row, index in rows:
            results[index] = self._copy_logits(row)

    def _copy_logits(self, row: int) -> NDArray[np.float32]:
        assert self._context is not None
        pointer: Any = llama_cpp.llama_get_logits_ith(self._context, row)
        view = self._row_type.from_address(ctypes.addressof(pointer.contents))
        return np.frombuffer(view, np.float32).copy()  # the next decode overwrites the view

    def _undo(self, batch: Sequence[Forward]) -> None:
        for item in batch:
            num_kept = self._held_tokens[item.slot] if self._state_survives_abort else 0
            self._held_tokens[item.slot] = self._keep(item.slot, num_kept)

    def _keep(self, slot: int, num_tokens: int) -> int:
        """Remove what the slot holds beyond `num_tokens`, or all where a part cannot be removed."""
        is_removed = llama_cpp.llama_memory_seq_rm(self._memory, slot, num_tokens, -1)
        last_position = llama_cpp.llama_memory_seq_pos_max(self._memory, slot)
        if is_removed and last_position == num_tokens - 1:
            return num_tokens
        is_cleared = llama_cpp.llama_memory_seq_rm(self._memory, slot, -1, -1)
        assert is_cleared, "llama.cpp promises that removing a whole sequence never fails"
        return 0


def _context_within(model: llama_cpp.llama_model_p | None, context_tokens: int) -> int:
    assert model is not None
    trained_tokens: int = llama_cpp.llama_model_n_ctx_train(model)
    if context_tokens <= trained_tokens:
        return context_tokens
    logger.info(
        "draft.context_tokens = %d is lowered to %d, which the model was trained for",
        *(context_tokens, trained_tokens),
    )
    return trained_tokens


def _llama_batch(arrays: BatchArrays) -> llama_cpp.llama_batch:
    """A batch that reads the arrays, which must outlive it."""
    batch = llama_cpp.llama_batch()
    for field, array in (
        ("token", arrays.token_ids),
        ("pos", arrays.positions),
        ("n_seq_id", arrays.num_slots),
        ("seq_id", arrays.slot_pointers),
        ("logits", arrays.wants_logits),
    ):
        pointer_type: Any = type(getattr(batch, field))
        setattr(batch, field, ctypes.cast(array.ctypes.data, pointer_type))
    return batch
