"""Why a verifier cannot be reached, in words that name the setting or the machine to look at.

It must never call a certificate right that TLS has refused.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp

from edge_agent.link.verifier_trust import WRONG_PIN
from shared.errors import LinkLost, UntrustedVerifier

_PROBE_SECONDS = 2.0
# X509_V_ERR_… of openssl/x509_vfy.h
_NOT_YET_VALID, _EXPIRED, _SELF_SIGNED = 9, 10, 18
_OTHER_AUTHORITY = {2, 19, 20, 21}
_OTHER_NAME = {62, 64}
# What OpenSSL makes of an answer that is no TLS; which one depends on its first bytes.
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
# What `_late_fault` makes of a verifier that says nothing at all, as asyncio's servers do.
_HUNG_UP = "HUNG_UP"
_WANTS_CERTIFICATE = {
    _HUNG_UP,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "SSLV3_ALERT_HANDSHAKE_FAILURE",
}


async def unreachable(
    error: Exception, url: str, timeout_seconds: float, tls: ssl.SSLContext | None = None
) -> LinkLost:
    """What to say of an attempt to reach the verifier at `url` that ended by this error.

    Where it hung up without a word it is asked once more, by which TLS shows why.
    """
    fault = _ssl_error(error)
    if fault is None and isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
        if url.startswith("ws:") and await _speaks_tls(url):
            sentence = f"it speaks TLS: set verifier.url = wss{url.removeprefix('ws')}"
            return UntrustedVerifier(f"cannot reach the verifier at {url}: {sentence}")
        if url.startswith("wss:"):
            fault = await _late_fault(url, tls)
    if isinstance(fault, ssl.SSLCertVerificationError):
        return UntrustedVerifier(f"the verifier at {url} {_distrust(fault, url)}")
    if fault is not None:
        return UntrustedVerifier(f"cannot reach the verifier at {url}: {_tls_fault(fault)}")
    is_late = isinstance(error, TimeoutError)
    reason = f"no answer within {timeout_seconds:g} s" if is_late else _reason(error)
    return LinkLost(f"cannot reach the verifier at {url}: {reason}")


def _reason(error: Exception) -> str:
    """Without the client library's own words, where the kernel's or better ones say it."""
    behind = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else None
    match behind:
        case ConnectionRefusedError():
            return "nothing listens there: is the verifier started, and the port right?"
        case socket.gaierror():
            return f"its name is not found ({behind.strerror})"
        case OSError(errno=int(number)):
            return os.strerror(number)
        case OSError():  # asyncio's own, which have no number
            return "the connection ended before anything was said"
    return str(error)


def _ssl_error(error: BaseException) -> ssl.SSLError | None:
    """The fault of TLS that is behind an error of the client library, if one is."""
    known: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in known:
        known.add(id(following))
        inner = getattr(following, "certificate_error", getattr(following, "os_error", None))
        for candidate in (inner, following):
            if isinstance(candidate, ssl.SSLError) and type(candidate).__module__ == "ssl":
                return candidate
        following = following.__cause__ or following.__context__
    return None


def _distrust(error: ssl.SSLCertVerificationError, url: str) -> str:
    if WRONG_PIN in str(error):
        return "has another key than verifier.pin: it is another machine, or got a new key"
    today = time.strftime("%Y-%m-%d", time.gmtime())
    match error.verify_code:
        case code if code == _EXPIRED:
            return f"shows a certificate that has expired (this board's clock says {today})"
        case code if code == _NOT_YET_VALID:
            return f"shows a certificate that is not valid yet: this board's clock says {today}"
        case code if code == _SELF_SIGNED:
            return (
                "shows a self-signed certificate: set verifier.ca_file to it, or verifier.pin to "
                "its key"
            )
        case code if code in _OTHER_AUTHORITY:
            return (
                "shows a certificate of an authority that this board does not trust: set "
                "verifier.ca_file to that authority's"
            )
        case code if code in _OTHER_NAME:
            host = urlsplit(url).hostname
            return f"shows a certificate that is not for {host}: verifier.url must have its name"
        case _:
            return f"shows a certificate that is refused: {error.verify_message}"


def _tls_fault(error: ssl.SSLError) -> str:
    reason = getattr(error, "reason", None) or str(error)
    if reason in _NO_TLS:
        return "what listens there speaks no TLS: set verifier.url = ws://…, or server.key_file"
    if reason in _WANTS_CERTIFICATE:
        return (
            "it wants a certificate of this board that its authorities have signed: set "
            "verifier.certificate_file and verifier.key_file"
        )
    if "ALERT" in reason:
        words = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return f"it does not accept this board's certificate ({words})"
    return f"TLS failed ({reason.replace('_', ' ').lower()})"


async def _speaks_tls(url: str) -> bool:
    """Whether a verifier that said nothing in plain text would say something over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is said
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await _open(url, context)
            writer.transport.abort()
            return True
    return False


async def _late_fault(url: str, tls: ssl.SSLContext | None) -> ssl.SSLError | None:
    """Why a verifier hangs up on this board's certificate, or on one that has none.

    TLS 1.3 says that behind the handshake, where the client library no longer listens.
    """
    with suppress(TimeoutError):
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                reader, writer = await _open(url, tls or ssl.create_default_context())
                try:
                    if not await reader.read(1):  # which nothing was asked for yet
                        return ssl.SSLError(1, _HUNG_UP)
                finally:
                    writer.transport.abort()
        except ssl.SSLError as error:
            return error
        except OSError:
            return None
    return None


async def _open(
    url: str, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    port = address.port or (443 if address.scheme == "wss" else 80)
    return await asyncio.open_connection(address.hostname, port, ssl=context)
