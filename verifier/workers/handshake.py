"""How a verifier and a worker show each other that both have the secret, without sending it.

Each proves it by an HMAC over both nonces, so what an eavesdropper saw is of no use again. What
follows is in plain text: a private network or a VPN keeps it private (docs/workers.md).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable

import msgspec

from shared.errors import AuthRejected, HandshakeRejected, RemoteProtocolError
from verifier.workers.frames import FramedSocket
from verifier.workers.messages import (
    MAX_STRANGER_BYTES,
    NONCE_BYTES,
    VERSION,
    Challenge,
    Facts,
    Proof,
    Taken,
    ToVerifier,
    ToWorker,
)

HANDSHAKE_SECONDS = 5.0
_MAX_FACTS_BYTES = 8 << 20
_NO_PROOF = bytes(NONCE_BYTES)


def admit_verifier(
    framed: FramedSocket[ToWorker],
    secret: str,
    facts: Facts,
    newest_started_at: Callable[[], int] = lambda: 0,
) -> int:
    """The worker's part: only a verifier with the secret learns its facts.

    `newest_started_at` is that of the verifier which is served now, 0 without one. Returns that of
    this one.

    Raises:
        AuthRejected: the peer has another secret.
        HandshakeRejected: it speaks another version, or a later verifier is served.
        LinkLost, RemoteProtocolError: as `FramedSocket.receive`.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    framed.send(Challenge(VERSION, nonce), HANDSHAKE_SECONDS)
    answer = framed.receive(HANDSHAKE_SECONDS, MAX_STRANGER_BYTES)
    if not isinstance(answer, Proof):
        raise RemoteProtocolError("a verifier begins with its proof")
    _check_version(answer.version)
    nonces = _signed(nonce, answer.nonce, answer.started_at)
    if not hmac.compare_digest(answer.proof, _proof(secret, b"verifier", nonces)):
        raise AuthRejected("the verifier has another secret")
    if answer.started_at < newest_started_at():
        framed.send(Taken(), HANDSHAKE_SECONDS)
        raise HandshakeRejected("it was started before the verifier that is served")
    proof = _proof(secret, b"worker", nonces)
    framed.send(msgspec.structs.replace(facts, proof=proof), HANDSHAKE_SECONDS)
    return answer.started_at


def greet_worker(framed: FramedSocket[ToVerifier], secret: str, started_at: int) -> Facts:
    """The verifier's part; it was started at so many milliseconds since 1970.

    Raises:
        AuthRejected: one of both has another secret.
        HandshakeRejected: the worker speaks another version, or serves a later verifier.
        LinkLost, RemoteProtocolError: as `FramedSocket.receive`.
    """
    challenge = framed.receive(HANDSHAKE_SECONDS, MAX_STRANGER_BYTES)
    if not isinstance(challenge, Challenge):
        raise RemoteProtocolError("a worker begins with a challenge")
    _check_version(challenge.version)
    nonce = secrets.token_bytes(NONCE_BYTES)
    nonces = _signed(challenge.nonce, nonce, started_at)
    own = Proof(VERSION, nonce, _proof(secret, b"verifier", nonces), started_at)
    framed.send(own, HANDSHAKE_SECONDS)
    facts = framed.receive(HANDSHAKE_SECONDS, _MAX_FACTS_BYTES)
    if isinstance(facts, Taken):
        raise HandshakeRejected("the worker serves a verifier that was started later")
    if not isinstance(facts, Facts):
        raise RemoteProtocolError("a worker answers with its facts")
    if not hmac.compare_digest(facts.proof, _proof(secret, b"worker", nonces)):
        raise AuthRejected("the worker has another secret")
    return facts


def without_proof(facts: Facts) -> Facts:
    """Facts as a worker keeps them, before it has a peer."""
    return msgspec.structs.replace(facts, proof=_NO_PROOF)


def _proof(secret: str, role: bytes, nonces: bytes) -> bytes:
    return hmac.new(secret.encode(), role + nonces, hashlib.sha256).digest()


def _signed(challenge: bytes, nonce: bytes, started_at: int) -> bytes:
    return challenge + nonce + started_at.to_bytes(8, "little")


def _check_version(version: int) -> None:
    if version != VERSION:
        raise HandshakeRejected(
            f"verifier and worker are of versions that differ ({VERSION} here, {version} there): "
            "install the same goodspeed on both"
        )
