"""What a chat template costs in its sandbox: latency of the first and of following chats, memory.

A chat is rendered twice, as for a request without arguments. "First" begins with no process there.
`python -m tests.benchmarks.bench_template` prints a row for each template and length of a chat.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click

from tests.support.models.chat_templates import KNOWN_TEMPLATES, KnownTemplate
from verifier.chat_template.sandbox_process import SandboxProcess

NUM_TURNS = (1, 33, 1023)  # the user has the last word
TURN_TEXT = "What does a chat template cost, and who pays for it? " * 4


@click.command()
@click.option("--chats", type=click.IntRange(2), default=200, show_default=True)
def main(chats: int) -> None:
    """Print the table."""
    click.echo("| template | turns | first ms | following ms, median | p99 | RSS MB | peak MB |")
    click.echo("|---|---|---|---|---|---|---|")
    for name, template in KNOWN_TEMPLATES.items():
        for num_turns in NUM_TURNS:
            click.echo(row(name, template, num_turns, chats))


def row(name: str, template: KnownTemplate, num_turns: int, num_chats: int) -> str:
    """One line of the table, of a process that rendered nothing else."""
    sandbox = SandboxProcess()
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": TURN_TEXT} for i in range(num_turns)]
    variables: dict[str, object] = {
        "messages": messages,
        "add_generation_prompt": True,
        "bos_token": template.bos,
    }
    variables["eos_token"] = template.special[-1]
    milliseconds = []
    for _ in range(num_chats):
        started_at = time.perf_counter()
        rendered = sandbox.render(template.text, [variables, variables])
        milliseconds.append(1e3 * (time.perf_counter() - started_at))
        if rendered[0].reason is not None:
            return f"| {name} | {num_turns} | refused: {rendered[0].reason} |"
    first, *following = milliseconds
    resident, peak = memory_mb(sandbox)
    median, p99 = statistics.median(following), statistics.quantiles(following, n=100)[98]
    return (
        f"| {name} | {num_turns} | {first:.0f} | {median:.2f} | {p99:.2f} "
        f"| {resident:.0f} | {peak:.0f} |"
    )


def memory_mb(sandbox: SandboxProcess) -> tuple[float, float]:
    """Resident memory of its process, now and at most."""
    lines = Path(f"/proc/{sandbox._process.pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    resident, peak = (int(fields[name].split()[0]) / 1e3 for name in ("VmRSS", "VmHWM"))
    return resident, peak


if __name__ == "__main__":
    main()
