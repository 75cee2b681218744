"""One stream over a slow link: the product against the target alone, and against waiting boards.

Three arms take turns prompt by prompt, so that whatever else the machine does meets all of them:

- alone: the product's verifier, speculation off in the request;
- waiting: the same verifier, started with `rounds.barrier` and a window that holds one round's
  draft. In greedy and coupled both ends are patched besides (`--whole-drafts` of
  `tests.support.programs.launchers`), so that a draft is sent whole and not in parts; rejection
  does so by itself. Nothing is drafted ahead of a verdict;
- product: as it is.

The link is the chaos proxy of the tests. The target is a real one whose rounds are slowed down to
what a larger model's would take. Each process has a core of its own.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

from tests.benchmarks.clients import Answer, ask
from tests.benchmarks.fleet import setting_of
from tests.support.chats.prompt_set import DRAFTS, Prompt, prompts
from tests.support.network.chaos_lane import Weather
from tests.support.network.chaos_proxy import local
from tests.support.network.proxy_thread import ProxyThread
from tests.support.programs.command import AGENT, LAUNCHERS
from tests.support.programs.programs import Programs
from tests.support.programs.serving_program import ServingProgram

VERIFIER_CORES, AGENT_CORES = {0}, {1}
WARM_UP_TOKENS = 64
MODES: Mapping[str, Mapping[str, object]] = {
    "greedy": {"temperature": 0},
    "coupled": {"temperature": 0.8, "seed": 1},
    "rejection": {
        "temperature": 0.8,
        "seed": 1,
        "goodspeed": {"acceptance_mode": "rejection"},
    },
}
ARMS = ("alone", "waiting", "product")
SHORT_NAMES = {"q4_1": DRAFTS[0], "q4_0": DRAFTS[1], "q2_k": DRAFTS[2]}
COLUMNS = (
    *("draft", "round trip ms", "mode", "alone tokens/s", "waiting tokens/s", "product tokens/s"),
    *("product / waiting", "product / alone", "worst prompt / alone"),
    *("acceptance", "tokens/round", "rounds with drafts", "drafted/token", "waiting tokens/round"),
)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    num_prompts: int
    num_tokens: int
    num_repeats: int


@dataclass
class Speed:
    """Tokens after the first, and the seconds that they took."""

    num_tokens: int = 0
    seconds: float = 0.0

    def add(self, answer: Answer) -> None:
        self.num_tokens += answer.output_tokens - 1
        self.seconds += answer.figures["predicted_ms"] / 1000

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds


@dataclass
class Row:
    """What one draft did at one round trip in one mode."""

    repeats: list[dict[str, Speed]] = field(default_factory=list)
    of_prompts: dict[str, dict[str, Speed]] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=lambda: {arm: [] for arm in ARMS})

    def add(self, prompt: Prompt, arm: str, answer: Answer) -> None:
        of_prompt = self.of_prompts.setdefault(prompt.id, {name: Speed() for name in ARMS})
        for speed in (self.repeats[-1][arm], of_prompt[arm]):
            speed.add(answer)
        self.answers[arm].append(answer)

    def cells(self) -> Iterator[str]:
        for arm in ARMS:
            yield f"{statistics.median(r[arm].tokens_per_second for r in self.repeats):.1f}"
        for rival in ("waiting", "alone"):
            yield _spread([_ratio(repeat, rival) for repeat in self.repeats])
        yield f"{min(_ratio(speeds, 'alone') for speeds in self.of_prompts.values()):.2f}"
        yield from self._figures()

    def _figures(self) -> Iterator[str]:
        tested = self._total("survived_tokens") + self._total("rejections")
        num_drafted = sum(answer.figures["draft_n"] for answer in self.answers["product"])
        num_verdicts = self._total("num_verdicts")
        yield f"{self._total('survived_tokens') / tested:.3f}" if tested else "none"
        yield f"{self._num_tokens('product') / num_verdicts:.2f}"
        yield f"{self._total('num_drafting_verdicts') / num_verdicts:.2f}"
        yield f"{num_drafted / self._num_tokens('product'):.2f}"
        yield f"{self._num_tokens('waiting') / self._total('num_verdicts', 'waiting'):.2f}"

    def _total(self, name: str, arm: str = "product") -> int:
        return sum(answer.goodspeed[name] for answer in self.answers[arm])

    def _num_tokens(self, arm: str) -> int:
        return sum(answer.output_tokens for answer in self.answers[arm])


@dataclass(frozen=True)
class Setting:
    """Both verifiers with their links, and the agents of one draft."""

    proxies: Mapping[str, ProxyThread]
    agents: Mapping[str, ServingProgram]

    def change_round_trip(self, milliseconds: float) -> None:
        """Agents measure the round trip when they connect, so they connect anew."""
        for arm, proxy in self.proxies.items():
            proxy.change(Weather(delay_seconds=milliseconds / 2e3))
            before = proxy.num_connections
            proxy.reset()
            while proxy.num_connections == before:
                time.sleep(0.01)
            self.agents[arm].wait_until_ready()

    def ask(self, arm: str, prompt: Prompt, num_tokens: int, mode: str) -> Answer:
        fields = dict(MODES[mode])
        if arm == "alone":
            extension = fields.get("goodspeed", {})
            assert isinstance(extension, dict)
            fields["goodspeed"] = {**extension, "draft_length": 0}
        port = self.agents["waiting" if arm == "waiting" else "product"].port
        return ask(port, prompt.text, max_tokens=num_tokens, **fields)


@click.command()
@click.option("--draft", "drafts", type=click.Choice([*SHORT_NAMES]), multiple=True)
@click.option("--round-trip-ms", "round_trips", type=click.FloatRange(0), multiple=True)
@click.option("--mode", "modes", type=click.Choice([*MODES]), multiple=True)
@click.option("--round-ms", type=float, default=60, show_default=True, help="0: as it is.")
@click.option("--prompts", "num_prompts", type=click.IntRange(1, 16), default=4, show_default=True)
@click.option("--tokens", "num_tokens", type=click.IntRange(2), default=96, show_default=True)
@click.option("--repeats", "num_repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--waiting-length",
    type=click.IntRange(1, 64),
    default=16,
    show_default=True,
    help="Longest draft of the waiting arm; the policy may ask for less.",
)
@click.option(
    "--set", "given", multiple=True, help="A setting KEY=VALUE of the product's verifier."
)
@click.option("--agent-set", "given_agents", multiple=True, help="KEY=VALUE for all agents.")
def main(
    drafts: Sequence[str],
    round_trips: Sequence[float],
    modes: Sequence[str],
    round_ms: float,
    num_prompts: int,
    num_tokens: int,
    num_repeats: int,
    waiting_length: int,
    given: Sequence[str],
    given_agents: Sequence[str],
) -> None:
    """Print a row for each draft, round trip and mode; each option may be given several times."""
    size = Size(num_prompts, num_tokens, num_repeats)
    settings = dict(map(setting_of, given))
    agent_settings = dict(map(setting_of, given_agents))
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for draft in drafts or ("q4_1", "q2_k"):
        own = {"draft.model": SHORT_NAMES[draft], **agent_settings}
        with _running(own, round_ms, waiting_length, settings) as setting:
            for round_trip in round_trips or (0, 30, 100):
                setting.change_round_trip(round_trip)
                for mode in modes or tuple(MODES):
                    row = _measured(setting, mode, size)
                    cells = (draft, f"{round_trip:g}", mode, *row.cells())
                    print(f"| {' | '.join(cells)} |", flush=True)
    print(
        f"\nrounds of {round_ms:g} ms at least, {num_prompts} prompts × {num_tokens} tokens × "
        f"{num_repeats} repeats; ratios: median (least to most) over repeats"
    )


def _measured(setting: Setting, mode: str, size: Size) -> Row:
    chosen = prompts()[:: 16 // size.num_prompts][: size.num_prompts]
    for arm in ("waiting", "product"):  # teaches the estimators this mode and round trip
        setting.ask(arm, prompts()[1], WARM_UP_TOKENS, mode)
    row = Row()
    for number in range(size.num_repeats):
        row.repeats.append({arm: Speed() for arm in ARMS})
        for i, prompt in enumerate(chosen):
            first = (i + number) % len(ARMS)
            for arm in ARMS[first:] + ARMS[:first]:
                row.add(prompt, arm, setting.ask(arm, prompt, size.num_tokens, mode))
                if sys.stderr.isatty():
                    print(f"{mode} {number} {prompt.id} {arm:20}", end="\r", file=sys.stderr)
    return row


@contextmanager
def _running(
    agent_settings: Mapping[str, object],
    round_ms: float,
    waiting_length: int,
    given: Mapping[str, object],
) -> Iterator[Setting]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        programs = stack.enter_context(Programs(directory))
        token_files = {arm: programs.token_file(arm) for arm in ("product", "waiting")}
        verifiers = {
            "product": _verifier(programs, round_ms, (), given),
            "waiting": _verifier(
                programs,
                round_ms,
                ("--whole-drafts",),
                {
                    "rounds.barrier": True,
                    "rounds.max_draft_length": waiting_length,
                    "rounds.max_window": waiting_length,
                },
            ),
        }
        for verifier in verifiers.values():  # one after the other: both measure their target
            verifier.start()
            verifier.wait_until_ready()
        proxies = {
            arm: stack.enter_context(ProxyThread(local(verifier.port)))
            for arm, verifier in verifiers.items()
        }
        agents = {
            arm: programs.agent(
                proxies[arm].url,
                token_files[arm],
                (*LAUNCHERS, "agent", "--whole-drafts") if arm == "waiting" else AGENT,
                {"draft.threads": 1, "draft.batch_threads": 1, **agent_settings},
                AGENT_CORES,
            )
            for arm in verifiers
        }
        for agent in agents.values():
            agent.start()
            agent.wait_until_ready()
        yield Setting(proxies, agents)


def _verifier(
    programs: Programs, round_ms: float, options: Sequence[str], settings: Mapping[str, object]
) -> ServingProgram:
    launcher = (*LAUNCHERS, "verifier", f"--round-ms={round_ms}", *options)
    fixed = {"target.dtype": "float32", "target.threads": 1}
    return programs.verifier(launcher, {**fixed, **settings}, VERIFIER_CORES)


def _ratio(speeds: Mapping[str, Speed], rival: str) -> float:
    return speeds["product"].tokens_per_second / speeds[rival].tokens_per_second


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
