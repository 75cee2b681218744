"""The whole examination of a verifier, in the order in which one thing needs the other.

Each finding is yielded as soon as it is known; nothing is changed, and no round is run.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from shared.config.model_files import default_cache_dir, locate
from shared.config.secrets import read_key_file
from shared.daemon.http_server import HEALTH_PATH, listen
from shared.daemon.tls.server_tls import read_server_tls
from shared.doctor.findings import Finding, ok
from shared.errors import ConfigError, ModelError
from verifier.config import VerifierConfig
from verifier.cost_curve.curve import CostCurve, CurveSubject
from verifier.cost_curve.files import curve_path
from verifier.doctor.port_findings import (
    PortState,
    certificate_finding,
    metrics_finding,
    port_finding,
    state_finding,
    tokens_finding,
)
from verifier.doctor.target_findings import (
    broken_target_finding,
    curve_finding,
    gpu_finding,
    load_finding,
    memory_finding,
    target_finding,
)
from verifier.rounds import planner
from verifier.server.device_tokens import read_tokens
from verifier.startup import load_configured_target, target_settings
from verifier.target.target_need import TargetNeed
from verifier.torch_target.loading.lean_libraries import lean_imports

_NVIDIA_DRIVER = "proc/driver/nvidia/version"
_ANSWER_SECONDS = 2.0
_MOST_ANSWER_BYTES = 4096
_ANYWHERE = ("", "0.0.0.0", "::")

Tell = Callable[[str], None]
"""Gets what is about to take a while."""


class Examination:
    """One examination by the settings of the verifier; `loads`: load the target, too."""

    def __init__(
        self, config: VerifierConfig, tell: Tell, *, loads: bool, root: Path = Path("/")
    ) -> None:
        self._config = config
        self._tell = tell
        self._loads = loads
        self._root = root

    def findings(self) -> Iterator[Finding]:
        """All that is found, one after the other."""
        server = self._config.server
        speaks_tls = server.certificate_file is not None
        state, fault = look_at_port(server.host, server.port, speaks_tls=speaks_tls)
        yield port_finding(server.host, server.port, state, fault, speaks_tls=speaks_tls)
        yield self._certificate()
        yield self._tokens()
        yield self._metrics()
        yield self._state()
        yield planner_finding(planner.__file__)
        self._tell("reading the target's files")
        try:
            need = survey(self._config)
        except ModelError as error:
            yield broken_target_finding(str(error))
            return
        yield from self._target(need, is_served=state == "served")

    def _target(self, need: TargetNeed, *, is_served: bool) -> Iterator[Finding]:
        yield target_finding(need)
        yield gpu_finding(need, (self._root / _NVIDIA_DRIVER).exists())
        section = self._config.target
        if not is_served:  # else the memory is taken by the very target that is asked about
            yield memory_finding(need, section.context_tokens, section.memory_fraction)
        yield self._curve(need)
        if self._loads:
            yield self._load()

    def _tokens(self) -> Finding:
        path = self._config.server.tokens_file
        try:
            return tokens_finding(path, len(read_tokens(path)), "")
        except ConfigError as error:
            return tokens_finding(path, None, _one_sentence(error))

    def _certificate(self) -> Finding:
        server = self._config.server
        certificate, fault = None, None
        try:
            tls = read_server_tls(server.certificate_file, server.key_file, server.client_ca_file)
            certificate = None if tls is None else tls.certificate
        except ConfigError as error:
            fault = _one_sentence(error)
        return certificate_finding(certificate, fault, server.host, time.time())

    def _metrics(self) -> Finding:
        server = self._config.server
        fault: str | None = None
        try:
            if server.metrics_token_file is not None:
                read_key_file(server.metrics_token_file)
        except ConfigError as error:
            fault = _one_sentence(error)
        return metrics_finding(server.metrics_token_file, fault, server.metrics_on_loopback)

    def _state(self) -> Finding:
        directory = self._config.state.directory
        if directory is None:
            return state_finding(None, None, "")
        if not directory.is_dir():
            return state_finding(directory, None, "there is no such directory")
        if not os.access(directory, os.W_OK):
            return state_finding(directory, None, "this user may not write there")
        return state_finding(directory, shutil.disk_usage(directory).free, "")

    def _curve(self, need: TargetNeed) -> Finding:
        directory = self._config.state.directory
        if directory is None:
            return curve_finding(None, None, is_there=False)
        path = curve_path(directory, need.model_name)
        subject = CurveSubject(
            model=need.model_name,
            device=need.hardware,
            dtype=need.dtype,
            quantisation=self._config.target.quantisation,
            batch_invariant=self._config.target.batch_invariant,
        )
        try:
            CostCurve.from_json(path.read_bytes(), subject)
        except FileNotFoundError:
            return curve_finding(path, None, is_there=False)
        except ModelError as error:
            return curve_finding(path, str(error), is_there=True)
        except OSError as error:
            return curve_finding(path, f"cannot be read: {error.strerror}", is_there=True)
        return curve_finding(path, None, is_there=True)

    def _load(self) -> Finding:
        began_at = time.monotonic()
        try:
            load_configured_target(self._config, self._tell)
        except ModelError as error:
            return broken_target_finding(str(error))
        return load_finding(time.monotonic() - began_at)


def survey(config: VerifierConfig) -> TargetNeed:
    """What the configured target takes.

    Raises:
        ModelError: it cannot be loaded.
    """
    path = locate(config.target.model, default_cache_dir(os.environ))
    # Torch and transformers take seconds to import; what is found before them is shown at once.
    with lean_imports(os.environ):
        from verifier.torch_target.loading.target_survey import survey_target

    return survey_target(path, target_settings(config))


def planner_finding(planner_file: str) -> Finding:
    """Whether the planner is compiled, by its module's file."""
    if planner_file.endswith(".py"):
        how = "plain Python, enough for some hundred streams; see install.sh verifier --compile"
        return ok("planner", how)
    return ok("planner", "compiled")


def look_at_port(host: str, port: int, *, speaks_tls: bool = False) -> tuple[PortState, str]:
    """Whether the port can be listened on, and why not."""
    try:
        for listening in listen(host, port):
            listening.close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE and _is_verifier(host, port, speaks_tls):
            return "served", ""
        number = error.errno or 0
        fault = os.strerror(number) if number > 0 else error.strerror  # negative: of a name
        return "taken", fault or str(error)
    return "free", ""


def _is_verifier(host: str, port: int, speaks_tls: bool) -> bool:
    address = "127.0.0.1" if host in _ANYWHERE else host
    connection = http.client.HTTPConnection(address, port, timeout=_ANSWER_SECONDS)
    if speaks_tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # nothing is said, and nothing believed
        connection = http.client.HTTPSConnection(
            address, port, timeout=_ANSWER_SECONDS, context=context
        )
    try:
        connection.request("GET", HEALTH_PATH)
        answer = json.loads(connection.getresponse().read(_MOST_ANSWER_BYTES))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(answer, dict) and "status" in answer


def _one_sentence(error: ConfigError) -> str:
    return "; ".join(error.problems)
