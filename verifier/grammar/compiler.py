"""The program that tries grammars out: a process of its own with little memory and time.

Run by `shared.daemon.resources.bounded_process` with `python -I`, so it must never import another
module of the project. A grammar comes from a stranger, and a library written for honest ones reads
it: what ends this process would have ended the verifier. One line of JSON comes in for each
grammar, one goes out: the grammar in llguidance's own form, or why it is none.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
import threading
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from llguidance.gbnf_to_lark import any_to_lark

_MEMORY_BYTES = 512 << 20
# For one grammar. 2,000 optional properties take 0.2 s, common schemas 1 ms (a core of an EPYC
# 9005, 2026-11).
_CPU_SECONDS = 2.0
# Of the thread that compiles; the verifier's own threads have the double, so what is too deep for
# them ends this process first.
_STACK_BYTES = 4 << 20
_MAX_REASON_CHARACTERS = 300
_ENDLESS = (
    "it begins with a text that never ends, as where a schema requires itself, or is too long"
)
_END_ID, _MARK_ID = 256, 257
# A token by its id: of what the target's vocabulary has, only its own process knows.
# As the library shows the place of an error: lines with their numbers, and a mark below one.
_SHOWN_LINE = re.compile(r"^ *(\d+ \|.*|\^+ *)$", re.MULTILINE)
_TOKEN = re.compile(r"<\[\d+\]>")
# One line, spaced as Python writes JSON and most texts that models have read: what may come is
# mostly known, and no model fills its answer with blanks. A schema's `x-guidance` stands above it.
_JSON_FORM: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Bytes:
    """A vocabulary of all single bytes, an end and a mark, in the form that the library reads."""

    eos_token_id = _END_ID
    bos_token_id = None
    tokens = (*[bytes([i]) for i in range(256)], b"<end>", b"<mark>")
    special_token_ids = (_END_ID, _MARK_ID)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def limits() -> LLParserLimits:
    """What a grammar may cost, here and in the verifier.

    Within them a mask takes 20 ms at most, a token of an ambiguous grammar 15 ms (128,256 tokens;
    2026-11). A state of a lexer takes 1 to 2 kB.
    """
    return LLParserLimits(max_items_in_row=1000, max_lexer_states=10_000, verbose_errors=False)


def in_own_form(kind: str, text: str) -> str:
    """The grammar as llguidance reads it; raises ValueError where it is none."""
    if kind == "json_object":
        return LLMatcher.grammar_from_json_schema({"type": "object"}, defaults=_JSON_FORM)
    if kind == "json_schema":
        schema = json.loads(text)
        if schema in (True, {}):
            schema = {"x-guidance": {}}
        if not isinstance(schema, dict):
            raise ValueError("a schema must be an object")
        return LLMatcher.grammar_from_json_schema(schema, defaults=_JSON_FORM)
    if kind == "regex":
        return LLMatcher.grammar_from_regex(text)
    return LLMatcher.grammar_from_lark(any_to_lark(text) if kind == "gbnf" else text)


def compiled(tokenizer: LLTokenizer, kind: str, text: str) -> dict[str, str]:
    """The grammar as `grammar`, or why it is none as `reason`."""
    try:
        grammar = in_own_form(kind, text)
        tried = _TOKEN.sub(f"<[{_MARK_ID}]>", grammar) if kind == "lark" else grammar
        matcher = LLMatcher(tokenizer, tried, log_level=0, limits=limits())
        if not matcher.is_error():
            matcher.compute_bitmask()
        if not matcher.is_error() and _forces_too_much(matcher):
            return {"reason": _ENDLESS}
        if not matcher.is_error() and not matcher.is_stopped():
            matcher.compute_bitmask()  # behind what must come there may be no way on
    except MemoryError:
        return {"reason": f"it needs more than {_MEMORY_BYTES >> 20} MB"}
    except RecursionError:
        return {"reason": "it is nested too deeply"}
    except Exception as error:  # noqa: BLE001 (whatever is wrong with it is told to the client)
        return {"reason": shortened(str(error))}
    if matcher.is_error():
        return {"reason": shortened(matcher.get_error())}
    return {"grammar": grammar}


def _forces_too_much(matcher: LLMatcher) -> bool:
    """Whether the library fails at the text that must come, which it reads ahead as a whole.

    If not, the matcher stands behind that text.
    """
    forced = matcher.compute_ff_tokens()
    return bool(forced) and not matcher.consume_tokens(forced)


def shortened(reason: str) -> str:
    """The library's first words; behind them it shows lines of the grammar, and its state."""
    words = " ".join(_SHOWN_LINE.sub("", reason.partition("<state>")[0]).split())
    words = words.removeprefix("Parser Error: ").removeprefix("lexer error: ")
    if words.startswith("NoExtension"):
        words = "no text can satisfy it"
    return words[:_MAX_REASON_CHARACTERS] or "it cannot be read"


def _answer_jobs() -> None:
    tokenizer = LLTokenizer(TokenizerWrapper(Bytes()), eos_token=_END_ID)
    for line in sys.stdin.buffer:
        job: dict[str, Any] = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)
        answer = compiled(tokenizer, job["kind"], job["text"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def main() -> None:
    """Answer jobs until the verifier closes the pipe, or a job takes too long."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the verifier ends in order
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, in Rust too
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    threading.stack_size(_STACK_BYTES)
    worker = threading.Thread(target=_answer_jobs)
    worker.start()
    worker.join()


if __name__ == "__main__":
    main()
