"""`make demo`: a verifier and three boards as real processes on this machine, with real models.

They chat over loopback, with speculation off and on, and tables end it. On a terminal everything
then stays up to be tried out.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
from rich.console import Console

from tests.demo.chats import MAX_TOKENS, Pass, chat_alone, chat_together, read_prompts
from tests.demo.fleet import TARGET_MODEL, Draft, Fleet, running_fleet
from tests.demo.report import Measured, Report, make_report
from tests.demo.screen import Screen
from tests.demo.setting import this_setting
from tests.demo.watch import DemoFailed, watch
from tests.support.programs.command import console_script
from tests.support.programs.program import ProgramFailed

# Made for this target and a tenth of its size: boards on the verifier's own cores can afford it.
SMALL_DRAFT = Draft("18M", "smollm2-18m")
DRAFTS = (SMALL_DRAFT, SMALL_DRAFT, SMALL_DRAFT)
NUM_PROMPTS_EACH = 3  # of a board when all chat; the rest of the prompts is for one board alone

# Boards yield to the verifier when all chat, as machines of their own would take no core from it.
# One board alone does not: it then starves as soon as anything else runs here, and no draft comes
# in time (on two busy cores it gained 2.3-fold as it is, 1.2-fold at this niceness).
NICENESS_TOGETHER = 3

_SAMPLED = {"temperature": 0.8, "top_p": 0.95}
OFF = Pass("off", _SAMPLED | {"goodspeed": {"acceptance_mode": "coupled", "draft_length": 0}})
REJECTION = Pass("rejection", _SAMPLED | {"goodspeed": {"acceptance_mode": "rejection"}})
COUPLED = Pass("coupled", _SAMPLED | {"goodspeed": {"acceptance_mode": "coupled"}})
GREEDY_OFF = Pass("off", {"temperature": 0, "goodspeed": {"draft_length": 0}})
GREEDY = Pass("on", {"temperature": 0})

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

NOTES = (
    "accepted: how often the next draft token survived. draft length: draft tokens tested in a "
    "round that tests any. bytes: drafts and verdicts on the wire. first token: median. tokens/s: "
    "from question to last token; of all boards together while all of them chat, and so Jain index "
    "and goodput (natural logarithm).",
    f"Answers of up to {MAX_TOKENS} tokens; drafts are planned as they are by default.",
)


def main() -> None:
    """Run the demo; exits with 1 and a sentence when it fails, 130 when it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        sys.exit(asyncio.run(_until_stopped(console, options.markdown)))
    except (DemoFailed, ProgramFailed) as error:
        for line in error.log_lines if isinstance(error, ProgramFailed) else ():
            console.print(f"  {line}", style="dim", markup=False, soft_wrap=True)
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(EXIT_FAILED)


async def _until_stopped(console: Console, markdown_file: Path | None) -> int:
    """Run the demo until its end or a signal; the exit code."""
    stop, is_measured = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def stopped() -> None:
        await stop.wait()
        console.print("\nstopping")

    demo = asyncio.create_task(_demo(console, markdown_file, is_measured), name="demo")
    await _first_of(demo, asyncio.create_task(stopped(), name="stop"))
    if not demo.cancelled():
        demo.result()  # raises what went wrong while it was stopping
    return 0 if is_measured.is_set() else EXIT_INTERRUPTED


async def _demo(console: Console, markdown_file: Path | None, is_measured: asyncio.Event) -> None:
    setting = this_setting()
    console.print("[bold]goodspeed[/bold]: one verifier and three boards, all on this machine")
    console.print(
        f"{setting.processor}, {setting.num_cores} cores, for real: weights, processes, sockets\n"
        f"target {TARGET_MODEL} in float32, drafts {', '.join(draft.name for draft in DRAFTS)}\n",
        style="dim",
    )
    with tempfile.TemporaryDirectory(prefix="goodspeed-demo-") as directory:
        async with (
            aiohttp.ClientSession() as http,
            _started_fleet(console, Path(directory), http) as fleet,
        ):
            measuring = asyncio.create_task(_measure(fleet, console), name="measuring")
            await _first_of(measuring, asyncio.create_task(watch(fleet.programs), name="watch"))
            _put_out(make_report(measuring.result(), setting, NOTES), console, markdown_file)
            is_measured.set()
            if console.is_terminal:
                _say_how_to_go_on(console, fleet)
                await watch(fleet.programs)


async def _first_of(*tasks: asyncio.Task[object]) -> None:
    """Wait for the first task to end, raise what it raised, and cancel the others."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _started_fleet(
    console: Console, directory: Path, http: aiohttp.ClientSession
) -> AsyncIterator[Fleet]:
    started_at = time.monotonic()
    async with AsyncExitStack() as stack:
        with console.status("") as status:

            def tell(sentence: str) -> None:
                if console.is_terminal:
                    status.update(sentence)
                else:
                    console.print(sentence)

            fleet = await stack.enter_async_context(running_fleet(directory, DRAFTS, http, tell))
        seconds = time.monotonic() - started_at
        mark = "[green]✓[/green] " if console.is_terminal else ""
        console.print(f"{mark}one verifier and {len(fleet.boards)} boards are up ({seconds:.0f} s)")
        yield fleet


async def _measure(fleet: Fleet, console: Console) -> Measured:
    prompts = read_prompts()
    first, num_boards = fleet.boards[0], len(fleet.boards)
    own = prompts[NUM_PROMPTS_EACH * num_boards :]
    dealt = {
        board: prompts[: NUM_PROMPTS_EACH * num_boards][number::num_boards]
        for number, board in enumerate(fleet.boards)
    }
    title = f"one board alone, greedy, {first.draft}: speculation off and on in turn"
    with Screen(console, title, [first], 2 * len(own)) as screen:
        alone = await chat_alone(fleet.verifier, first, own, (GREEDY_OFF, GREEDY), screen)
    for board in fleet.boards:
        board.program.lower_priority(NICENESS_TOGETHER)
    together = {}
    for pass_ in (OFF, REJECTION, COUPLED):
        title = f"three boards, temperature 0.8, top-p 0.95: speculation {pass_.name}"
        with Screen(console, title, fleet.boards, NUM_PROMPTS_EACH) as screen:
            together[pass_.name] = await chat_together(fleet.verifier, dealt, pass_, screen)
    return Measured(
        drafts={board.name: board.draft for board in fleet.boards},
        together=together,
        exact_pass=COUPLED.name,
        alone_off=alone[GREEDY_OFF.name],
        alone_on=alone[GREEDY.name],
    )


def _put_out(report: Report, console: Console, markdown_file: Path | None) -> None:
    report.show(console)
    if markdown_file is None:
        return
    try:
        markdown_file.write_text(report.markdown(), encoding="utf-8")
    except OSError as error:
        raise DemoFailed(f"{markdown_file} cannot be written: {error.strerror}") from error


def _say_how_to_go_on(console: Console, fleet: Fleet) -> None:
    agent = os.path.relpath(console_script("goodspeed-agent"))
    url = fleet.boards[0].url
    # The likeliest text: a model of this size rambles at temperature 1, the default.
    question = '{"messages": [{"role": "user", "content": "Hello"}], "temperature": 0}'
    ways = {
        "chat, in another terminal": f"{agent} chat --url {url} --temperature 0",
        "curl": f"curl {url}/v1/chat/completions -d '{question}'",
        "OpenAI clients, base_url": f"{url}/v1",
        "the other boards": "  ".join(f"{b.url} ({b.draft})" for b in fleet.boards[1:]),
        "metrics of the verifier": f"{fleet.verifier.url}/metrics",
    }
    console.print()
    console.rule("all of it stays up; Ctrl-C ends it")
    for name, text in ways.items():
        console.print(name, style="dim")
        console.print(f"  {text}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
