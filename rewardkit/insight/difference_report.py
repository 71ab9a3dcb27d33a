"""The difference between two rewards as tables, for the terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from rewardkit.files import write_page as write_page_file
from rewardkit.insight.difference import Difference
from rewardkit.insight.scored_file import ScoredFile, read_rows


@dataclass(frozen=True, slots=True)
class Table:
    """A table of words."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(difference: Difference) -> list[Table]:
    """Return what a person wants to see of a difference: rewards, ranks, advantages, components."""
    d = difference
    rewards = (
        ("mean reward", number(d.mean_a), number(d.mean_b), _change(d.mean_a, d.mean_b)),
        ("unscored rows", f"{d.unscored_a:,}", f"{d.unscored_b:,}", f"{d.newly_unscored:,} newly"),
        ("flat groups", f"{d.flat_groups_a:,}", f"{d.flat_groups_b:,}", f"{d.newly_flat_groups:,} newly"),
        ("rows whose reward changed", "", "", _part(d.changed_rows, d.rows)),
    )
    ranks = (
        ("order reversed", _part(d.flipped_pairs, d.pairs)),
        ("distinguished by A only", _part(d.newly_tied_pairs, d.pairs)),
        ("distinguished by B only", _part(d.newly_distinct_pairs, d.pairs)),
    )
    advantages = tuple(
        (name, number(change.mean_absolute), f"{change.sign_flips:.1%}", number(change.correlation))
        for name, change in d.advantages.items()
    )
    components = tuple(
        (name, number(change.mean_a), number(change.mean_b), _part(change.changed, d.rows), number(change.largest))
        for name, change in d.components.items()
    )
    return [
        Table(
            "Rewards", ("", "A", "B", "change"), rewards, "A flat group has equal rewards and gives no training signal."
        ),
        Table("Ranks", ("pairs of rollouts of one prompt", "count"), ranks),
        Table(
            "Advantages",
            ("algorithm", "mean absolute change", "sign flips", "correlation"),
            advantages,
            "Rows that both rewards scored, in groups of two and more.",
        ),
        Table("Components", ("component", "mean in A", "mean in B", "rows changed", "largest change"), components),
    ]


def examples(a: ScoredFile, b: ScoredFile, difference: Difference) -> list[dict[str, Any]]:
    """Return the rows that changed most, with what each component says of them in both files. Raises DataError."""
    rows_a, rows_b = read_rows(a.path, difference.most_changed), read_rows(b.path, difference.most_changed)
    found = []
    for index in difference.most_changed:
        row_a, row_b = rows_a[index], rows_b[index]
        parts_a, parts_b = row_a.get("components") or {}, row_b.get("components") or {}
        names = [*parts_a, *(name for name in parts_b if name not in parts_a)]
        found.append(
            {
                "row": index + 1,
                "reward_a": number(row_a["reward"], missing="unscored"),
                "reward_b": number(row_b["reward"], missing="unscored"),
                "prompt": text_of(row_a.get("prompt")),
                "completion": text_of(row_a.get("completion")),
                "components": [(name, *_said(parts_a.get(name)), *_said(parts_b.get(name))) for name in names],
            }
        )
    return found


def write_page(path: Path, a: ScoredFile, b: ScoredFile, difference: Difference, names: tuple[str, str]) -> None:
    """Write the difference as one HTML page that needs no network and no scripts.

    Args:
        path: The page.
        a: What reward A gave.
        b: What reward B gave.
        difference: The difference of the two.
        names: What A and B are called: the files that the user named.

    Raises:
        OutputError: The page can't be written.
        DataError: A scored file can't be read.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rewardkit.insight"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("difference.html.jinja").render(
        title="Difference of two rewards",
        a=names[0],
        b=names[1],
        reward_id_a=a.reward_id or "unknown",
        reward_id_b=b.reward_id or "unknown",
        difference=difference,
        tables=tables(difference),
        examples=examples(a, b, difference),
    )
    write_page_file(path, page)


def _said(part: Mapping[str, Any] | None) -> tuple[str, str]:
    if part is None:
        return "–", ""
    return number(part.get("value"), missing=str(part.get("status") or "–")), str(part.get("reason") or "")


def text_of(value: Any) -> str:
    """Return a prompt or completion as text; chat messages are shown with their roles."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\n\n".join(f"[{message.get('role')}] {message.get('content')}" for message in value)
    return str(value)


def number(value: float | None, *, missing: str = "–") -> str:
    """Return a number in four digits; ``missing`` for None."""
    return missing if value is None else f"{value + 0.0:.4g}"


def _change(a: float | None, b: float | None) -> str:
    return "–" if a is None or b is None else f"{b - a:+.4g}"


def _part(count: int, total: int) -> str:
    return f"{count:,} ({count / total:.1%})" if total else f"{count:,}"
