"""`goodspeed-agent fleet`: load-test a verifier with many scripted boards."""

from __future__ import annotations

import asyncio
import gc
import re
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from edge_agent.config import VerifierSection
from edge_agent.draft_model.model_free_drafter import ModelFreeDrafter
from edge_agent.fleet.draft_source import Guess, echo_guess, scripted_guess
from edge_agent.fleet.report import fleet_progress_on, print_report
from edge_agent.fleet.workload import MAX_STREAM_TOKENS, FleetLoad, LoadMode
from shared.config.secrets import TOKEN_PATTERN, read_secret_file
from shared.errors import ConfigError
from shared.protocol.vocabulary import unpack_vocabulary
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes

if TYPE_CHECKING:
    from edge_agent.fleet.tally import FleetReport

# With Python's own 700, 10, 10 a thousand boards stop several times a second to look for garbage.
COLLECTION_THRESHOLDS = (10_000, 20, 100)
# Sockets are not the only open files of a process.
SPARE_FILES = 64

_HOW_TO = """\b
Every board needs a token of its own, and the verifier room for all of them:
  for i in $(seq 100); do
    goodspeed-verifier token add load-$i --tokens-file tokens
  done > fleet-tokens; chmod 600 fleet-tokens
  goodspeed-verifier run --set server.tokens_file=tokens --set server.max_connections=150

\b
Then, best from another machine:
  goodspeed-agent fleet --verifier ws://HOST:8443 --tokens fleet-tokens --minutes 5

\b
No board runs a model. For a real target they guess, so that nearly every draft is
rejected; for goodspeed's scripted target --disagreement sets how much is accepted.
--draft-speed is kept however fast this machine is; but a fleet that takes a whole
core is out of breath and measures itself. Ctrl-C ends early and shows the table.
"""


_DEFAULT = FleetLoad()


def _options(*options: tuple[str, click.ParamType[Any], Any, str]) -> Callable[[Any], Any]:
    """Options with a name, a type, a default and a help text."""

    def decorate(command: Any) -> Any:
        for name, kind, default, text in reversed(options):
            option = click.option(name, type=kind, default=default, show_default=True, help=text)
            command = option(command)
        return command

    return decorate


def _count(most: int, least: int = 1) -> click.IntRange:
    return click.IntRange(least, most)


def _number(least: float, most: float) -> click.FloatRange:
    return click.FloatRange(least, most)


@click.command(epilog=_HOW_TO)
@click.option("--verifier", "url", required=True, metavar="URL", help="ws://HOST:PORT or wss://…")
@click.option(
    "--tokens",
    "tokens_file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="One token a line, each of another device; readable by its owner only.",
)
@click.option("--boards", type=click.IntRange(1), help="How many; by default one for each token.")
@_options(
    ("--mode", click.Choice(get_args(LoadMode)), _DEFAULT.mode, "How drafts are accepted."),
    ("--temperature", _number(0.01, 100), _DEFAULT.temperature, "Of coupled and rejection."),
    ("--streams", _count(4096), _DEFAULT.num_streams, "Streams of each board at once."),
    (
        "--draft-speed",
        _number(0.1, 1e5),
        _DEFAULT.draft_tokens_per_second,
        "Tokens that a board drafts in a second.",
    ),
    ("--prompt-tokens", _count(MAX_STREAM_TOKENS), _DEFAULT.prompt_tokens, "Of each stream."),
    ("--output-tokens", _count(MAX_STREAM_TOKENS), _DEFAULT.output_tokens, "At most."),
    (
        "--think",
        _number(0, 3600),
        _DEFAULT.think_seconds,
        "Mean seconds from the end of a stream to the next one.",
    ),
    ("--delay", _number(0, 60_000), 0.0, "Milliseconds that each message takes longer."),
    ("--ramp-up", _number(0, 3600), 10.0, "Seconds until all boards are connected."),
    ("--minutes", _number(0, 1e5), 1.0, "How long to measure after that."),
    ("--seed", click.INT, _DEFAULT.seed, "Of prompts and pauses."),
    ("--disagreement", _number(0, 1), 0.2, "Of scripted drafts with the target; 0: none."),
    ("--model-seed", _count(1 << 32, 0), 7, "Seed of the scripted model."),
)
@click.option("--allow-insecure", is_flag=True, help="Allow ws:// over public networks.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def fleet(url: str, tokens_file: Path, boards: int | None, as_json: bool, **options: Any) -> None:
    """Load-test a verifier: many scripted boards in this process, over real connections."""
    tokens = _tokens(tokens_file, boards)
    _check_url(url, allow_insecure=options["allow_insecure"])
    load = _load(options)
    allow_open_files(len(tokens) + SPARE_FILES)
    import uvloop

    thresholds = gc.get_threshold()
    gc.set_threshold(*COLLECTION_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(_measure(url, tokens, load, options))
    finally:
        gc.set_threshold(*thresholds)
    print_report(report, sys.stdout, as_json=as_json)


async def _measure(
    url: str, tokens: Sequence[str], load: FleetLoad, options: dict[str, Any]
) -> FleetReport:
    # Only here: aiohttp takes a while to import, and --help does not wait for it.
    from edge_agent.fleet.fleet import Fleet
    from edge_agent.link.vocabulary_fetch import fetch_vocabulary

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    token_bytes = unpack_vocabulary(await fetch_vocabulary(url, tokens[0], b""))
    guess = draft_with(token_bytes, load, options["disagreement"], options["model_seed"])
    drafter = ModelFreeDrafter(token_bytes, load.num_streams, load.context_tokens)
    drafter.model_name = "a load test"
    fleet = Fleet(url, tokens, drafter, guess, load)
    seconds = 60 * options["minutes"]
    with fleet_progress_on(sys.stderr) as progress:
        return await fleet.run(options["ramp_up"], seconds, stop, progress.show)


def _load(options: dict[str, Any]) -> FleetLoad:
    return FleetLoad(
        num_streams=options["streams"],
        draft_tokens_per_second=options["draft_speed"],
        mode=options["mode"],
        temperature=options["temperature"],
        prompt_tokens=options["prompt_tokens"],
        output_tokens=options["output_tokens"],
        think_seconds=options["think"],
        delay_seconds=options["delay"] / 1000,
        seed=options["seed"],
    )


def draft_with(
    token_bytes: tuple[bytes, ...], load: FleetLoad, disagreement: float, model_seed: int
) -> Guess:
    """What boards draft for a verifier with this vocabulary: the scripted model's, or guesses."""
    size = len(token_bytes)
    if token_bytes != scripted_token_bytes(size):
        return echo_guess(Random(load.seed))
    return scripted_guess(ScriptedModel(size, model_seed, disagreement=disagreement))


def _tokens(path: Path, num_boards: int | None) -> Sequence[str]:
    """The tokens of so many boards.

    Raises:
        ConfigError: the file cannot be used, or there are too few.
    """
    lines = [line.strip() for line in read_secret_file(path).splitlines()]
    problems = []
    tokens: dict[str, str] = {}  # by device
    for number, line in enumerate(lines, start=1):
        parts = re.match(TOKEN_PATTERN, line)
        if parts is None:
            problems.append(f"{path}:{number}: must be a token, gsd_…")
        elif parts[1] in tokens:
            problems.append(f"{path}:{number}: device {parts[1]} has a token already")
        else:
            tokens[parts[1]] = line
    wanted = len(tokens) if num_boards is None else num_boards
    if not problems and not 0 < wanted <= len(tokens):
        problems.append(f"{path}: {len(tokens)} tokens are too few for {max(wanted, 1)} boards")
    if problems:
        raise ConfigError(tuple(problems))
    return list(tokens.values())[:wanted]


def _check_url(url: str, *, allow_insecure: bool) -> None:
    try:
        section = msgspec.convert({"url": url, "allow_insecure": allow_insecure}, VerifierSection)
    except msgspec.ValidationError:
        sentence = "must be ws:// or wss://, a host and perhaps a port"
        raise ConfigError((f"--verifier {url}: {sentence}",)) from None
    for _, sentence in section.unfit():
        raise ConfigError((f"--verifier {url}: must be {sentence}",))


def allow_open_files(num_files: int) -> None:
    """Raise this process's limit of open files, if it must.

    Raises:
        ConfigError: the machine does not allow as many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if num_files <= soft:
        return
    if hard != resource.RLIM_INFINITY and num_files > hard:
        raise ConfigError((f"{num_files} open files exceed the {hard} allowed; see `ulimit -Hn`",))
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_files, hard))
