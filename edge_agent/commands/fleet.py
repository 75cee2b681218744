"""`goodspeed-agent fleet`: load-test a verifier with many scripted boards."""

from __future__ import annotations

import asyncio
import re
import resource
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, get_args

import click
import msgspec

from edge_agent.config import FOUND_BY_MDNS, VerifierSection
from edge_agent.draft_model.model_free_drafter import ModelFreeDrafter
from edge_agent.fleet.draft_source import Guess, echo_guess, scripted_guess
from edge_agent.fleet.report import fleet_progress_on, print_report
from edge_agent.fleet.workload import MAX_STREAM_TOKENS, FleetLoad, LoadMode
from shared.config.secrets import TOKEN_PATTERN, read_secret_file
from shared.daemon.lifecycle import rare_collections, stop_at_signals
from shared.errors import ConfigError
from shared.protocol.vocabulary import unpack_vocabulary
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes

if TYPE_CHECKING:
    from edge_agent.fleet.tally import FleetReport

# Sockets are not the only open files of a process.
SPARE_FILES = 64

_HOW_TO = """\b
Every board needs a token of its own, and the verifier room for all of them:
  (umask 077; goodspeed-verifier token add load --count 100 --tokens-file tokens > fleet-tokens)
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


@click.command(epilog=_HOW_TO, context_settings={"show_default": True})
@click.option("--verifier", "url", required=True, metavar="URL", help="ws://HOST:PORT or wss://…")
@click.option(
    "--tokens",
    "tokens_file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="One token a line, each of another device; readable by its owner only.",
)
@click.option("--boards", type=click.IntRange(1), help="How many; by default one for each token.")
@click.option(
    "--mode",
    type=click.Choice(get_args(LoadMode)),
    default=_DEFAULT.mode,
    help="How drafts are accepted.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0.01, 100),
    default=_DEFAULT.temperature,
    help="Of coupled and rejection.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 4096),
    default=_DEFAULT.num_streams,
    help="Streams of each board at once.",
)
@click.option(
    "--draft-speed",
    type=click.FloatRange(0.1, 1e5),
    default=_DEFAULT.draft_tokens_per_second,
    help="Tokens that a board drafts in a second.",
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(1, MAX_STREAM_TOKENS),
    default=_DEFAULT.prompt_tokens,
    help="Of each stream.",
)
@click.option(
    "--output-tokens",
    type=click.IntRange(1, MAX_STREAM_TOKENS),
    default=_DEFAULT.output_tokens,
    help="At most.",
)
@click.option(
    "--think",
    "think_seconds",
    type=click.FloatRange(0, 3600),
    default=_DEFAULT.think_seconds,
    help="Mean seconds from the end of a stream to the next one.",
)
@click.option(
    "--delay",
    "delay_milliseconds",
    type=click.FloatRange(0, 60_000),
    default=0.0,
    help="Milliseconds that each message takes longer.",
)
@click.option(
    "--ramp-up",
    "ramp_up_seconds",
    type=click.FloatRange(0, 3600),
    default=10.0,
    help="Seconds until all boards are connected.",
)
@click.option(
    "--minutes", type=click.FloatRange(0, 1e5), default=1.0, help="How long to measure after that."
)
@click.option("--seed", type=click.INT, default=_DEFAULT.seed, help="Of prompts and pauses.")
@click.option(
    "--disagreement",
    type=click.FloatRange(0, 1),
    default=0.2,
    help="Of scripted drafts with the target; 0: none.",
)
@click.option(
    "--model-seed",
    type=click.IntRange(0, 1 << 32),
    default=7,
    help="Seed of the scripted model.",
)
@click.option("--allow-insecure", is_flag=True, help="Allow ws:// over public networks.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def fleet(
    url: str,
    tokens_file: Path,
    boards: int | None,
    mode: LoadMode,
    temperature: float,
    streams: int,
    draft_speed: float,
    prompt_tokens: int,
    output_tokens: int,
    think_seconds: float,
    delay_milliseconds: float,
    ramp_up_seconds: float,
    minutes: float,
    seed: int,
    disagreement: float,
    model_seed: int,
    allow_insecure: bool,
    as_json: bool,
) -> None:
    """Load-test a verifier: many scripted boards in this process, over real connections."""
    tokens = _read_tokens(tokens_file, boards)
    _check_url(url, allow_insecure=allow_insecure)
    load = FleetLoad(
        num_streams=streams,
        draft_tokens_per_second=draft_speed,
        mode=mode,
        temperature=temperature,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        think_seconds=think_seconds,
        delay_seconds=delay_milliseconds / 1000,
        seed=seed,
    )
    draft = partial(draft_with, load=load, disagreement=disagreement, model_seed=model_seed)
    allow_open_files(len(tokens) + SPARE_FILES)
    import uvloop

    with rare_collections(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(_measure(url, tokens, load, draft, ramp_up_seconds, 60 * minutes))
    print_report(report, sys.stdout, as_json=as_json)


async def _measure(
    url: str,
    tokens: Sequence[str],
    load: FleetLoad,
    draft: Callable[[tuple[bytes, ...]], Guess],
    ramp_up_seconds: float,
    seconds: float,
) -> FleetReport:
    # Only here: aiohttp takes a while to import, and --help does not wait for it.
    from edge_agent.fleet.fleet import Fleet
    from edge_agent.link.vocabulary_fetch import fetch_vocabulary

    stop = stop_at_signals()
    token_bytes = unpack_vocabulary(await fetch_vocabulary(url, tokens[0], b""))
    drafter = ModelFreeDrafter(token_bytes, load.num_streams, load.context_tokens)
    drafter.model_name = "a load test"
    fleet = Fleet(url, tokens, drafter, draft(token_bytes), load)
    with fleet_progress_on(sys.stderr) as progress:
        return await fleet.run(ramp_up_seconds, seconds, stop, progress.show)


def draft_with(
    token_bytes: tuple[bytes, ...], load: FleetLoad, disagreement: float, model_seed: int
) -> Guess:
    """What boards draft for a verifier with this vocabulary: the scripted model's, or guesses."""
    size = len(token_bytes)
    if token_bytes != scripted_token_bytes(size):
        return echo_guess(Random(load.seed))
    return scripted_guess(ScriptedModel(size, model_seed, disagreement=disagreement))


def _read_tokens(path: Path, num_boards: int | None) -> Sequence[str]:
    """The tokens of so many boards.

    Raises:
        ConfigError: the file cannot be used, or there are too few.
    """
    lines = [line.strip() for line in read_secret_file(path).splitlines()]
    problems = []
    tokens: dict[str, str] = {}  # by device
    for number, line in enumerate(lines, start=1):
        token_match = re.match(TOKEN_PATTERN, line)
        if token_match is None:
            problems.append(f"{path}:{number}: must be a token, gsd_…")
        elif token_match[1] in tokens:
            problems.append(f"{path}:{number}: device {token_match[1]} has a token already")
        else:
            tokens[token_match[1]] = line
    num_wanted = len(tokens) if num_boards is None else num_boards
    if not problems and not 0 < num_wanted <= len(tokens):
        problems.append(f"{path}: {len(tokens)} tokens are too few for {max(num_wanted, 1)} boards")
    if problems:
        raise ConfigError(tuple(problems))
    return list(tokens.values())[:num_wanted]


def _check_url(url: str, *, allow_insecure: bool) -> None:
    try:
        if url == FOUND_BY_MDNS:
            raise msgspec.ValidationError
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
