"""The processes of a Ray, to be killed by a test; and a Ray of several hosts on this one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ends.waiting import wait_until
from tests.support.programs.children import descendants_of
from verifier.workers.on_ray.messages import RayPlace

HEAD = "127.0.0.2"  # `ray start` takes 127.0.0.1 for this host's address on the network
START_SECONDS = 60.0


def of_ray(program: str, ray_process_id: int | None) -> int:
    """The process of this Ray with such a program."""
    assert ray_process_id is not None
    named = {p: Path(f"/proc/{p}/cmdline").read_bytes() for p in descendants_of(ray_process_id)}
    (found,) = (p for p, words in named.items() if program.encode() in words.split(b"\0")[0])
    return found


class RayHosts:
    """Hosts as an operator starts them (docs/workers.md), each at an address of loopback."""

    def __init__(self, directory: Path) -> None:
        """Its files are there; none is started yet."""
        token_file = directory / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(secrets.token_hex(32))
        with socket.create_server((HEAD, 0)) as free:
            self._port = free.getsockname()[1]
        self.place = RayPlace(f"{HEAD}:{self._port}", str(token_file))
        self._directory = directory
        self._hosts: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, host: str, num_gpus: int = 0) -> None:
        """One more, with one CPU; the first is the head."""
        if host == HEAD:
            where = ["--head", f"--port={self._port}", "--include-dashboard=false"]
            where.append(f"--temp-dir={self._directory}")
        else:
            where = [f"--address={self.place.address}"]
        known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._hosts[host] = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", *where, "--block"),
                *(f"--node-ip-address={host}", "--num-cpus=1", f"--num-gpus={num_gpus}"),
                f"--object-store-memory={80 << 20}",
            ],
            env={
                **known,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": self.place.token_file,
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_gcs_rpc_server_reconnect_timeout_s": "100000",
                "RAY_worker_niceness": "0",
            },
            stdout=subprocess.DEVNULL,
        )
        if host == HEAD:
            wait_until(self._head_answers, START_SECONDS)

    def lose(self, host: str) -> None:
        """All of its processes at once, as where its power is cut."""
        process = self._hosts.pop(host)
        for process_id in [process.pid, *descendants_of(process.pid)]:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(process_id, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """End all of them, the head last."""
        for host in reversed(tuple(self._hosts)):
            self.lose(host)

    def _head_answers(self) -> bool:
        try:
            socket.create_connection((HEAD, self._port), 1.0).close()
        except OSError:
            return False
        return True


@contextmanager
def ray_hosts(*hosts: str, num_gpus: int = 0) -> Iterator[RayHosts]:
    """The head and these, with so many GPUs each, as far as Ray knows."""
    directory = Path(tempfile.mkdtemp(prefix="goodspeed-ray-"))  # sockets have short names
    started = RayHosts(directory)
    try:
        for host in (HEAD, *hosts):
            started.start(host, num_gpus)
        yield started
    finally:
        started.close()
        shutil.rmtree(directory, ignore_errors=True)
