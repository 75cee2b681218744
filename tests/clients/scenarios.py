"""What every client must be able to do with a board, and which clients are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from edge_agent.generation.generation import GenerationRequest

MODEL = "scripted-target"
TEXT = "Hello wide world"

Seen = GenerationRequest | None
Check = Callable[[Any, Seen], bool]


class Scenario(NamedTuple):
    """What is done; from its outcome, and from what the board was asked, shows if it is right."""

    name: str
    meaning: str
    is_right: Check


def _is_text(told: Any, seen: Seen) -> bool:
    return bool(told == TEXT and seen is not None)


def _is_stream(told: Any, seen: Seen) -> bool:
    return isinstance(told, list) and "".join(told) == TEXT and len(told) > 1


def _says(word: str) -> Check:
    def is_right(told: Any, seen: Seen) -> bool:
        return isinstance(told, dict) and word in told["error"].lower()

    return is_right


def _has_turns(told: Any, seen: Seen) -> bool:
    assert seen is not None
    *system, one, answer, _ = seen.messages
    said = [(turn.role, turn.content) for turn in (*system, one)]
    is_asked = [("system", "Be brief."), ("user", "one")] == said
    return bool(told == TEXT and is_asked and answer.role == "assistant")


def _is_sampled(told: Any, seen: Seen) -> bool:
    return told == TEXT and seen is not None and (0.5, 7) == (seen.sampling.temperature, seen.seed)


SCENARIOS = (
    Scenario("models", "lists the target", lambda told, seen: told in ([MODEL], [f"{MODEL}"])),
    Scenario("chat", "a whole answer", _is_text),
    Scenario("stream", "the same answer in pieces", _is_stream),
    Scenario("turns", "a system prompt and a conversation", _has_turns),
    Scenario("stop", "a stop string", lambda told, seen: told == "Hello wide"),
    Scenario("length", "at most one token", lambda told, seen: told == "Hello"),
    Scenario("sampling", "temperature and seed reach the target", _is_sampled),
    Scenario("refused", "a value that is none is an error with its name", _says("= 1000")),
    Scenario("away", "a board without its verifier is an error in words", _says("away")),
    Scenario("key", "the right key", _is_text),
    Scenario("wrong key", "a wrong key is an error in words", _says("token is missing or wrong")),
    Scenario("cancel", "leaving a stream ends it", lambda told, seen: told == "Hello"),
    Scenario("resume", "a stream that broke goes on", _is_stream),
    Scenario("completion", "a plain prompt", _is_text),
    Scenario("responses", "OpenAI's newer API", _is_text),
    Scenario("responses stream", "its events", _is_stream),
    Scenario("as anthropic", "by Anthropic's API", _is_text),
    Scenario("as ollama", "by Ollama's API", _is_text),
)
BY_NAME: Mapping[str, Scenario] = {scenario.name: scenario for scenario in SCENARIOS}

_ALL = ("chat", "stream", "turns", "stop", "length", "sampling", "refused", "away", "key")
_CHAT = (*_ALL, "wrong key")


class Client(NamedTuple):
    """A client, the program that uses it, and what it is asked to do."""

    name: str
    program: str
    scenarios: tuple[str, ...]
    is_light: bool = False  # part of the development environment: every run of the tests has it
    package: str = ""  # the environment that it has for itself


CLIENTS = (
    Client(
        "openai (Python)",
        "openai_python.py",
        ("models", *_CHAT, "cancel", "completion", "responses", "responses stream"),
        is_light=True,
    ),
    Client(
        "anthropic (Python)", "anthropic_python.py", ("models", *_CHAT, "cancel"), is_light=True
    ),
    Client(
        "ollama (Python)",
        "ollama_python.py",
        ("models", *_CHAT, "cancel", "completion"),
        is_light=True,
    ),
    Client("curl", "curl.py", ("models", *_CHAT, "cancel", "resume", "completion"), is_light=True),
    Client(
        "openai (Node)",
        "openai_node.mjs",
        ("models", *_CHAT, "cancel", "completion", "responses", "responses stream"),
    ),
    Client("Vercel AI SDK", "vercel_node.mjs", (*_CHAT, "cancel")),
    Client(
        "LangChain",
        "langchain_python.py",
        (*_CHAT, "cancel", "responses"),
        package="langchain-openai",
    ),
    Client(
        "LlamaIndex",
        "llama_index_python.py",
        (*_CHAT, "completion"),
        package="llama-index-llms-openai-like",
    ),
    Client(
        "LiteLLM", "litellm_python.py", (*_CHAT, "as anthropic", "as ollama"), package="litellm"
    ),
    Client(
        "llm", "llm_python.py", tuple(name for name in _CHAT if name != "stream"), package="llm"
    ),
)
