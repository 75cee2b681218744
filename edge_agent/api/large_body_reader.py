"""The program that reads one large body: JSON on its input, the request or a refusal on its output.

Run by `large_body`. What a client puts into some megabytes of JSON can take any amount of memory
and time; here the kernel bounds both, and the agent's event loop goes on.
"""

from __future__ import annotations

import resource
import sys
from typing import Literal

import msgspec

from edge_agent.api.anthropic.message_request import read_message_request
from edge_agent.api.json_fields import read_json_object, shown
from edge_agent.api.ollama.ollama_request import read_ollama_chat, read_ollama_generate
from edge_agent.api.openai_request import (
    read_chat_request,
    read_completion_request,
    read_socket_request,
)
from edge_agent.api.requests.client_request import ClientRequest
from edge_agent.api.responses.response_request import read_response_request
from edge_agent.api.tokenizing.token_request import (
    read_detokenize_request,
    read_tokenize_request,
)
from shared.errors import RequestRefused

BodyKind = Literal[
    "chat",
    "completion",
    "chat socket",
    "messages",
    "responses",
    "ollama chat",
    "ollama generate",
    "tokenize",
    "detokenize",
]

_MEMORY_BYTES = 1 << 30
_CPU_SECONDS = 30


class BodyRead(msgspec.Struct, frozen=True):
    """What the body asks for, or why it is refused."""

    request: ClientRequest | None = None
    refusal: str = ""
    field: str | None = None


def read_body(body: bytes | str, kind: BodyKind) -> ClientRequest:
    """The request that a body is.

    Raises:
        RequestRefused: it is no JSON object, or one of its fields is refused.
    """
    fields = read_json_object(body)
    match kind:
        case "chat":
            return read_chat_request(fields)
        case "completion":
            return read_completion_request(fields)
        case "messages":
            return read_message_request(fields)
        case "responses":
            return read_response_request(fields)
        case "ollama chat":
            return read_ollama_chat(fields)
        case "ollama generate":
            return read_ollama_generate(fields)
        case "tokenize":
            return read_tokenize_request(fields)
        case "detokenize":
            return read_detokenize_request(fields)
        case "chat socket":
            if (other := fields.get("type")) != "generate":
                sentence = f"type = {shown(other)}: so large a message must be of type generate"
                raise RequestRefused(sentence, "type")
            return read_socket_request(fields)


def _answer(kind: BodyKind) -> BodyRead:
    try:
        return BodyRead(read_body(sys.stdin.buffer.read(), kind))
    except RequestRefused as error:
        return BodyRead(refusal=str(error), field=error.field)
    except MemoryError:
        return BodyRead(refusal=f"the body takes more than {_MEMORY_BYTES >> 20} MB to read")


def main() -> None:
    """Read the one body."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kind = msgspec.convert(sys.argv[1], BodyKind)
    sys.stdout.buffer.write(msgspec.msgpack.encode(_answer(kind)))


if __name__ == "__main__":
    main()
