"""What ``rewardkit score --repeat`` prints."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from rewardkit.errors import RewardkitError

if TYPE_CHECKING:
    from rewardkit.scoring.repeat import Stability

_TITLES = {
    "values_differ": "values differ",
    "scored_and_unscored": "un/scored",
    "kinds_differ": "kinds",
    "applied_differs": "applied",
}


class UnstableError(RewardkitError):
    """More rows got another score when they were scored again than ``--fail-above`` allows."""


def print_stability(found: Stability) -> None:
    """Print to standard error which rows are unstable, by component and reason."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(stderr=True, highlight=False)
    data = found.data()
    if not found.unstable:
        console.print(f"scored {found.scorings} times: the same scores for all {found.rows:,} rows")
        return
    console.print(
        f"[yellow]scored {found.scorings} times: {data['unstable_rows']:,} of {found.rows:,} rows are unstable "
        f"({data['unstable_share']:.2%})[/]"
    )
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, width=min(80, shutil.get_terminal_size().columns)
    )
    table.add_column("unstable rows", ratio=1, min_width=10, no_wrap=True, overflow="ellipsis")
    for title in ("rows", *_TITLES.values(), "spread"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, counts in sorted(data["components"].items(), key=lambda item: -item[1]["unstable"]):
        spread = counts["largest_spread"]
        told = [f"{counts[reason]:,}" for reason in _TITLES]
        table.add_row(escape(name), f"{counts['unstable']:,}", *told, "–" if spread is None else f"{spread:.3g}")
    table.caption = (
        "un/scored: scored in some scorings only; kinds: unscored for differing reasons; applied: skipped in some scorings; "
        "spread: largest difference of a row's values"
    )
    table.caption_justify = "left"
    console.print(table)
    for example in data["examples"][:5]:
        text = f"row {example['row']:,}, {example['component']}: {example['first']} · then {example['other']}"
        console.print(f"[dim]  {escape(text)}[/]")


def check_stability(found: Stability, fail_above: float | None) -> None:
    """Raise an error if more rows are unstable than allowed.

    Raises:
        UnstableError: They are.
    """
    if fail_above is not None and found.unstable_share > fail_above:
        raise UnstableError(
            f"{found.unstable_rows:,} of {found.rows:,} rows got another score when they were scored again "
            f"({found.unstable_share:.2%}); --fail-above allows {fail_above:.2%}"
        )
