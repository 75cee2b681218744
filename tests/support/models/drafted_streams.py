"""Streams that a target verifies in one batch, with drafts that are right in most places."""

from __future__ import annotations

from shared.speculation.sampling import SamplingParameters
from verifier.rounds.blocks import BlockPool
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.torch_target.forward.torch_target import TorchTarget

NUM_TOKENS = 40
CHUNK_TOKENS = 11  # prompts are read in chunks, beside other streams' drafts


class DraftedStreams:
    """Streams verified in one batch, with drafts cut from outputs and spoilt here and there."""

    def __init__(
        self,
        target: TorchTarget,
        prompts: list[list[int]],
        outputs: list[list[int]],
        sampling: SamplingParameters,
        num_tokens: int = NUM_TOKENS,
    ) -> None:
        """Streams of `num_tokens` output tokens each; `outputs` are what drafts are cut from."""
        self.target = target
        self.pool = BlockPool(target.num_blocks, target.block_tokens)
        self.prompts = prompts
        self.outputs = outputs
        self.sampling = sampling
        self.num_tokens = num_tokens
        self.committed: list[list[int]] = [[] for _ in prompts]
        self.num_cached = [0] * len(prompts)
        # Every second block is another stream's, so that the last stream's table is no run.
        others = range(100, 100 + target.num_blocks // 2)
        for other in others:
            self.pool.reserve(other, target.block_tokens)
        for other in others[::2]:
            self.pool.release(other)
        for stream, prompt in enumerate(prompts):
            size = len(prompt) + 2 * num_tokens
            self.pool.reserve(stream, size if stream else 200 * target.block_tokens // 4)

    def run(self, max_window: int) -> list[list[int]]:
        """The output of every stream, after rounds with drafts of up to `max_window` tokens."""
        number = 0
        while unfinished := [
            i for i, out in enumerate(self.committed) if len(out) < self.num_tokens
        ]:
            items = [
                self._item(stream, (number * 5 + stream * 7) % (max_window + 1))
                for stream in unfinished
            ]
            for item, outcome in zip(
                items, self.target.run(Round(tuple(items))).items, strict=True
            ):
                stream = item.stream
                if item.draft_check is None or outcome is None:
                    self.num_cached[stream] += len(item.token_ids)
                    continue
                assert outcome.token_id is not None
                accepted = item.draft_check.draft_token_ids[: outcome.num_accepted]
                self.committed[stream] += [*accepted, outcome.token_id]
                num_tokens = len(self.prompts[stream]) + len(self.committed[stream])
                self.num_cached[stream] = num_tokens - 1
                self.pool.shrink(stream, num_tokens - 1)
            number += 1
        return [output[: self.num_tokens] for output in self.committed]

    def _item(self, stream: int, window: int) -> RoundItem:
        tokens = self.prompts[stream] + self.committed[stream]
        num_cached, position = self.num_cached[stream], len(self.committed[stream])
        pending = tokens[num_cached:]
        draft_check = None
        if len(pending) > CHUNK_TOKENS:
            pending = pending[:CHUNK_TOKENS]
        else:
            drafts = self.outputs[stream][position : position + window]
            spoilt = [
                (token + 1) % self.target.vocab_size if i == (position + stream) % 6 else token
                for i, token in enumerate(drafts)
            ]
            draft_check = DraftCheck(
                tuple(spoilt), (), "coupled", self.sampling, 77, position, True
            )
            pending = pending + spoilt
        return RoundItem(
            stream=stream,
            token_ids=tuple(pending),
            num_cached_tokens=num_cached,
            block_table=self.pool.grow(stream, num_cached + len(pending)),
            draft_check=draft_check,
        )
