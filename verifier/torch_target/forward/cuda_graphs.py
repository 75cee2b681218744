"""Forward passes of short rounds from CUDA graphs: one launch where eager code needs thousands.

A graph belongs to one shape. Rounds are padded to the next of a few shapes, and a shape is
captured when it is first met and no other will do. This module must never change what a
round computes.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.target.padded_rounds import MOST_PADDED_TOKENS
from verifier.torch_target.forward.round_inputs import RoundInputs
from verifier.torch_target.forward.static_inputs import RoundShape, StaticInputs
from verifier.torch_target.kernels.launch import timing_event
from verifier.torch_target.kernels.paged_layout import PagedLayout

logger = logging.getLogger(__name__)

# A stream with more tokens in a round reads its prompt. Such rounds come in too many shapes to be
# captured, which takes a tenth of a second each.
_MAX_CAPTURED_LENGTH = 64
# Graphs kept; the one that was not used for longest goes. Each costs some MB for its nodes.
MAX_GRAPHS = 256

_TIMED_REPLAYS = 2

Forward = Callable[[RoundInputs, PagedLayout], Tensor]
Agree = Callable[[float], float]  # on seconds, among several GPUs that run the same rounds


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    static: StaticInputs  # what the graph reads
    seconds: float  # of a run over nothing, which leaves what its shape costs


class GraphRunner:
    """Runs a forward function from graphs; for one thread on one GPU."""

    def __init__(
        self,
        forward: Forward,
        device: torch.device,
        *,
        spare_slot: int,
        max_blocks: int,
        agree: Agree | None = None,
    ) -> None:
        """Prepare to capture.

        Args:
            forward: logits [num_rows, vocab_size] of inputs on the device; must not synchronise.
            device: a CUDA device.
            spare_slot: a slot of the cache that belongs to no block.
            max_blocks: the longest block table of a stream.
            agree: where other GPUs take part in each forward pass: what all of them go by. Then
                all capture or none, and choose the same graph, as far as the round alone decides.
        """
        self._forward = forward
        self._device = device
        self._spare_slot = spare_slot
        self._max_blocks = max_blocks
        self._agree = agree
        self._captured: OrderedDict[RoundShape, _Captured] = OrderedDict()
        self._fastest: dict[RoundShape, RoundShape] = {}  # of the captured ones that can run it
        self._can_capture = True
        self._pool = torch.cuda.graph_pool_handle()
        self._logits: Tensor | None = None  # of the latest round

    def logits(self, inputs: RoundInputs, layout: PagedLayout) -> Tensor:
        """Logits [num_rows, vocab_size]; valid until the next call, which waits for nothing."""
        captured = self._filled(inputs, layout)
        if captured is None:
            return self._forward(inputs.to(self._device), layout.to(self._device))
        captured.graph.replay()
        assert self._logits is not None
        return self._logits[: len(inputs.rows)]

    def _filled(self, inputs: RoundInputs, layout: PagedLayout) -> _Captured | None:
        """A graph that is ready to run the round, or None where it had better run without one."""
        if len(inputs.token_ids) > MOST_PADDED_TOKENS or not self._can_capture:
            return None
        shape = RoundShape.of(inputs, layout)
        fastest = self._fastest_for(shape)
        if fastest is None:
            if layout.most_tokens > _MAX_CAPTURED_LENGTH:
                return None
            captured = self._capture(shape, layout)
            if captured is None:
                return None
            self._captured[shape] = captured
            if len(self._captured) > MAX_GRAPHS:
                self._captured.popitem(last=False)
            self._fastest.clear()
            fastest = shape
        captured = self._captured[fastest]
        self._captured.move_to_end(fastest)
        captured.static.fill(inputs, layout)
        return captured

    def _fastest_for(self, shape: RoundShape) -> RoundShape | None:
        """The captured shape that runs a round of this one soonest, or None.

        Not always the smallest: of 448 tokens cuBLAS made 17.8 ms on an H200, of 512 tokens 15.3.
        """
        if shape not in self._fastest:
            able = [other for other in self._captured if other.can_run(shape)]
            if not able:
                return None
            self._fastest[shape] = min(able, key=lambda other: self._captured[other].seconds)
        return self._fastest[shape]

    def _capture(self, shape: RoundShape, layout: PagedLayout) -> _Captured | None:
        """None, now and for good, where the model does what a graph cannot hold.

        Mixtures of experts whose products wait for how many tokens each expert has are such.
        """
        static = StaticInputs(
            shape, layout, self._device, max_blocks=self._max_blocks, spare_slot=self._spare_slot
        )
        static.clear()
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):  # whatever is compiled or allocated at a first call
            logits = self._forward(static.inputs, static.layout)
        if self._logits is None:
            self._logits = logits.new_empty(MOST_PADDED_TOKENS, logits.shape[1])
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode=self._error_mode):
                # One place for all graphs, or each would keep as many rows to itself.
                logits = self._forward(static.inputs, static.layout)
                self._logits[: shape.num_tokens].copy_(logits)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # it has just run without a graph
            torch.cuda.synchronize(self._device)  # raises where the device is lost
            if self._agree is not None:
                raise
            self._can_capture = False
            sentence = "rounds run without CUDA graphs, which is slower: %s"
            logger.warning(sentence, str(error).partition("\n")[0])
            return None
        logger.debug("captured a round of %d tokens", shape.num_tokens)
        seconds = _replay_seconds(graph)
        return _Captured(graph, static, seconds if self._agree is None else self._agree(seconds))

    @property
    def _error_mode(self) -> str:
        """NCCL has a thread of its own, which asks the GPU at any time, also during a capture."""
        return "global" if self._agree is None else "thread_local"


def _replay_seconds(graph: torch.cuda.CUDAGraph) -> float:
    started, ended = timing_event(), timing_event()
    graph.replay()
    started.record()
    for _ in range(_TIMED_REPLAYS):
        graph.replay()
    ended.record()
    ended.synchronize()
    return float(started.elapsed_time(ended)) / 1e3 / _TIMED_REPLAYS
