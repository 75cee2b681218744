"""The right path for a wrong one: what a client most likely meant, by name. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection

# What other servers call it, or what they do and this one does not.
_ELSEWHERE = {
    "/completion": "/v1/completions",
    "/chat": "/v1/chat/completions",
    "/v1/chat": "/v1/chat/completions",
    "/generate": "/v1/completions",
    "/v1/complete": "/v1/messages",
    "/v1": "/v1/models",
    "/v1/engines": "/v1/models",
    "/api": "/api/tags",
    "/api/models": "/api/tags",
    "/api/list": "/api/tags",
    "/api/tokenize": "/tokenize",
    "/v1/detokenize": "/detokenize",
    "/extras/tokenize/count": "/tokenize",
    "/get_model_info": "/v1/models",
    "/v1/internal/model/info": "/v1/models",
    "/v1/internal/token-count": "/tokenize",
    "/version": "/api/version",
    "/ping": "/health",
    "/ready": "/health",
    "/status": "/health",
}
_NOT_THERE = {
    "embed": "this server makes no embeddings",
    "embeddings": "this server makes no embeddings",
    "embedding": "this server makes no embeddings",
    "rerank": "this server ranks nothing",
    "images": "this server makes no images",
    "audio": "this server makes and hears no sound",
    "moderations": "this server judges nothing",
    "pull": "the verifier's operator chooses the model",
    "push": "the verifier's operator chooses the model",
    "create": "the verifier's operator chooses the model",
    "copy": "the verifier's operator chooses the model",
    "delete": "the verifier's operator chooses the model",
    "infill": "text between two others cannot be filled in",
    "files": "nothing is kept here: send the text itself",
    "assistants": "nothing is kept here: send the whole conversation",
    "threads": "nothing is kept here: send the whole conversation",
    "conversations": "nothing is kept here: send the whole conversation",
    "metrics": "the verifier tells them, at its own /metrics",
    "props": "/v1/models names the model",
    "slots": "/health says how the board is",
}
_SMALLEST_LIKENESS = 0.7  # of difflib
_LONGEST_CHARACTERS = 100  # of a path that is worth a look


def hint_for(path: str, known: Collection[str]) -> str:
    """What to say of a path that is not known; "" where nothing comes to mind."""
    if len(path) > _LONGEST_CHARACTERS:
        return ""
    words = [word for word in path.lower().split("/") if word]
    for word in words:
        if word in _NOT_THERE:
            return _NOT_THERE[word]
    right = _right_path("/" + "/".join(words), known)
    return "" if right is None else f"did you mean {right}?"


def _right_path(path: str, known: Collection[str]) -> str | None:
    if path in known:
        return path  # but for a slash at its end, or for capitals
    if path in _ELSEWHERE:
        return _ELSEWHERE[path]
    # A base URL with the version twice, without one, or with a path of its own (Azure's).
    ends = [right for right in known if path.endswith(right.removeprefix("/v1"))]
    if ends:
        return max(ends, key=len)
    begins = [right for right in known if right.endswith(path)]
    if begins and path != "/":
        return min(begins, key=len)
    matches = difflib.get_close_matches(path, known, n=1, cutoff=_SMALLEST_LIKENESS)
    return matches[0] if matches else None
