"""Rows that could not be scored are scored again, and all others stay as they are."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rewardkit.errors import UsageError
from rewardkit.scoring.retry import Retry, retry_rows
from rewardkit.scoring.run import RunResult, ScoreOptions

AWAY = """
version: 1
components:
  size: {use: toy.size, weight: 0.01}
  away: {use: toy.away}
  hashed: {use: toy.hashed}
unscored: {policy: exclude, abort_above: 1.0}
"""
GROUPED_AWAY = """
version: 1
components:
  best: {use: toy.best}
  away: {use: toy.away}
unscored: {policy: exclude, abort_above: 1.0}
"""


@pytest.fixture(autouse=True)
def _service_is_away(toy: ModuleType) -> Iterator[None]:
    toy.is_away = True
    yield
    toy.is_away = True


def _retry(toy: ModuleType, source: Path, out: Path, text: str, retry: str = "unscored") -> RunResult:
    with toy.make_reward(text) as reward:
        return retry_rows(ScoreOptions([str(source)], out), Retry.parse(retry), reward)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet", ".hf"])
@pytest.mark.parametrize("text", [AWAY, GROUPED_AWAY])
def test_rows_are_scored_again(text: str, ending: str, tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """When the service is back, the output is what one whole run would have written."""
    source = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(200))
    out, whole = tmp_path / f"out{ending}", tmp_path / f"whole{ending}"
    toy.score([source], out, text)
    toy.is_away = False
    toy.score([source], whole, text)
    result = _retry(toy, source, out, text, "unscored:infra")
    assert files.read_rows(out) == files.read_rows(whole)
    assert result.summary["components"]["away"]["unscored"] == {}
    assert result.manifest["rows_retried"] == 200
    assert sorted(path.name for path in tmp_path.glob("out*")) == [f"out{ending}", f"out{ending}.manifest.json"]


def test_only_the_named_kinds(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """Rows that are unscored for another reason are left alone."""
    source = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(100))
    out = tmp_path / "out.jsonl"
    toy.score([source], out, toy.PLAIN)
    before = out.read_bytes()
    assert _retry(toy, source, out, toy.PLAIN, "unscored:infra,timeout").already_complete
    assert out.read_bytes() == before


def test_what_cant_be_retried(tmp_path: Path, toy: ModuleType, files: ModuleType) -> None:
    """An output of another reward, an unfinished one and an unknown kind are refused."""
    source = files.write_rows(tmp_path / "rows.jsonl", files.make_rows(10))
    out = tmp_path / "out.jsonl"
    with pytest.raises(UsageError, match="no finished output"):
        _retry(toy, source, out, AWAY)
    toy.score([source], out, toy.PLAIN)
    with pytest.raises(UsageError, match="was written with reward"):
        _retry(toy, source, out, AWAY)
    wrong: Any
    for wrong in ("infra", "unscored:", "unscored:network"):
        with pytest.raises(UsageError, match="--retry"):
            Retry.parse(wrong)
