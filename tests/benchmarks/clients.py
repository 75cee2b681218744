"""Ask an agent over its OpenAI endpoint, and read what the answer says about itself."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One finished generation as the agent reports it."""

    text: str
    output_tokens: int
    tokens_per_second: float  # after the first token
    first_token_seconds: float
    figures: dict[str, Any]  # the `timings` object
    goodspeed: dict[str, Any]


def ask(port: int, prompt: str, *, max_tokens: int, **fields: object) -> Answer:
    """One chat turn; `fields` are further fields of the request."""
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, **fields}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=600) as reply:
            answer = json.load(reply)
    except urllib.error.HTTPError as error:
        error.add_note(error.read().decode(errors="replace"))  # says why
        raise
    figures = answer["timings"]
    return Answer(
        text=answer["choices"][0]["message"]["content"],
        output_tokens=answer["usage"]["completion_tokens"],
        tokens_per_second=figures["predicted_per_second"],
        first_token_seconds=figures["prompt_ms"] / 1000,
        figures=figures,
        goodspeed=answer["goodspeed"],
    )
