"""A board's API, its board and its verifier: a target of random weights that writes any form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge_agent.draft_model.scripted_drafter import ScriptedDrafter
from shared.protocol.messages import PLAIN_OUTPUT, OutputFormat
from shared.speculation.scripted_model import ScriptedModel
from tests.support.ends.api_server import serving
from tests.support.ends.loopback import loopback, make_service
from tests.support.models.text_vocabulary import END_IDS, TOKEN_BYTES, TextTokenizer
from verifier.target.scripted_target import ScriptedTarget

WITH_LINES = (*TOKEN_BYTES[:-2], b"\n", b"")  # of the vocabulary's padding


# Control tokens by which a family marks its calls.
MARKS = {
    "mistral": (b"[TOOL_CALLS]", b"[ARGS]"),
    "gemma": (b"<|tool_call>", b"<tool_call|>", b'<|"|>'),
    "harmony": (b"<|channel|>", b"<|message|>", b"<|start|>", b"<|end|>", b"<|constrain|>"),
}


class LineTokenizer(TextTokenizer):
    """Of a target that writes calls in this form; the vocabulary has a line's end, and marks."""

    def __init__(self, output_format: OutputFormat) -> None:
        self.output_format = output_format
        self.token_bytes = (*WITH_LINES, *MARKS.get(output_format.tools, ()))
        marks = range(len(WITH_LINES), len(self.token_bytes))
        self.special_ids = frozenset({*END_IDS, *marks})


@asynccontextmanager
async def serving_forms(output_format: OutputFormat = PLAIN_OUTPUT) -> AsyncIterator[str]:
    """The address of the API."""
    tokenizer = LineTokenizer(output_format)
    model = ScriptedModel(len(tokenizer.token_bytes), seed=11, sharpness=2.0)
    target = ScriptedTarget(model, delay_seconds=lambda num_tokens: 0.002)
    board = ScriptedDrafter(model.logits, tokenizer.token_bytes, num_slots=8)
    service = make_service(target, tokenizer)
    async with (
        loopback(service, [board]) as (_, (agent,)),
        serving(agent, tokenizer=agent.tokenizer) as url,
    ):
        yield url
