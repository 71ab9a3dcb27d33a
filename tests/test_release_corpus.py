"""The corpus of which the scores at the last release are recorded."""

import json
import runpy
from pathlib import Path

import pytest

CORPUS = Path(__file__).parents[1] / "benchmarks" / "release_corpus"


def _rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["math", "code"])
def test_the_corpus_is_what_its_program_writes_and_is_recorded_whole(name: str) -> None:
    """The rows, the program that makes them, and the recorded scores belong together, and each recorded row has a score."""
    made = runpy.run_path(str(CORPUS / "build.py"))[f"{name}_rows"]()
    rows, recorded = _rows(CORPUS / f"{name}.jsonl"), _rows(CORPUS / f"{name}.release.jsonl")
    assert rows == made
    assert [{key: row[key] for key in rows[0]} for row in recorded] == rows
    assert {row["reward_status"] for row in recorded} == {"scored"}
