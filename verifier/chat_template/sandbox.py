"""The program that renders chat templates: a process of its own with little memory and time.

Run by `sandbox_process` with `python -I`, so it must never import another module of the project.
One line of JSON comes in for each job, one line of JSON goes out. A template is a program from the
internet: jinja's sandbox keeps it away from Python's internals, the kernel from memory and time.
"""

from __future__ import annotations

import functools
import json
import resource
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import Environment, Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Measured by tests/benchmarks/bench_template.py (one core of an EPYC 9005, Python 3.11, 2026-11):
# after 100 chats of 1,023 turns of 212 characters the process holds 24 to 25 MB.
_MEMORY_BYTES = 512 << 20
# For one job. A chat of one turn takes 0.03 to 0.07 ms, one of 1,023 turns 4 to 12 ms (Qwen3's
# template 30), p99 10 to 27 ms (75); the very first chat 50 to 120 ms, as the process starts.
_CPU_SECONDS = 2.0
_MAX_CHARACTERS = 8 << 20  # of one prompt
_MAX_REASON_CHARACTERS = 500


class _Generation(Extension):
    """`{% generation %}` marks what a model said; it prints as it is."""

    tags = {"generation"}  # noqa: RUF012 (jinja's own way to say it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def template_environment() -> Environment:
    """What templates of models expect, with the names that transformers gives them."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: object) -> None:
    raise TemplateError(str(message))


def render(template: Template, variables: dict[str, Any]) -> dict[str, str]:
    """The prompt as `text`, or why there is none as `reason`."""
    try:
        text = template.render(variables)
        text.encode()  # half a surrogate pair is no text
    except MemoryError:
        return {"reason": f"it needs more than {_MEMORY_BYTES >> 20} MB"}
    except Exception as error:  # noqa: BLE001 (whatever a template does, it is told to the client)
        return {"reason": reason_of(error)}
    if len(text) > _MAX_CHARACTERS:
        return {"reason": f"it makes more than {_MAX_CHARACTERS} characters"}
    return {"text": text}


def reason_of(error: Exception) -> str:
    """What the template says, or what went wrong in it."""
    words = " ".join(str(error).split())
    if not isinstance(error, TemplateError) or not words:
        words = f"{type(error).__name__}: {words}".removesuffix(": ")
    return words[:_MAX_REASON_CHARACTERS]


def _answer(compiled: Callable[[str], Template], job: dict[str, Any]) -> list[dict[str, str]]:
    try:
        template = compiled(job["template"])
    except Exception as error:  # noqa: BLE001 (as in `render`)
        return [{"reason": reason_of(error)} for _ in job["renders"]]
    return [render(template, variables) for variables in job["renders"]]


def main() -> None:
    """Answer jobs until the verifier closes the pipe, or a job takes too long."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the verifier ends in order
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, in C code too
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    # Of one target there is one template; to compile Qwen3's takes 8 ms.
    compiled = functools.lru_cache(maxsize=1)(template_environment().from_string)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)
        answers = _answer(compiled, json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(json.dumps(answers).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
