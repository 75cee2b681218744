"""Grammars for streams: tried out in a process with bounds, then kept beside the target.

Everything here may take long: call it in a thread.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shared.daemon.resources.bounded_process import BoundedProcess
from shared.errors import RequestRefused
from shared.protocol.grammar import Grammar
from verifier.target.target import Tokenizer

if TYPE_CHECKING:
    from verifier.grammar.mask_threads import MaskThreads
    from verifier.grammar.stream_grammar import StreamGrammarInThreads
    from verifier.grammar.token_table import TokenTable

PROGRAM = Path(__file__).with_name("compiler.py")


class _Compiled(msgspec.Struct, frozen=True):
    """A grammar in the library's own form, or why it is none."""

    grammar: str = ""
    reason: str | None = None


class Grammars:
    """Those of one verifier; nothing is started or imported before the first one, or `prepare`."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._compiler = BoundedProcess(PROGRAM)
        self._lock = threading.Lock()
        self._table: TokenTable | None = None
        self._threads: MaskThreads | None = None

    def prepare(self) -> None:
        """Read the vocabulary: it holds Python's lock for long, so best before an event loop runs.

        Without a token that ends a text there is nothing to prepare: no grammar could end.
        """
        from verifier.grammar.mask_threads import MaskThreads
        from verifier.grammar.token_table import TokenTable

        tokenizer = self._tokenizer
        with self._lock:
            if self._table is None and tokenizer.end_ids:
                self._table = TokenTable(
                    tokenizer.token_bytes,
                    self._vocab_size,
                    tokenizer.special_ids,
                    tokenizer.end_ids,
                    partial(tokenizer.encode_text, adds_special=False),
                )
            if self._threads is None:
                self._threads = MaskThreads()

    def begin(self, grammar: Grammar, wake: Callable[[], None]) -> StreamGrammarInThreads:
        """The grammar for a stream; `wake` when masks are ready that no round waited for.

        Raises:
            RequestRefused: it is no grammar, no text satisfies it, or it is too large.
        """
        from verifier.grammar.matcher_state import MatcherState
        from verifier.grammar.stream_grammar import StreamGrammarInThreads

        job = json.dumps({"kind": grammar.kind, "text": grammar.text}).encode() + b"\n"
        answer = self._compiler.answer(job)
        if isinstance(answer, str):
            raise _refusal(grammar, answer)
        compiled = msgspec.json.decode(answer, type=_Compiled)
        if compiled.reason is not None:
            raise _refusal(grammar, compiled.reason)
        self.prepare()
        if self._table is None or self._threads is None:
            raise _refusal(grammar, "the target has no token that ends a text")
        matcher = partial(self._table.matcher, compiled.grammar)
        state = MatcherState(matcher, self._vocab_size, self._tokenizer.end_ids)
        if state.is_broken:
            raise _refusal(grammar, "it cannot be read")
        return StreamGrammarInThreads(state, self._threads, wake)

    def close(self) -> None:
        """End threads and process; the next grammar would start them again."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.close()
        self._compiler.close()


def _refusal(grammar: Grammar, reason: str) -> RequestRefused:
    return RequestRefused(f"{grammar.field} cannot be followed: {reason}", grammar.field)
