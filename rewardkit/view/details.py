"""One row as the page shows it: texts with what was extracted marked, components, program output, and the other fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from rewardkit.insight.extraction import Piece, marked_messages
from rewardkit.insight.failing_test import failing_test
from rewardkit.view.database import Database
from rewardkit.view.queries import Relation, row_of

SHOWN_APART = frozenset({"prompt", "completion", "components", "reward", "reward_status", "view_group_key"})
MOST_CHARACTERS = 1_000_000
"""Characters of a field that are sent; the page says where a text was cut."""


def detail(database: Database, relation: Relation, number: int) -> dict[str, Any]:
    """Return a whole row for the page.

    Args:
        database: The database.
        relation: The source.
        number: The row, counted from 0.

    Raises:
        UsageError: There is no such row.
    """
    row = row_of(database, relation, number)
    components = row.get("components") or {}
    return {
        "row": number,
        "reward": row.get("reward"),
        "status": row.get("reward_status") or ("scored" if row.get("reward") is not None else "unscored"),
        "group": row["view_group_key"],
        "prompt": _messages(row.get("prompt"), {}),
        "completion": _messages(row.get("completion"), components),
        "components": [_component(name, part or {}, row) for name, part in components.items()],
        "fields": {
            name: _text(value)
            for name, value in row.items()
            if name not in SHOWN_APART and value not in (None, "", {}, [])
        },
    }


def _messages(content: Any, components: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"role": role, "pieces": [_piece(piece) for piece in pieces]}
        for role, pieces in marked_messages(content, components)
    ]


def _piece(piece: Piece) -> dict[str, Any]:
    text = piece.text
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}\n[{len(text) - MOST_CHARACTERS:,} more characters]"
    return {"text": text, "components": list(piece.components)}


def _component(name: str, part: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    value = part.get("value")
    status = part.get("status") or ("scored" if value is not None else "no value")
    failed = failing_test(part.get("reason") or "", row)
    more = {f"failing test {failed[0]}": failed[1]} if failed else {}
    if part.get("output"):
        more["program output"] = _text(part["output"])
    known = {
        "value",
        "weight",
        "contribution",
        "status",
        "reason",
        "kind",
        "traceback",
        "metrics",
        "steps",
        "extracted",
        "output",
    }
    return {
        "name": name,
        "value": value,
        "weight": part.get("weight"),
        "contribution": part.get("contribution"),
        "status": f"{status} ({part['kind']})" if part.get("kind") else status,
        "reason": part.get("reason") or "",
        "traceback": part.get("traceback") or "",
        "metrics": {key: number for key, number in (part.get("metrics") or {}).items() if number is not None},
        "steps": part.get("steps") or [],
        "more": more
        | {key: _text(item) for key, item in part.items() if key not in known and item not in (None, "", {}, [])},
    }


def _text(value: Any) -> str:
    """Return a field as text: JSON with line breaks, where it is not text."""
    if not isinstance(value, str):
        value = orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    return value if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]}\n[cut]"
