"""Whatever a template does, the verifier gets a prompt or a reason, in bounded time and memory."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from verifier.chat_template.sandbox import template_environment
from verifier.chat_template.sandbox_process import PROGRAM, Rendered, SandboxProcess


def reason(template: str, **variables: object) -> str:
    (rendered,) = SandboxProcess().render(template, [variables])
    assert rendered.reason is not None, rendered.text[:100]
    return rendered.reason


def until(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_so()


def sandboxes() -> set[str]:
    """Process ids of this process's sandboxes that run."""
    ids = " ".join(
        children.read_text() for children in Path(f"/proc/{os.getpid()}/task").glob("*/children")
    ).split()
    return {i for i in ids if str(PROGRAM) in Path(f"/proc/{i}/cmdline").read_bytes().decode()}


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('no critics here') }}", "no critics here"),
        ("{{ missing.name }}", "'missing' is undefined"),
        ("{{ 'a' + 1 }}", 'TypeError: can only concatenate str (not "int") to str'),
        ("{{ 1 // 0 }}", "ZeroDivisionError: integer division or modulo by zero"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError: maximum recursion"),
        ("{% for %}", "Expected an expression, got 'end of statement block'"),
        ("{% include 'secret' %}", "TypeError: no loader for this environment specified"),
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ x.append(1) }}", "access to attribute 'append' of 'list' object is unsafe"),
        ("{{ '\\ud800' }}", "UnicodeEncodeError: 'utf-8' codec can't encode"),
        ("{{ raise_exception('no ' * 1000) }}", "no no no"),
        ("{{ raise_exception('') }}", "TemplateError"),
    ],
)
def test_a_template_that_fails_gives_its_reason(template: str, words: str) -> None:
    said = reason(template, x=[])
    assert words in said
    assert len(said) <= 500


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "it takes too long",
        ),
        (
            "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
            "{{ f(60) }}",
            "it takes too long",
        ),
        ("{{ 9 ** 99999999 }}", "it takes too long"),
        ("{{ 'a' * 10 ** 10 }}", "it needs more than 512 MB"),
        ("{{ '%9999999999d' % 1 }}", "it needs more than 512 MB"),
        ("{{ 'a' | center(10 ** 10) }}", "it needs more than 512 MB"),
        ("{{ 'a' * 9000000 }}", "it makes more than 8388608 characters"),
        ("{{ range(100001) }}", "OverflowError: Range too big"),
    ],
)
def test_a_template_has_bounded_time_memory_and_size(template: str, words: str) -> None:
    started_at = time.monotonic()
    assert words in reason(template)
    assert time.monotonic() - started_at < 30  # 2 s of a core, and what others leave of one


def test_the_next_chat_after_a_template_was_ended_is_served() -> None:
    sandbox = SandboxProcess()
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    assert [Rendered(reason="it takes too long")] * 2 == sandbox.render(endless, [{}, {}])
    assert [Rendered("a"), Rendered("b")] == sandbox.render("{{ x }}", [{"x": "a"}, {"x": "b"}])


def test_one_render_that_fails_does_not_take_the_others_along() -> None:
    failed, done = SandboxProcess().render("{{ 1 // x }}", [{"x": 0}, {"x": 1}])
    assert failed.reason is not None
    assert Rendered("1") == done


def test_what_models_expect_of_their_templates_is_there() -> None:
    text = (
        "{% set space = namespace(n=0) %}{% for turn in x %}{% if loop.first %}{% continue %}"
        "{% endif %}{% set space.n = space.n + 1 %}{% endfor %}{{ space.n }}"
        "{% generation %}said{% endgeneration %}{{ {'a': '<é>'} | tojson }}"
        "{{ strftime_now('%Y') | length }}{{ dict(a=1).a }}"
    )
    assert '1said{"a": "<é>"}41' == template_environment().from_string(text).render(x=[1, 2])


def test_the_process_gets_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    of_others = sandboxes()  # targets that tests share have theirs
    sandbox = SandboxProcess()
    sandbox.render("x", [{}])
    (process_id,) = sandboxes() - of_others
    assert b"secret" not in Path(f"/proc/{process_id}/environ").read_bytes()


def test_the_process_ends_with_its_owner() -> None:
    of_others = sandboxes()
    sandbox = SandboxProcess()
    assert [Rendered("x")] == sandbox.render("x", [{}])
    assert 1 == len(sandboxes() - of_others)
    del sandbox
    gc.collect()
    assert until(lambda: not sandboxes() - of_others)


def test_the_process_ends_when_the_verifier_was_killed() -> None:
    process = subprocess.Popen(
        [sys.executable, "-I", str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    job = json.dumps({"template": "x", "renders": [{}]}).encode()
    output, _ = process.communicate(job + b"\n", timeout=30)  # then the pipe is closed
    assert b'[{"text": "x"}]\n' == output
    assert 0 == process.returncode


def test_a_chat_leaves_nothing_behind_for_the_next() -> None:
    """The template is compiled once, for all of them."""
    template = (
        "{% set ns = namespace(n=0) %}{% set seen = joiner(',') %}{% for x in xs %}"
        "{% set ns.n = ns.n + 1 %}{{ seen() }}{{ x }}{% endfor %}:{{ ns.n }}"
        "{{ left | default('') }}{% set left = 'behind' %}"
    )
    sandbox = SandboxProcess()
    jobs: list[list[dict[str, object]]] = [[{"xs": [1, 2]}, {"xs": [3]}], [{"xs": [1, 2]}]]
    first, second = (sandbox.render(template, renders) for renders in jobs)
    assert [Rendered("1,2:2"), Rendered("3:1")] == first
    assert [Rendered("1,2:2")] == second
    assert [Rendered("other")] == sandbox.render("other", [{}])
    assert [Rendered("1,2:2")] == sandbox.render(template, jobs[1])
