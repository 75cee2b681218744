"""What an Open may ask beside its prompt, an Opened answer and a Status tell, drawn by a seed."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from shared.protocol.board_health import BoardHealth
from shared.protocol.grammar import Grammar
from shared.protocol.logprobs import packed_bytes
from shared.protocol.messages import ChatMessage, OutputFormat, TemplateOptions
from shared.speculation.logit_processors import MAX_LOGPROBS, LogitProcessors
from shared.speculation.sampling import SamplingParameters
from tests.support.models.processed_rows import random_processors

# Each is tried out in a process and makes a matcher: as seldom as that costs.
GRAMMAR_SHARE = 0.01
GRAMMARS = (
    *(Grammar("json_object"), Grammar("regex", "[a-c]+"), Grammar("regex", "[")),
    *(Grammar("json_schema", '{"type":"array"}'), Grammar("json_schema", '{"type":7}')),
    *(
        Grammar("lark", 'start: "a"', "guided_\n"),
        Grammar("gbnf", 'root ::= "a"*'),
        Grammar("gbnf", "("),
    ),
)
TEMPLATE_ARGUMENTS = ("", "", "{}", '{"a":[1]}', "[", "7", '{"messages":1}')


class RequestFields:
    """An endless source of them; the same for the same seed."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._numbers = np.random.default_rng(random.randrange(1 << 32))

    def of_open(self) -> dict[str, Any]:
        """Most are left out most of the time."""
        pick = self._random
        return {
            "left_open": pick.choice(((), (), ("temperature",), ("top_k", "top_p", "top_k"))),
            "template": self._template(),
            "processors": self.processors(),
            "num_logprobs": self.num_logprobs(),
            "num_prompt_logprobs": self.num_logprobs(),
            "grammar": self._grammar(),
            "processors_left_open": pick.choice(((), (), ("min_p",), ("repetition_penalty",) * 2)),
            "must_call": pick.choice(((),) * 9 + (("f",), ("", "f"))),
        }

    def of_generation(self) -> dict[str, Any]:
        """What a verifier must say back in Opened."""
        grammar = self._random.choice((None, None, None, *GRAMMARS))
        return {
            "processors": self.processors(),
            "num_logprobs": self.num_logprobs(),
            "num_prompt_logprobs": self.num_logprobs(),
            "grammar": grammar,
        }

    def of_opened(self) -> dict[str, Any]:
        """What only a stream that was taken up again is told."""
        pick = self._random
        return {
            "cached_prefix_tokens": pick.choice((0, 0, 9)),
            "sampling": self.sampling(),
            "stop": pick.choice(((), (), ("x",))),
            "max_tokens": pick.choice((None, 1, 9)),
            "draft_length": pick.choice((None, 0, 4)),
        }

    def sampling(self) -> SamplingParameters:
        """Greedy or not, and at its edges."""
        pick = self._random
        temperature = pick.choice((0.0, 0.8, 5e-324, 100.0))
        return SamplingParameters(temperature, pick.randrange(3), pick.choice((1.0, 0.5, 5e-324)))

    def turn(self) -> ChatMessage:
        """Of a chat; a tool's answers one call."""
        pick = self._random
        if pick.random() < 0.5:
            return ChatMessage("user", "hello")
        return ChatMessage("tool", "1", tool_call_id=pick.choice(("", "c")), name="f")

    def output_format(self) -> OutputFormat:
        """Of an answer; unknown names are taken for none."""
        return OutputFormat(*(self._random.choice(("", "", "hermes", "x")) for _ in "123"))

    def processors(self) -> LogitProcessors:
        """Any legal ones, mostly at their edges."""
        return random_processors(self._numbers)

    def num_logprobs(self) -> int | None:
        """Of other tokens."""
        return self._random.choice((None, None, None, 0, 1, MAX_LOGPROBS))

    def logprobs(self, num_tokens: int, num_others: int | None) -> bytes:
        """As many as were asked for, most of the time."""
        pick = self._random
        if pick.random() < 0.03:
            num_tokens += pick.choice((-1, 1))
        if num_others is None:
            return b"" if pick.random() < 0.97 else bytes(4)
        num_bytes = max(num_tokens, 0) * packed_bytes(num_others)
        return pick.choice((bytes(num_bytes), bytes(num_bytes), pick.randbytes(num_bytes)))

    def health(self) -> BoardHealth | None:
        """Of a board's hardware."""
        pick = self._random
        flags = [pick.choice((None, False, True)) for _ in range(4)]
        measured = pick.choice((None, -100, 300)), pick.choice((None, 0))
        return pick.choice((None, BoardHealth(), BoardHealth(*measured, *flags)))

    def _template(self) -> TemplateOptions:
        pick = self._random
        arguments = pick.choice(TEMPLATE_ARGUMENTS)
        return TemplateOptions(arguments, pick.random() < 0.8, pick.random() < 0.2)

    def _grammar(self) -> Grammar | None:
        pick = self._random
        return pick.choice(GRAMMARS) if pick.random() < GRAMMAR_SHARE else None
