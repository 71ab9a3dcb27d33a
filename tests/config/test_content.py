"""The reward_id changes with whatever determines the scores: parameters, files that they name, and what the plugin tells."""

from pathlib import Path
from typing import Any

import pytest

from rewardkit import Registry, reward
from rewardkit.config import content, parse_config

told: dict[str, Any] = {}
"""What the identity function below returns or raises."""


def identify(params: Any) -> str | None:
    """Return or raise what a test wants."""
    found = told.get("identity")
    if isinstance(found, Exception):
        raise found
    return found


@reward("reads_files")
def reads_files(rollout, *, words: str = "", more: list[str] | None = None) -> float:
    """Reads files."""
    return 1.0


@reward("identified", deterministic=True, identity=identify)
def identified(rollout) -> float:
    """Has an identity."""
    return 1.0


def reward_id(component: str) -> str:
    """Return the reward_id of a reward of one component."""
    registry = Registry()
    registry.register(reads_files)
    registry.register(identified)
    return parse_config(f"version: 1\ncomponents: {{a: {component}}}\n", registry).reward_id


@pytest.mark.parametrize(
    "with_", ["words: words.txt", "words: ./words.py", "more: [x, words.txt]", "words: {path}/words.txt"]
)
def test_the_content_of_a_file_counts(with_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of a file that a parameter names, at any depth, changes the reward_id; its time of change does not."""
    monkeypatch.chdir(tmp_path)
    component = f"{{use: reads_files, with: {{{with_.format(path=tmp_path)}}}}}"
    missing = reward_id(component)
    for name in ("words.txt", "words.py"):
        (tmp_path / name).write_text("one")
    first = reward_id(component)
    for name in ("words.txt", "words.py"):
        (tmp_path / name).write_text("one")
    assert reward_id(component) == first
    for name in ("words.txt", "words.py"):
        (tmp_path / name).write_text("two")
    assert len({missing, first, reward_id(component)}) == 3


@pytest.mark.parametrize(
    "words", ["words", "./words", "calls.log", "a/b", ".", "/", "x" * 5000 + ".txt", "a\\0b.txt", "no.such"]
)
def test_other_texts_do_not_count(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that is a file by accident, a log, a folder, and what is no path are texts."""
    monkeypatch.chdir(tmp_path)
    before = reward_id(f'{{use: reads_files, with: {{words: "{words}"}}}}')
    (tmp_path / "words").write_text("x")
    (tmp_path / "calls.log").write_text("x")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert reward_id(f'{{use: reads_files, with: {{words: "{words}"}}}}') == before


def test_large_files_count_by_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is too large to be hashed counts by its size and the time of its last change."""
    monkeypatch.setattr(content, "MAX_FILE_BYTES", 2)
    path = tmp_path / "words.txt"
    path.write_text("large")
    component = f"{{use: reads_files, with: {{words: {path}}}}}"
    before = reward_id(component)
    path.write_text("larger")
    assert reward_id(component) != before


def test_the_identity_counts() -> None:
    """What the reward's identity function returns is part of the reward_id; where it returns None or raises, nothing is."""
    found = []
    for identity in ("model 1", "model 2", None, OSError("no engine")):
        told["identity"] = identity
        found.append(reward_id("{use: identified}"))
    assert found[2] == found[3]
    assert len(set(found)) == 3
