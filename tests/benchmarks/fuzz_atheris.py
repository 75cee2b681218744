"""Coverage-guided fuzzing of all that reads bytes from a network, for as long as one likes.

    pip install atheris
    python -m tests.benchmarks.fuzz_atheris -max_total_time=600 [libFuzzer's other options]

Nothing but the errors that the functions promise may come out.  Atheris is no dependency of the
project: nothing else needs it (3.0.0 on Python 3.11 makes some 70,000 runs a second).
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["shared", "shared.protocol.draft_packing", "edge_agent.api.json_fields"]
):
    from edge_agent.api.json_fields import read_json_object
    from edge_agent.api.openai_request import read_chat_request, read_completion_request
    from shared.errors import LocalProtocolError, RemoteProtocolError, RequestRefused
    from shared.protocol.codec import decode_from_agent, decode_from_verifier, encode
    from shared.protocol.messages import PROTOCOL_VERSION, Draft, Hello
    from shared.protocol.token_ids import unpack_token_ids
    from tests.support.messages.mutations import Mutations
    from verifier.streams.draft_arrival import unpack_draft, unpack_rows

VOCAB_SIZE = 64
NUM_SEEDS = 200


def from_an_agent(data: bytes) -> None:
    message = decode_from_agent(data)
    with suppress(LocalProtocolError):  # a message may grow when its defaults are filled in
        assert message == decode_from_agent(encode(message))
    if isinstance(message, Draft):
        unpack_draft(message, VOCAB_SIZE)


def from_a_verifier(data: bytes) -> None:
    message = decode_from_verifier(data)
    with suppress(LocalProtocolError):
        assert message == decode_from_verifier(encode(message))


def from_a_client(data: bytes) -> None:
    fields = read_json_object(data)
    for read in (read_chat_request, read_completion_request):
        with suppress(RequestRefused):
            read(fields)


READERS: tuple[Callable[[bytes], object], ...] = (
    from_an_agent,
    from_a_verifier,
    from_a_client,
    lambda data: unpack_token_ids(data, VOCAB_SIZE),
    lambda data: unpack_rows(data, VOCAB_SIZE),
)


def read_one(data: bytes) -> None:
    """The first byte says who reads the rest."""
    with suppress(RemoteProtocolError, RequestRefused):
        READERS[data[0] % len(READERS) if data else 0](data[1:])


def write_seeds(directory: Path) -> None:
    """Legal messages to begin with."""
    mutations = Mutations(1, Hello(PROTOCOL_VERSION))
    for number in range(NUM_SEEDS):
        packed = (b"\0" + encode(mutations.from_agent()), b"\1" + encode(mutations.from_verifier()))
        (directory / f"seed-{number}").write_bytes(random.Random(number).choice(packed))
    chat = b'\2{"messages":[{"role":"user","content":"x"}],"max_tokens":3,"stop":["a"]}'
    (directory / "seed-chat").write_bytes(chat)


def main() -> None:
    """Fuzz until a limit among the options is reached, or something else comes out."""
    with tempfile.TemporaryDirectory() as directory:
        write_seeds(Path(directory))
        atheris.Setup([*sys.argv, directory], read_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
