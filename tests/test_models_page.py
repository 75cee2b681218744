"""docs/models.md names the models that are known, with their licences, sizes and targets."""

from __future__ import annotations

import re

from edge_agent.draft_model.drafter import QUANTISATIONS
from edge_agent.models.presets import PRESETS, HubModel, PackagedModel, ShippedModel
from tests.support.programs.command import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("`").split("`")[0]: cells[1:]
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
}


def test_every_source_that_is_known_by_name_has_its_row() -> None:
    known = [p for p in PRESETS.values() if isinstance(p, HubModel | PackagedModel | ShippedModel)]
    assert {preset.name for preset in known} == ROWS.keys()
    for preset in known:
        licence, size, targets = ROWS[preset.name]
        assert preset.licence == licence
        assert f"{preset.size_bytes / 1e6:.0f} MB" == size
        assert targets == getattr(preset, "targets", "SmolLM2")


def test_the_forms_that_it_names_are_those_that_can_be_written() -> None:
    first, last = re.findall(r"\(`(\w+)` to `(\w+)`\)", PAGE)[0]
    assert (QUANTISATIONS[0], QUANTISATIONS[-1]) == (first, last)
