"""The table that shows a composite reward: its components, weights, gate and combination."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from rewardkit.config.schedule import Schedule
    from rewardkit.config.spec import Composite


def print_composite(console: Console, composite: Composite) -> None:
    """Print a table of the components of a composite, and how they are combined.

    Args:
        console: Where to print.
        composite: The composite.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", title=composite.name or None, title_justify="left")
    table.add_column("component", style="cyan", no_wrap=True)
    table.add_column("reward", no_wrap=True)
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("reads")
    table.add_column("when")
    for item in composite.components:
        reads = ", ".join(item.needs) or "-"
        when = escape(item.when.text) if item.when else "always"
        table.add_row(item.name, escape(item.offer.type.name), weight_text(item.weight), escape(reads), when)
    console.print(table)
    gate = f" · gate: {escape(composite.gate.text)} (else {composite.gate_value:g})" if composite.gate else ""
    bounds = f" · clipped to {composite.clip[0]:g} … {composite.clip[1]:g}" if composite.clip else ""
    console.print(f"[dim]{composite.combine} of weight × value{gate}{bounds}[/dim]", highlight=False)


def weight_text(weight: Schedule) -> str:
    """Return a weight schedule as a short text."""
    if weight.kind == "constant":
        return f"{weight.points[0][1]:g}"
    (first, low), (last, high) = weight.points[0], weight.points[-1]
    return f"{low:g} → {high:g} (steps {first}-{last}, {weight.kind})"
