"""What every client must be able to do with a board, and which clients are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from edge_agent.generation.generation import GenerationRequest
from tests.clients.boards import AFTER_CALL, THOUGHT

MODEL = "scripted-target"
TEXT = "Hello wide world"
CALL = ["get_weather", {"city": "Paris"}]

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


def _has_used_tools(told: Any, seen: Seen) -> bool:
    """The board was shown the function, then its own call and what came of it."""
    assert seen is not None
    (tool,) = msgspec.json.decode(seen.tools)
    *_, call, result = seen.messages
    (made,) = call.tool_calls
    shown = (tool["function"]["name"], made.name, result.role, result.tool_call_id == made.call_id)
    is_shown = ("get_weather", "get_weather", "tool", True) == shown
    return bool(is_shown and told == {"calls": [CALL], "answer": AFTER_CALL})


def _is_demanded(told: Any, seen: Seen) -> bool:
    ((name, arguments),) = told
    return bool(name == "get_weather" and arguments["city"] in ("Paris", "Rome"))


def _is_pet(told: Any, seen: Seen) -> bool:
    is_whole = isinstance(told, dict) and told.keys() == {"kind", "age"}
    return is_whole and told["kind"] in ("cat", "dog") and 0 <= told["age"] <= 30


def _has_logprobs(told: Any, seen: Seen) -> bool:
    texts, logprobs = zip(*told["tokens"], strict=True)
    is_whole = "".join(texts) == told["text"] and told["top"] == [2] * len(texts)
    return is_whole and all(one <= 0 for one in logprobs)


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
    Scenario("tools", "a function is called, and what came of it is answered", _has_used_tools),
    Scenario("tools stream", "the call in pieces", lambda told, seen: told == [CALL]),
    Scenario("forced", "a call that is demanded, of arguments by its schema", _is_demanded),
    Scenario("thoughts", "what the target thinks, apart", lambda told, seen: told == THOUGHT),
    Scenario("parse", "an answer by a JSON schema, read", _is_pet),
    Scenario("logprobs", "log-probabilities of the tokens and of others", _has_logprobs),
    Scenario("responses tools", "a function is called there", _has_used_tools),
    Scenario("responses parse", "an answer by a JSON schema there", _is_pet),
    Scenario("responses logprobs", "log-probabilities there", _has_logprobs),
    Scenario("tokens", "how many tokens a text has", lambda told, seen: told == 3),
    Scenario("as anthropic", "by Anthropic's API", _is_text),
    Scenario("as ollama", "by Ollama's API", _is_text),
)
BY_NAME: Mapping[str, Scenario] = {scenario.name: scenario for scenario in SCENARIOS}

_NAMES = tuple(scenario.name for scenario in SCENARIOS)

# Why a client is not asked for a scenario.
_NO_CALL = "it has no call for it"
_OTHER_API = "it speaks another API"
_NO_ID = "it does not say which event it saw last"
_DROPPED = "it leaves this out of an answer"
_OTHER_PACKAGE = "another package of its does it"
_ONE_TEXT = "it writes its stream as one text"
_ONLY_LITELLM = "LiteLLM's own"

_PROVIDERS = ("as anthropic", "as ollama")
_RESPONSES = tuple(name for name in _NAMES if name.startswith("responses"))


class NotAsked(NamedTuple):
    """Scenarios that a client is not asked for, for one reason."""

    why: str
    scenarios: tuple[str, ...]


_ALL_BUT_CURL = NotAsked(_NO_ID, ("resume",))
_ALL_BUT_LITELLM = NotAsked(_ONLY_LITELLM, _PROVIDERS)


class Client(NamedTuple):
    """A client, the program that uses it, and what it is not asked to do."""

    name: str
    program: str
    not_asked: tuple[NotAsked, ...]
    is_light: bool = False  # part of the development environment: every run of the tests has it
    package: str = ""  # the environment that it has for itself

    @property
    def scenarios(self) -> tuple[str, ...]:
        """All others, in their order."""
        left_out = {name for some in self.not_asked for name in some.scenarios}
        return tuple(name for name in _NAMES if name not in left_out)


CLIENTS = (
    Client(
        "openai (Python)",
        "openai_python.py",
        (_ALL_BUT_CURL, NotAsked(_NO_CALL, ("tokens",)), _ALL_BUT_LITELLM),
        is_light=True,
    ),
    Client(
        "anthropic (Python)",
        "anthropic_python.py",
        (
            _ALL_BUT_CURL,
            NotAsked(_OTHER_API, ("completion", "logprobs", *_RESPONSES)),
            _ALL_BUT_LITELLM,
        ),
        is_light=True,
    ),
    Client(
        "ollama (Python)",
        "ollama_python.py",
        (
            _ALL_BUT_CURL,
            NotAsked(_NO_CALL, ("forced", "tokens")),
            NotAsked(_OTHER_API, _RESPONSES),
            _ALL_BUT_LITELLM,
        ),
        is_light=True,
    ),
    Client("curl", "curl.py", (_ALL_BUT_LITELLM,), is_light=True),
    Client(
        "openai (Node)",
        "openai_node.mjs",
        (_ALL_BUT_CURL, NotAsked(_NO_CALL, ("tokens",)), _ALL_BUT_LITELLM),
    ),
    Client(
        "Vercel AI SDK",
        "vercel_node.mjs",
        (
            _ALL_BUT_CURL,
            NotAsked(_NO_CALL, ("models", "logprobs", "tokens")),
            NotAsked(_OTHER_PACKAGE, ("completion", *_RESPONSES)),
            _ALL_BUT_LITELLM,
        ),
    ),
    Client(
        "LangChain",
        "langchain_python.py",
        (
            _ALL_BUT_CURL,
            NotAsked(_NO_CALL, ("models", "tokens")),
            NotAsked(_DROPPED, ("thoughts", "responses logprobs")),
            _ALL_BUT_LITELLM,
        ),
        package="langchain-openai",
    ),
    Client(
        "LlamaIndex",
        "llama_index_python.py",
        (
            _ALL_BUT_CURL,
            NotAsked(_NO_CALL, ("models", "tokens")),
            NotAsked(_DROPPED, ("thoughts",)),
            NotAsked(_OTHER_PACKAGE, _RESPONSES),
            _ALL_BUT_LITELLM,
        ),
        package="llama-index-llms-openai-like",
    ),
    Client(
        "LiteLLM",
        "litellm_python.py",
        (_ALL_BUT_CURL, NotAsked(_NO_CALL, ("models", "tokens", "cancel"))),
        package="litellm",
    ),
    Client(
        "llm",
        "llm_python.py",
        (
            _ALL_BUT_CURL,
            NotAsked(_NO_CALL, ("models", "forced", "tokens", "logprobs", *_RESPONSES)),
            NotAsked(_ONE_TEXT, ("stream", "tools stream", "cancel")),
            NotAsked(_DROPPED, ("thoughts",)),
            _ALL_BUT_LITELLM,
        ),
        package="llm",
    ),
)
