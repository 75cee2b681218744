"""Every metric is told of in docs/metrics.md, and Grafana's dashboard asks for no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents.metrics_table import (
    MetricRow,
    series_of,
    served_metrics,
    table_of,
    told_metrics,
)

ROOT = Path(__file__).parent.parent
DASHBOARD = json.loads((ROOT / "devices/grafana/goodspeed.json").read_text(encoding="utf-8"))
# Of Prometheus' language, as far as the dashboard speaks it.
FUNCTIONS = {"rate", "sum", "histogram_quantile", "label_values", "by"}
NEEDED_OF_PROMETHEUS = {"job"}
_SELECTION = re.compile(r"(\w+)\{([^}]*)\}")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"by \(([^)]*)\)")


def told() -> list[MetricRow]:
    return told_metrics((ROOT / "docs/metrics.md").read_text(encoding="utf-8"))


def expressions() -> Iterator[tuple[str, str]]:
    """Title and query of every panel and variable."""
    for panel in DASHBOARD["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from ((one["name"], one["query"]) for one in DASHBOARD["templating"]["list"])


def faults_of(query: str, series: dict[str, frozenset[str]]) -> list[str]:
    """Names and labels of a query that no verifier serves."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", "", query)
    names = set(re.findall(r"\b[a-z_]\w*", bare)) - FUNCTIONS - NEEDED_OF_PROMETHEUS
    names -= {"device"} if query.startswith("label_values") else set()
    labels = [
        (name, label)
        for name, inner in _SELECTION.findall(query)
        for label in _LABEL.findall(inner)
    ]
    groups = [label.strip() for inner in _GROUPING.findall(query) for label in inner.split(",")]
    known = set().union(*(series.get(name, frozenset()) for name in names))
    return [
        *sorted(names - series.keys()),
        *(
            f"{name}.{label}"
            for name, label in labels
            if label not in series.get(name, frozenset()) | NEEDED_OF_PROMETHEUS
        ),
        *(label for label in groups if label not in known),
    ]


def test_every_metric_is_told_of_as_it_is_served() -> None:
    served = served_metrics()
    assert served == sorted(told()), f"docs/metrics.md should hold\n{table_of(served)}"


def test_a_table_is_read_as_it_was_written() -> None:
    rows = [
        MetricRow("a_total", "counter", frozenset({"device", "position"}), "What it is, of all"),
        MetricRow("b", "gauge", frozenset(), "Another"),
    ]
    assert rows == told_metrics(f"text\n\n{table_of(rows)}\n\nmore")


def test_the_dashboard_asks_only_for_what_is_served() -> None:
    series = series_of(told())
    found = {
        title: faults for title, query in expressions() if (faults := faults_of(query, series))
    }
    assert {} == found
    assert 15 < len(list(expressions()))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sum(rate(a_total[5m]))", []),
        ('sum by (device) (rate(a_total{device=~"x",job="y"}[$__rate_interval]))', []),
        ("rate(a[5m])", ["a"]),
        ('a_total{phase="x"}', ["a_total.phase"]),
        ("sum by (phase) (a_total)", ["phase"]),
        ("h_bucket / h", ["h"]),
    ],
)
def test_a_query_for_what_is_not_served_is_noticed(query: str, expected: list[str]) -> None:
    rows = [
        MetricRow("a_total", "counter", frozenset({"device"}), "A"),
        MetricRow("h", "histogram", frozenset(), "H"),
    ]
    assert expected == faults_of(query, series_of(rows))


def test_panels_stand_beside_each_other_and_have_a_number_each() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len(panels) == len({panel["id"] for panel in panels})
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
