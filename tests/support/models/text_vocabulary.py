"""A scripted target whose tokens make JSON, and boards for it: characters and pieces of some."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.draft_model.scripted_drafter import ScriptedDrafter
from shared.protocol.grammar import Grammar
from shared.protocol.messages import (
    PLAIN_OUTPUT,
    PLAIN_TEMPLATE,
    ChatMessage,
    OutputFormat,
    TemplateOptions,
)
from shared.speculation.noise import Domain
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.sampling import SamplingParameters
from shared.speculation.scripted_model import ScriptedModel
from shared.speculation.verification import draw_dense
from tests.support.ends.loopback import make_service, round_settings
from verifier.engine.service import VerifierService
from verifier.grammar.grammars import Grammars
from verifier.grammar.stream_grammar import StreamGrammarInThreads
from verifier.policies.draft_policy import DraftPolicy
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.token_masks import allowed_tokens

END_IDS = (0, 1)  # two of them, as many models have
_CHARACTERS = [bytes([code]) for code in range(32, 127)]
_PIECES = [
    *(b'{"', b'"}', b'", "', b'": ', b'": "', b", ", b"name", b"na", b"me", b"age", b"true"),
    *(b"null", b"12", b"99", b"[]", b"ab", b"abc", b"bc", b"a", "é".encode(), b"\xc3", b"\xa9"),
]
# With padding, and an id whose bytes another one has too, as vocabularies of real models.
TOKEN_BYTES = (b"<|end|>", b"<|stop|>", *_CHARACTERS, *_PIECES, b"", b"")
VOCAB_SIZE = len(TOKEN_BYTES)
MODEL = ScriptedModel(VOCAB_SIZE, seed=11, sharpness=2.0)

_SURE = 8.0  # logits of what a board expects above the others


class TextTokenizer:
    """Implements `verifier.target.target.Tokenizer`; the longest piece that fits comes first."""

    token_bytes: tuple[bytes, ...] = TOKEN_BYTES
    output_format: OutputFormat = PLAIN_OUTPUT
    special_ids = frozenset(END_IDS)
    end_ids = frozenset(END_IDS)

    def encode_text(self, text: str, *, adds_special: bool = True) -> list[int]:
        rest, token_ids = text.encode(), list[int]()
        while rest:
            fitting = [
                i for i in range(2, VOCAB_SIZE) if rest.startswith(self.token_bytes[i] or b"\0")
            ]
            token_ids.append(max(fitting, key=lambda i: len(self.token_bytes[i])))
            rest = rest[len(self.token_bytes[token_ids[-1]]) :]
        return token_ids

    def encode_chat(
        self,
        messages: Sequence[ChatMessage],
        options: TemplateOptions = PLAIN_TEMPLATE,
        tools: bytes = b"",
    ) -> list[int]:
        return self.encode_text("".join(message.content for message in messages))


def text_service(
    round_seconds: float = 0.004, policy: DraftPolicy | None = None
) -> VerifierService:
    """A verifier without a port; its rounds take so long that boards can draft meanwhile."""
    target = ScriptedTarget(MODEL, delay_seconds=lambda num_tokens: round_seconds)
    return make_service(target, TextTokenizer(), round_settings(), policy)


def text_board(expected: Sequence[Sequence[int]] = (), num_slots: int = 32) -> ScriptedDrafter:
    """A board that knows of no grammar, but mostly knows these texts, ids with their prompts.

    At every fifth place it is sure of another token than what comes there, and behind that, or in
    another text, it drafts as the target would without a grammar.
    """

    def logits(tokens: tuple[int, ...]) -> NDArray[np.float32]:
        guessed = MODEL.logits(tokens).copy()
        num_tokens = len(tokens)
        for text in expected:
            if num_tokens < len(text) and tuple(text[:num_tokens]) == tokens:
                token_id = text[num_tokens] if num_tokens % 5 else 2 + num_tokens % 90
                guessed[token_id] += _SURE
        return guessed

    return ScriptedDrafter(logits, TOKEN_BYTES, num_slots=num_slots)


class HeldTarget:
    """The target alone under a grammar, by the float64 reference: a token at a time, no drafts."""

    def __init__(self) -> None:
        self._grammars = Grammars(TextTokenizer(), VOCAB_SIZE)

    def output(
        self,
        grammar: Grammar,
        prompt: str,
        sampling: SamplingParameters,
        seed: int,
        max_tokens: int,
    ) -> list[int]:
        """Its tokens in `coupled`, of which greedy is a part."""
        held = self._grammars.begin(grammar, lambda: None)
        prompt_ids, output = TextTokenizer().encode_text(prompt), list[int]()
        while len(output) < max_tokens and not (output and output[-1] in END_IDS):
            probs = self._probs(held, prompt_ids, output, sampling)
            output.append(draw_dense(probs, seed, len(output), Domain.COUPLED))
        return output

    def distribution(
        self, grammar: Grammar, prompt: str, sampling: SamplingParameters
    ) -> dict[tuple[int, ...], float]:
        """The probabilities of all outputs, of a grammar that has few."""
        prompt_ids, open_outputs = TextTokenizer().encode_text(prompt), [((), 1.0)]
        ended: dict[tuple[int, ...], float] = {}
        while open_outputs:
            output, prob = open_outputs.pop()
            if output and output[-1] in END_IDS:
                ended[output] = prob
                continue
            held = self._grammars.begin(grammar, lambda: None)
            held.begin_behind(output)
            probs = self._probs(held, prompt_ids, list(output), sampling)
            for i in np.flatnonzero(probs).tolist():
                open_outputs.append(((*output, i), prob * float(probs[i])))
        return ended

    def close(self) -> None:
        self._grammars.close()

    def _probs(
        self,
        held: StreamGrammarInThreads,
        prompt_ids: list[int],
        output: list[int],
        sampling: SamplingParameters,
    ) -> NDArray[np.float64]:
        masks = held.masks(output, ()).wait(time.monotonic() + 10)
        assert masks is not None
        assert len(masks) == 1, "the mask did not come in time"
        allowed = allowed_tokens(masks, VOCAB_SIZE)[0]
        logits = np.where(allowed, MODEL.logits(prompt_ids + output), -np.inf)
        return dense_probabilities(logits, sampling)
