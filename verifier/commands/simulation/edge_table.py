"""Plans of a heterogeneous edge network as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from verifier.reproduction.heterogeneous_edge.arms import EdgePlan

# Of more batches the first ones are shown.
MAX_BATCHES = 4


def edge_table(plans: Sequence[EdgePlan]) -> Table:
    """A row for each arm, the joint plan first."""
    joint = plans[0]
    table = Table(title="two base stations", title_justify="left", title_style="bold")
    table.add_column("arm", no_wrap=True)
    for name in ("seconds", "joint is", "upload", "length"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("batches")
    for plan in plans:
        sizes = [str(size) for size in plan.batch_sizes[:MAX_BATCHES]]
        sizes += [f"… {len(plan.batch_sizes)} in all"] * (len(plan.batch_sizes) > MAX_BATCHES)
        table.add_row(
            plan.arm,
            f"{plan.seconds:.2f}",
            "" if plan is joint else _change(joint.seconds / plan.seconds - 1.0),
            f"{plan.upload_seconds:.4f}",
            str(plan.draft_length or "–"),
            " ".join(sizes),
        )
    return table


def _change(part: float) -> str:
    return f"{round(100.0 * part, 1) + 0.0:+.1f} %"
