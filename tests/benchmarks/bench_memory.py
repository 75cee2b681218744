"""What verifier and agent hold of main memory while clients chat in a mixed way; real weights.

Both are processes of their own. Prompts of 5 to 1,200 words, answers of 8 to 200 tokens, greedy,
coupled and rejection, four at once; every row is /proc/PID/smaps_rollup. A CPU's verifier may take
weights + key/value cache + 600 MB, an agent its model file + caches + 120 MB, without a model 60.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
import time
import urllib.error
from pathlib import Path
from random import Random

import click

from shared.daemon.resources.main_memory import ResidentMemory, resident_memory
from tests.benchmarks.clients import ask
from tests.support.network.certificates import Authority
from tests.support.programs.programs import Programs
from tests.support.programs.serving_program import ServingProgram

NUM_CLIENTS = 4
VERIFIER_MB, AGENT_MB, AGENT_WITHOUT_MODEL_MB = 600.0, 120.0, 60.0
_WORDS = ("river", "board", "light", "seven", "green", "apple", "because", "memory", "tree", "why")
_SIZES = re.compile(r"memory: weights (\d+) MB, .* (\d+) MB")


class Clients:
    """Chats with one agent until they are stopped."""

    def __init__(self, port: int, think_seconds: float) -> None:
        self.num_answers = 0
        self.num_refused = 0
        self._port = port
        self._think_seconds = think_seconds
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._chat, args=(Random(seed),)) for seed in range(NUM_CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _chat(self, random: Random) -> None:
        while not self._is_over.is_set():
            words = random.choices(_WORDS, k=random.choice((5, 20, 100, 400, 1200)))
            try:
                ask(
                    self._port,
                    " ".join(words),
                    max_tokens=random.choice((8, 32, 100, 200)),
                    temperature=random.choice((0.0, 0.8, 1.0)),
                    acceptance_mode=random.choice(("coupled", "rejection")),
                )
            except (urllib.error.HTTPError, TimeoutError):  # of a machine with much else to do
                self.num_refused += 1
            else:
                self.num_answers += 1
            self._is_over.wait(random.uniform(0, 2 * self._think_seconds))


@click.command()
@click.option("--minutes", type=float, default=5.0, show_default=True)
@click.option("--every", type=float, default=30.0, show_default=True, help="Seconds of a row.")
@click.option("--dtype", default="float32", show_default=True)
@click.option("--draft", default="smollm2-135m-instruct", show_default=True, help="Empty: none.")
@click.option("--think", type=float, default=0.0, help="Seconds of a client between two chats.")
@click.option("--guard/--no-guard", default=False, help="Let the target go on alone.")
@click.option("--tls", is_flag=True, help="The agent trusts a private authority.")
def main(
    minutes: float, every: float, dtype: str, draft: str, think: float, guard: bool, tls: bool
) -> None:
    """Print what both programs hold, by time, and whether that is within the limits."""
    with tempfile.TemporaryDirectory() as directory, Programs(Path(directory)) as programs:
        settings = {"target.dtype": dtype, "rounds.guard": guard}
        scheme, trust = "ws", {}
        if tls:
            authority = Authority(Path(directory))
            os.environ["SSL_CERT_FILE"] = str(authority.file)
            certificate, key = map(str, authority.write())
            settings |= {"server.certificate_file": certificate, "server.key_file": key}
            scheme, trust = "wss", {"verifier.ca_file": str(authority.file)}
        token_file = programs.token_file("board")
        verifier = programs.verifier(settings=settings)
        verifier.start()
        verifier.wait_until_ready()
        agent = programs.agent(
            f"{scheme}://localhost:{verifier.port}",
            token_file,
            settings={"draft.model": draft, **trust},
        )
        agent.start()
        agent.wait_until_ready()
        limits = {
            "verifier": _said_megabytes(verifier) + VERIFIER_MB,
            "agent": _said_megabytes(agent) + AGENT_MB if draft else AGENT_WITHOUT_MODEL_MB,
        }
        print(f"draft {draft or 'none'}, target in {dtype}; limits in MB: {limits}")
        print(f"{'s':>6} {'answers':>8}  {'verifier':>24}  {'agent':>24}   anonymous + files, MB")
        _watch({"verifier": verifier, "agent": agent}, limits, 60 * minutes, every, think)


def _watch(
    programs: dict[str, ServingProgram],
    limits: dict[str, float],
    seconds: float,
    every: float,
    think_seconds: float,
) -> None:
    largest = dict.fromkeys(programs, 0.0)
    clients = Clients(programs["agent"].port, think_seconds)
    began_at = time.monotonic()
    try:
        while True:
            held = {name: _held(program) for name, program in programs.items()}
            for name, memory in held.items():
                largest[name] = max(largest[name], memory.total / 1e6)
            passed = time.monotonic() - began_at
            row = "  ".join(f"{_words(memory):>24}" for memory in held.values())
            print(f"{passed:6.0f} {clients.num_answers:8}  {row}", flush=True)
            if passed > seconds:
                break
            time.sleep(every)
    finally:
        clients.stop()
    print(f"{clients.num_answers} answers, {clients.num_refused} refused or too late")
    for name, most in largest.items():
        verdict = "within" if most <= limits[name] else "BEYOND"
        print(f"{name}: at most {most:.0f} MB, {verdict} the limit of {limits[name]:.0f} MB")


def _held(program: ServingProgram) -> ResidentMemory:
    program.check_running()
    held = resident_memory(str(program.process_id))
    assert held is not None
    return held


def _words(held: ResidentMemory) -> str:
    return f"{held.anonymous / 1e6:.0f} + {held.files / 1e6:.0f} = {held.total / 1e6:.0f}"


def _said_megabytes(program: ServingProgram) -> float:
    """Weights and caches, as the program's log has them; 0 without a model."""
    found = _SIZES.search("\n".join(program.lines))
    return 0.0 if found is None else float(found[1]) + float(found[2])


if __name__ == "__main__":
    main(prog_name=f"{sys.executable} -m tests.benchmarks.bench_memory")
