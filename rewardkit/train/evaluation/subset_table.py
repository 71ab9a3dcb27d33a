"""The accuracies of subsets as a table for the console."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from rewardkit.train.evaluation.preference_accuracy import SubsetAccuracy


def subset_table(subsets: Sequence[SubsetAccuracy], mean: float | None, unit: str) -> Table:
    """Return the table, with the mean over subsets in its last row.

    Args:
        subsets: The subsets.
        mean: The mean of their accuracies.
        unit: What is counted: "pairs" or "steps".
    """
    table = Table("subset", unit, "accuracy", "95 % interval", title="by subset", title_justify="left")
    for subset in subsets:
        value = subset.accuracy
        table.add_row(subset.name, f"{subset.count:,}", f"{value.value:.1%}", f"{value.low:.1%} to {value.high:.1%}")
    if mean is not None:
        table.add_section()
        table.add_row("mean over subsets", f"{sum(subset.count for subset in subsets):,}", f"{mean:.1%}", "")
    return table
