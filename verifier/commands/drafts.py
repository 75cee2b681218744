"""`goodspeed-verifier drafts`: the registry of draft models, and which board holds which.

What is changed goes into files in the directory of state, which the running verifier takes over
within a second.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec

from shared.config.sections import Loaded
from shared.daemon.command_line import settings_options
from shared.daemon.peer_text import one_line
from shared.errors import RequestRefused
from shared.protocol.handed_drafts.draft_judgement import DraftJudgement, unpack_judgements
from shared.protocol.handed_drafts.draft_offers import LABEL, MAX_LABELS, OFFER_NAME
from shared.protocol.messages import MAX_ASSIGNED_DRAFTS
from verifier.commands.live_state import LiveDevice, NoState, read_live_state
from verifier.commands.printed_table import print_table
from verifier.commands.set_terms import change_terms, known_terms
from verifier.commands.settings import SETTINGS, state_directory
from verifier.config import VerifierConfig
from verifier.drafts.draft_store import FOLDER, DraftStore, known_draft
from verifier.drafts.kept_draft import KeptDraft
from verifier.engine.device_terms import AUTOMATIC, AllTerms, DeviceTerms

_EXAMPLES = """\b
Examples:
  goodspeed-verifier drafts add draft.gguf --name coder --label code
  goodspeed-verifier drafts assign kitchen coder
  goodspeed-verifier drafts assign garage auto            # what suits the board best
  goodspeed-verifier drafts assign kitchen none           # its own draft again
"""
_NOTHING = "–"
_NONE = "none"  # in place of a draft's name
_COLUMNS = (
    *("draft", "MB", "weights", "accepted", "tokens/s", "labels"),
    *("licence", "vocabulary", "devices"),
)

_file = click.Path(path_type=Path, dir_okay=False, exists=True)
_labels = click.option(
    "--label", "labels", multiple=True, help="A domain or a language; may be given often."
)


@click.group(epilog=_EXAMPLES)
def drafts() -> None:
    """Keep draft models, and let boards have them."""


@drafts.command(name="ls")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@settings_options(SETTINGS)
def list_drafts(loaded: Loaded[VerifierConfig], as_json: bool) -> None:
    """List all drafts of the registry, what is known of them, and who is assigned them.

    Of a running verifier also which boards hold them, and what their streams take.
    """
    kept, terms = _store(loaded.config).catalogue().by_name, known_terms(loaded.config)
    live: dict[str, LiveDevice] = {}
    with contextlib.suppress(NoState):  # that none runs is no fault of the registry
        live = read_live_state(loaded.config)
    if as_json:
        rows = [
            {
                "name": name,
                "devices": _devices_of(name, terms),
                "held_by": _holders(name, live),
                "leads_on": sorted(one.name for one in live.values() if one.draft == name),
                **msgspec.structs.asdict(draft),
            }
            for name, draft in sorted(kept.items())
        ]
        report = {"drafts": rows, "automatic": _devices_of(AUTOMATIC, terms)}
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    print_table(
        _COLUMNS, [_cells(name, draft, terms, live) for name, draft in sorted(kept.items())]
    )


@drafts.command()
@click.argument("file", metavar="FILE.gguf", type=_file)
@click.option("--name", help="For boards and operators; by default that of the file.")
@_labels
@click.option("--licence", help="By default the file's own word.")
@click.option(
    "--judgement",
    "judgement_file",
    type=_file,
    help="Of `goodspeed-agent model judge --json`: how often it is accepted, how fast it is.",
)
@click.option("--replace", "replaces", is_flag=True, help="A draft of the same name, if any.")
@settings_options(SETTINGS)
def add(
    loaded: Loaded[VerifierConfig],
    file: Path,
    name: str | None,
    labels: tuple[str, ...],
    licence: str | None,
    judgement_file: Path | None,
    replaces: bool,
) -> None:
    """Copy FILE.gguf into the registry, checked; boards may have it if it fits the target."""
    name = _checked_name(name or file.stem)
    judgements: tuple[DraftJudgement, ...] = ()
    if judgement_file is not None:
        judgements = unpack_judgements(judgement_file.read_bytes(), str(judgement_file))

    # Only here: gguf takes a while to import.
    from verifier.server.drafts.described_draft import described_draft

    def describe(path: Path, sha256: str, num_bytes: int) -> KeptDraft:
        draft = described_draft(path, sha256, num_bytes, file)
        draft = msgspec.structs.replace(draft, labels=_checked_labels(labels))
        if licence is not None:
            draft = msgspec.structs.replace(draft, licence=licence)
        if judgement_file is None:
            return draft
        return _judged(draft, judgements, judgement_file)

    store = _store(loaded.config)
    draft = store.add(name, file, describe, replaces=replaces)
    click.echo(f"{name} {draft.num_bytes / 1e6:.1f} MB, vocabulary {draft.vocabulary}")


@drafts.command()
@click.argument("name")
@settings_options(SETTINGS)
def rm(loaded: Loaded[VerifierConfig], name: str) -> None:
    """Delete the draft NAME; boards that have it give it up when their streams have ended."""
    _store(loaded.config).remove(name)


@drafts.command()
@click.argument("device")
@click.argument("names", metavar="DRAFT...|auto|none", nargs=-1, required=True)
@_labels
@click.option(
    "--first", "is_first", is_flag=True, help="Use the first of them, whatever is measured."
)
@settings_options(SETTINGS)
def assign(
    loaded: Loaded[VerifierConfig],
    device: str,
    names: tuple[str, ...],
    labels: tuple[str, ...],
    is_first: bool,
) -> None:
    """Let DEVICE fetch these drafts, and find out by its new streams which is the fastest.

    Its own draft is among those that are compared. Streams that run keep what they have.

    auto: the one with which it would write fastest, by what it told of itself and what was judged;
    with --label of those that have one of these.
    """
    config = loaded.config
    chosen = () if names == (_NONE,) else names
    if labels and AUTOMATIC not in chosen:
        raise click.BadParameter("is for auto", param_hint="--label")
    if len(chosen) > MAX_ASSIGNED_DRAFTS:
        raise click.BadParameter(f"at most {MAX_ASSIGNED_DRAFTS}", param_hint="DRAFT")
    catalogue = _store(config).catalogue()
    for name in chosen:
        if name != AUTOMATIC and not _is_in_folder(config, name):
            known_draft(catalogue, name)

    def change(terms: DeviceTerms) -> DeviceTerms:
        return msgspec.structs.replace(
            terms,
            drafts=tuple(dict.fromkeys(chosen)),
            draft_choice="first" if is_first else "measured",
            draft_labels=_checked_labels(labels),
        )

    change_terms(config, device, change)


def _judged(
    draft: KeptDraft, judgements: tuple[DraftJudgement, ...], judgement_file: Path
) -> KeptDraft:
    found = next((one for one in judgements if one.sha256 == draft.sha256), None)
    if found is None:
        judged = ", ".join(one.name for one in judgements) or "nothing"
        raise RequestRefused(f"{judgement_file} judges other files than this one: {judged}")
    return msgspec.structs.replace(
        draft, acceptance=found.acceptance, tokens_per_second=found.tokens_per_second
    )


def _checked_name(name: str) -> str:
    if re.fullmatch(OFFER_NAME, name) is None or name in {AUTOMATIC, _NONE}:
        raise RequestRefused(
            f"--name {name}: must be letters, digits, dots, dashes and underscores, and neither "
            f"{AUTOMATIC} nor {_NONE}"
        )
    return name


def _checked_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    for label in labels:
        if re.fullmatch(LABEL, label) is None:
            raise RequestRefused(f"--label {label}: must be letters, digits, dots and dashes")
    if len(labels) > MAX_LABELS:
        raise RequestRefused(f"a draft has at most {MAX_LABELS} labels")
    return tuple(dict.fromkeys(labels))


def _store(config: VerifierConfig) -> DraftStore:
    return DraftStore(state_directory(config, "the registry of drafts is there") / FOLDER)


def _is_in_folder(config: VerifierConfig, name: str) -> bool:
    folder = config.drafts.directory
    return folder is not None and "/" not in name and (folder / f"{name}.gguf").is_file()


def _devices_of(name: str, terms: AllTerms) -> list[str]:
    return sorted(device for device, one in terms.by_device.items() if name in one.drafts)


def _holders(name: str, live: Mapping[str, LiveDevice]) -> list[str]:
    return sorted(device.name for device in live.values() if name in device.held_drafts)


def _shown_devices(name: str, terms: AllTerms, live: Mapping[str, LiveDevice]) -> str:
    """Who is assigned it or holds it, and how it goes there."""
    shown = []
    for device in sorted({*_devices_of(name, terms), *_holders(name, live)}):
        known = live.get(device)
        if known is None or name not in known.held_drafts:
            shown.append(device)
        elif known.draft == name:
            shown.append(f"{device} (in use)")
        elif known.tried_draft == name:
            shown.append(f"{device} (tried: {known.tried_ratio:.2f}x, {known.tried_pairs} pairs)")
        else:
            shown.append(f"{device} (held)")
    return ", ".join(shown) or _NOTHING


def _cells(
    name: str, draft: KeptDraft, terms: AllTerms, live: Mapping[str, LiveDevice]
) -> list[str]:
    accepted, speed = draft.acceptance, draft.tokens_per_second
    return [
        name,
        f"{draft.num_bytes / 1e6:.1f}",
        f"{draft.num_weights / 1e6:.0f}M",
        _NOTHING if accepted is None else f"{accepted:.2f}",
        _NOTHING if speed is None else f"{speed:.0f}",
        " ".join(draft.labels) or _NOTHING,
        one_line(draft.licence) or _NOTHING,
        draft.vocabulary,
        _shown_devices(name, terms, live),
    ]
