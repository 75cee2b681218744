"""`goodspeed-agent model …`: get, list, find, check and delete draft models.

Results go to standard output, progress to standard error; a failure is one sentence.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.commands.settings import SETTINGS
from edge_agent.draft_model.drafter import QUANTISATIONS
from edge_agent.models.cache import cached_models, remove, sha256_of, work_dir
from edge_agent.models.presets import (
    DEFAULT_MODEL,
    PRESETS,
    HubModel,
    Preset,
    ShippedModel,
    expected_sha256,
    locate,
    resolve,
)
from edge_agent.models.progress import progress_on
from edge_agent.models.pull import pull
from edge_agent.models.quantise import quantise
from shared.config.model_files import cached_path, default_cache_dir
from shared.daemon.peer_text import one_line, terminal_text
from shared.errors import ConfigError, GoodspeedError, ModelError
from shared.protocol.handed_drafts.draft_judgement import DraftJudgement, pack_judgements
from shared.protocol.handed_drafts.draft_offers import OFFER_NAME, DraftOffer

if TYPE_CHECKING:
    from edge_agent.judging.judgement import Judgement
    from edge_agent.models.from_verifier import OfferingVerifier

UNKNOWN_LICENCE = "licence not told"


@click.group
def model() -> None:
    """Draft models: pull, list, find, verify and delete them.

    They live in $GOODSPEED_MODEL_DIR, $XDG_CACHE_HOME/goodspeed/models or
    ~/.cache/goodspeed/models.
    """


@model.command(name="pull")
@click.argument("name", default="")
def pull_command(name: str) -> None:
    """Download or make the model NAME, unless it is there and intact.

    By default that which the settings of this board name (draft.model). The verifier is asked first
    where the settings name one; hf:OWNER/REPO/FILE.gguf is a file of a hub (HF_ENDPOINT, HF_TOKEN).
    A download that was cut goes on where it ended.
    """
    name = name or SETTINGS.load(None, ()).config.draft.model or DEFAULT_MODEL
    verifier, offers = (None, {}) if "/" in name else _offers()
    with progress_on(sys.stderr) as progress:
        if verifier is not None and name in offers and _may_come_from_verifier(offers[name]):
            from edge_agent.models.from_verifier import pull_offer

            path = pull_offer(verifier, offers[name], _cache_dir(), progress)
        else:
            path = pull(name, _cache_dir(), progress)
    click.echo(f"{path} {_megabytes(path)}")


@model.command(name="quantise")
@click.argument("source")
@click.argument("file_type", type=click.Choice(QUANTISATIONS, case_sensitive=False))
@click.option("--name", help="Of the new model; by default that of SOURCE with the type behind it.")
def quantise_command(source: str, file_type: str, name: str | None) -> None:
    """Make a smaller form of SOURCE, a model that is here or the path of a GGUF file.

    Smaller weights draft faster, and are accepted less often; texts stay the target's own.
    """
    path = locate(source, _cache_dir())
    name = name or f"{path.stem}-{file_type.lower()}"
    if re.fullmatch(OFFER_NAME, name) is None:
        raise ModelError(f"--name {name}: must be letters, digits, dots, dashes and underscores")
    with progress_on(sys.stderr) as progress:
        made = quantise(path, file_type, name, _cache_dir(), progress)
    click.echo(f"{made} {_megabytes(made)}")


@model.command(name="ls")
def ls_command() -> None:
    """List all models that are here, and those that can be pulled.

    Name, licence, size; of what is here the quantisation, of the rest where it comes from.
    """
    here = {path.stem: path for path in cached_models(_cache_dir())}
    _, offers = _offers()
    names = sorted(PRESETS.keys() | here.keys() | offers.keys())
    width = max(len(name) for name in names)
    for name in names:
        if name in here:
            licence, state = _here(here[name])
        else:
            licence, state = _not_here(PRESETS.get(name), offers.get(name))
        click.echo(f"{name:{width}}  {licence}  {state}")


@model.command(name="rm")
@click.argument("names", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm_command(names: tuple[str, ...], yes: bool) -> None:
    """Delete the models NAMES from this cache."""
    paths = [_cached(name) for name in names]
    for path in paths:
        if yes or click.confirm(f"delete {path} ({_megabytes(path)})?", err=True):
            with work_dir(_cache_dir(), _tell_of_wait):  # no pull puts it there meanwhile
                remove(path)
            click.echo(f"deleted {path}")


@model.command(name="path")
@click.argument("name", default=DEFAULT_MODEL)
def path_command(name: str) -> None:
    """Print where the model NAME is, without checking its bytes."""
    click.echo(str(locate(name, _cache_dir())))


@model.command(name="judge")
@click.argument("drafts", nargs=-1, required=True)
@click.option(
    "--texts",
    "texts_file",
    required=True,
    type=click.Path(path_type=Path),
    help="What `goodspeed-verifier finetune --held-out` wrote beside its draft.",
)
@click.option(
    "--per-domain",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="Texts of each domain and mode.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Cores in use."
)
@click.option(
    "--json", "as_json", is_flag=True, help="For `goodspeed-verifier drafts add --judgement`."
)
def judge_command(
    drafts: tuple[str, ...], texts_file: Path, per_domain: int, threads: int, as_json: bool
) -> None:
    """Tell how much of the DRAFTS a target would accept, by domain and mode, and how fast they are.

    DRAFTS are models that are here, or paths of GGUF files; speeds are told beside the first one's.
    Nothing else should run meanwhile.
    """
    from edge_agent.judging.judgement_lines import judgement_lines

    paths = {locate(draft, _cache_dir()).stem: locate(draft, _cache_dir()) for draft in drafts}
    judgements = _judged(paths, texts_file, per_domain, threads)
    if as_json:
        told = [_told(path, judgements[name]) for name, path in paths.items()]
        click.echo(pack_judgements(told).decode())
        return
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    for line in judgement_lines(judgements, sizes):
        click.echo(line)


@model.command(name="verify")
@click.argument("names", nargs=-1)
def verify_command(names: tuple[str, ...]) -> None:
    """Check the models NAMES, by default all that are here.

    By their sha256 where it is known, else whether the file has all that it names.
    """
    chosen = names or tuple(path.stem for path in cached_models(_cache_dir()))
    if not chosen:
        raise ModelError(f"there is no model in {_cache_dir()}: goodspeed-agent model pull")
    faults = []
    for name in chosen:
        try:
            click.echo(_verified(name))
        except ModelError as error:
            faults.append(str(error))
    if faults:
        raise ModelError("; ".join(faults))


def _told(path: Path, judgement: Judgement) -> DraftJudgement:
    return DraftJudgement(
        path.stem,
        sha256_of(path),
        path.stat().st_size,
        judgement.tokens_per_second,
        judgement.drawn_per_second,
        {
            str(rule): {domain: found.rate for domain, found in by_domain.items()}
            for rule, by_domain in judgement.accepted.items()
        },
    )


def _judged(
    paths: dict[str, Path], texts_file: Path, per_domain: int, threads: int
) -> dict[str, Judgement]:
    # Only here: llama.cpp takes a second to load.
    from edge_agent.draft_model.llama_drafter import LlamaDrafter
    from edge_agent.judging.judgement import chosen_texts, judge
    from shared.protocol.held_out_texts import unpack_texts

    held_out = unpack_texts(texts_file.read_bytes(), str(texts_file))
    texts = chosen_texts(held_out, per_domain)
    longest = max(len(text.prompt_ids) + len(text.token_ids) for text in texts)
    judgements = {}
    with progress_on(sys.stderr) as progress:
        for name, path in paths.items():
            progress.begin_stage(f"judging {name}", len(texts))
            drafter = LlamaDrafter(path, 1, longest, threads, threads)
            try:
                judgements[name] = judge(drafter, texts, held_out.vocab_size, progress.update)
            finally:
                drafter.close()
    return judgements


def _cache_dir() -> Path:
    return default_cache_dir(os.environ)


def _verified(name: str) -> str:
    """What is said of a model that is right.

    Raises:
        ModelError: it is not.
    """
    path = resolve(name, _cache_dir())
    if expected_sha256(PRESETS.get(name), path) is not None:
        return f"ok {path}"
    # Only here: llama.cpp takes a second to load.
    from edge_agent.draft_model.llama_outline import read_outline

    read_outline(path)
    return f"ok {path} is whole; no sha256 of it is known"


def _here(path: Path) -> tuple[str, str]:
    """Licence and state of a model in the cache."""
    from edge_agent.draft_model.llama_outline import read_outline

    preset = PRESETS.get(path.stem)
    licence = None if preset is None else preset.licence
    try:
        outline = read_outline(path)
    except ModelError:
        return licence or UNKNOWN_LICENCE, f"{_megabytes(path)}, not whole: model verify"
    licence = licence or outline.licence or UNKNOWN_LICENCE
    return licence, f"{_megabytes(path)}  {outline.quantisation}"


def _not_here(preset: Preset | None, offer: DraftOffer | None) -> tuple[str, str]:
    licence = UNKNOWN_LICENCE if preset is None else preset.licence
    if offer is not None:
        words = [f"at the verifier ({offer.num_bytes / 1e6:.0f} MB)", *offer.labels]
        words += ["assigned to this board"] if offer.is_assigned else []
        words += ["suits this board best"] if offer.suits else []
        return one_line(offer.licence) or licence, ", ".join(words)
    assert preset is not None
    targets = (
        f", drafts for {preset.targets}" if isinstance(preset, HubModel | ShippedModel) else ""
    )
    return licence, f"not pulled ({preset.size_bytes / 1e6:.0f} MB){targets}"


def _offers() -> tuple[OfferingVerifier | None, dict[str, DraftOffer]]:
    """What the verifier of the settings offers; a verifier that cannot be asked is told of."""
    try:
        verifier = _verifier()
        if verifier is None:
            return None, {}
        return verifier, {offer.name: offer for offer in verifier.offers()}
    except (GoodspeedError, OSError) as error:
        click.echo(f"the verifier was not asked for drafts: {terminal_text(str(error))}", err=True)
        return None, {}


def _verifier() -> OfferingVerifier | None:
    """The verifier of the settings; None where they name none that would know this board."""
    # Only here: aiohttp takes a while to import.
    from edge_agent.commands.found_verifier import with_found_verifier
    from edge_agent.models.from_verifier import OfferingVerifier
    from edge_agent.startup import verifier_tls
    from edge_agent.tokens import read_device_token

    config = with_found_verifier(SETTINGS.load(None, ()).config)
    try:
        token, tls = read_device_token(config), verifier_tls(config.verifier)
        return OfferingVerifier(config.verifier.url, token, tls)
    except ConfigError:
        return None


def _may_come_from_verifier(offer: DraftOffer) -> bool:
    """Whether the offer is the model that is known by its name."""
    preset = PRESETS.get(offer.name)
    pinned = getattr(preset, "sha256", None)
    if pinned is None or pinned == offer.sha256:
        return True
    click.echo(f"the verifier's {offer.name} is another file than that of this name", err=True)
    return False


def _cached(name: str) -> Path:
    path = cached_path(_cache_dir(), name)
    if "/" in name or not path.is_file():
        raise ModelError(f"there is no model {name} in {_cache_dir()}: goodspeed-agent model ls")
    return path


def _tell_of_wait() -> None:
    click.echo("waiting for a pull to end", err=True)


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB"
