"""Many texts of one model at once: slots, each with its cache, and one step for all of them.

Every step writes one row of drawn tokens and final states, so that nothing is ever copied: a text
is where it began, its slot and its length. On a GPU a step is one CUDA graph. It must never know
why a text is written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from verifier.finetune.llama.compiled import compiled
from verifier.finetune.llama.llama_model import (
    KeysValues,
    LayerWeights,
    LlamaModel,
    LlamaShape,
    Rotation,
    feed_forward,
    final_states,
)
from verifier.finetune.texts.decode_attention import attend

_PROMPT_ROWS = 256  # that are read at once, as far as they have no more tokens than the next says
_PROMPT_TOKENS = 65_536
_PROMPT_STEP = 32  # lengths of prompts are rounded up to it


class SlotDecoder:
    """Writes in `num_slots` slots; the rows of `tokens` and `states` are its steps."""

    def __init__(
        self,
        model: LlamaModel,
        dtype: torch.dtype,
        *,
        num_slots: int,
        context_tokens: int,
        num_steps: int,
        end_ids: Collection[int],
    ) -> None:
        shape, device = model.shape, model.last_norm.device
        self._shape = shape
        self._weights = model.weights(dtype)
        self._rotation = model.rotation(context_tokens, dtype)
        self.num_slots, self.num_steps, self._context_tokens = num_slots, num_steps, context_tokens
        size = (num_slots, shape.kv_heads, context_tokens, shape.head_size)
        self._keys = [torch.zeros(size, dtype=dtype, device=device) for _ in range(shape.layers)]
        self._values = [torch.zeros_like(keys) for keys in self._keys]
        numbers = torch.zeros(5, num_slots, dtype=torch.int64, device=device)
        self._token, self._position, self._written, self._limit, self._live = numbers
        self._temperature = torch.ones(num_slots, device=device)
        self._slots = torch.arange(num_slots, device=device)
        self._ends = torch.tensor(sorted(end_ids), dtype=torch.int64, device=device)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        rows = (num_steps, num_slots)
        self.tokens = torch.zeros(rows, dtype=torch.int32, device=device)
        self.states = torch.zeros(*rows, shape.hidden, dtype=_kept(dtype), device=device)
        self.steps_done = 0
        # Few kernels in place of many; not in float32, in which few texts are written, exactly.
        is_compiled = device.type == "cuda" and dtype != torch.float32
        self._layer_start = compiled(_layer_start) if is_compiled else _layer_start
        self._layer_end = compiled(_layer_end) if is_compiled else _layer_end
        self._run_step = self._captured() if device.type == "cuda" else self._one_step

    @torch.no_grad()
    def begin(
        self,
        slots: Sequence[int],
        prompts: Sequence[Sequence[int]],
        temperatures: Sequence[float],
        limit: int,
    ) -> None:
        """Read prompts into free slots; each then writes `limit` tokens at most."""
        first = 0
        while first < len(slots):
            width = self._width(prompts[first : first + _PROMPT_ROWS])
            num_rows = max(1, min(_PROMPT_ROWS, _PROMPT_TOKENS // width))
            part = slice(first, first + num_rows)
            self._read(slots[part], prompts[part], temperatures[part], limit)
            first += num_rows

    @torch.no_grad()
    def run(self, num_steps: int) -> None:
        """So many steps, of which `num_steps` in all can be kept."""
        for _ in range(num_steps):
            self._run_step()
        self.steps_done += num_steps

    def progress(self) -> tuple[list[bool], list[int]]:
        """Which slots still write, and how many tokens each has written; waits for the device."""
        live, written = torch.stack([self._live, self._written]).tolist()
        return [bool(number) for number in live], written

    def free_caches(self) -> None:
        """Give the memory back that only writing needs."""
        self._keys.clear()
        self._values.clear()
        self._run_step = _nothing
        if self.tokens.is_cuda:
            torch.cuda.empty_cache()

    def _read(
        self,
        slots: Sequence[int],
        prompts: Sequence[Sequence[int]],
        temperatures: Sequence[float],
        limit: int,
    ) -> None:
        device = self.tokens.device
        lengths, width = [len(prompt) for prompt in prompts], self._width(prompts)
        padded = torch.zeros(len(prompts), width, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            padded[row, : len(prompt)] = torch.tensor(prompt)
        kept: KeysValues = []
        final_states(self._shape, self._weights, self._rotation, padded.to(device), kept)
        at = torch.tensor(slots, device=device)
        for layer, (keys, values) in enumerate(kept):
            self._keys[layer][at, :, :width] = keys
            self._values[layer][at, :, :width] = values
        last = torch.tensor(lengths) - 1
        # The last token of a prompt goes through the first step, which then draws.
        self._token[at] = padded[torch.arange(len(prompts)), last].to(device)
        self._position[at] = last.to(device)
        self._written[at], self._limit[at], self._live[at] = 0, limit, 1
        self._temperature[at] = torch.tensor(temperatures, device=device, dtype=torch.float32)

    def _width(self, prompts: Sequence[Sequence[int]]) -> int:
        longest = max(map(len, prompts))
        return min(self._context_tokens, -(-longest // _PROMPT_STEP) * _PROMPT_STEP)

    def _one_step(self) -> None:
        states = self._final_states()
        logits = (states @ self._weights.unembedding.T).float()
        # Gumbel noise: the largest sum is a draw from the softmax; at temperature 0 there is none.
        noise = torch.empty_like(logits).exponential_().log_()
        drawn = logits.addcmul_(noise, self._temperature[:, None], value=-1).argmax(-1)
        self.tokens.index_copy_(0, self._step, drawn.int()[None])
        self.states.index_copy_(0, self._step, states.to(self.states.dtype)[None])
        self._step.add_(1).clamp_(max=self.num_steps - 1)
        self._written.add_(self._live)
        is_end = (drawn[:, None] == self._ends).any(-1)
        is_over = is_end | (self._written >= self._limit)
        self._live.mul_((~is_over).long())
        self._position.add_(1).clamp_(max=self._context_tokens - 1)
        self._token.copy_(drawn)

    def _final_states(self) -> Tensor:
        shape, weights = self._shape, self._weights
        rotation = self._rotation.of(self._position)
        states = weights.embedding[self._token]
        for layer, of_layer in enumerate(weights.layers):
            query, key, value = self._layer_start(shape, of_layer, rotation, states)
            self._keys[layer][self._slots, :, self._position] = key
            self._values[layer][self._slots, :, self._position] = value
            cached = (self._keys[layer], self._values[layer])
            mixed = attend(query, *cached, self._position)
            states = self._layer_end(shape, of_layer, states, mixed)
        return torch.rms_norm(states, (shape.hidden,), weights.last_norm, shape.norm_epsilon)

    @torch.no_grad()
    def _captured(self) -> Callable[[], None]:
        """One step as a CUDA graph; what trying it out has written is taken back."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._one_step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._one_step()
        for numbers in (self._step, self._position, self._written, self._live):
            numbers.zero_()
        return graph.replay


def _layer_start(
    shape: LlamaShape, weights: LayerWeights, rotation: Rotation, states: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Turned queries and keys, and values [slots, heads or kv_heads, head_size]."""
    normed = torch.rms_norm(states, (shape.hidden,), weights.attention_norm, shape.norm_epsilon)
    heads = weights.heads(normed, shape)
    query_key, value = heads.tensor_split([shape.heads + shape.kv_heads], 1)
    query, key = rotation.turn(query_key).tensor_split([shape.heads], 1)
    return query, key, value


def _layer_end(shape: LlamaShape, weights: LayerWeights, states: Tensor, mixed: Tensor) -> Tensor:
    """States behind a layer [slots, hidden]."""
    states = states + functional.linear(mixed.flatten(1), weights.attention_out)
    return states + feed_forward(states, shape, weights)


def _kept(dtype: torch.dtype) -> torch.dtype:
    """States are kept as they come, but never in bfloat16, whose 8 bits cost 0.018 in total
    variation where float16 costs 0.002 (probe of 2026-11-26).
    """
    return torch.float16 if dtype == torch.bfloat16 else dtype


def _nothing() -> None:
    raise AssertionError("the caches were given back")
