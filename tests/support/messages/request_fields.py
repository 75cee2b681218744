"""What an Open may ask beside its prompt, an Opened answer and a Status tell, drawn by a seed."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from shared.protocol.board_health import BoardHealth
from shared.protocol.grammar import Grammar
from shared.protocol.logprobs import packed_bytes
from shared.protocol.messages import OutputFormat, TemplateOptions
from shared.speculation.logit_processors import MAX_LOGPROBS, LogitProcessors
from tests.support.models.processed_rows import random_processors

# Each is tried out in a process and makes a matcher: as seldom as that costs.
GRAMMAR_SHARE = 0.01
GRAMMARS = (
    *(Grammar("json_object"), Grammar("regex", "[a-c]+"), Grammar("regex", "[")),
    *(Grammar("json_schema", '{"type":"array"}'), Grammar("json_schema", '{"type":7}')),
    *(Grammar("lark", 'start: "a"'), Grammar("gbnf", 'root ::= "a"*'), Grammar("gbnf", "(")),
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
        told = (pick.choice((None, -100, 300)), pick.choice((None, 0)), pick.choice((None, True)))
        return pick.choice((None, BoardHealth(), BoardHealth(*told, was_slowed=True)))

    def _template(self) -> TemplateOptions:
        pick = self._random
        arguments = pick.choice(TEMPLATE_ARGUMENTS)
        return TemplateOptions(arguments, pick.random() < 0.8, pick.random() < 0.2)

    def _grammar(self) -> Grammar | None:
        pick = self._random
        return pick.choice(GRAMMARS) if pick.random() < GRAMMAR_SHARE else None
