"""Rows come back in the container that they came in, with their scores."""

from typing import Any

import pyarrow as pa
import pytest

from rewardkit import CompositeReward, Registry, Rollout, load_reward, reward
from rewardkit.errors import UsageError

ROWS = [
    {"prompt": "p", "completion": "five", "extra": {"level": 1}},
    {"prompt": "p", "completion": "", "extra": {"level": 2}},
]
COLUMNS = ["prompt", "completion", "extra", "reward", "reward_status", "reward_id", "components"]


@reward("size")
def size(rollout: Rollout) -> float:
    """The length; raises for an empty completion."""
    return float(len(rollout.completion_text)) or 1 / 0


@reward("rank", scope="group")
def rank(rollouts: Any) -> list[float]:
    """The size of the group."""
    return [float(len(rollouts))] * len(rollouts)


@pytest.fixture
def loaded() -> Any:
    """A reward that reads a nested column."""
    registry = Registry()
    registry.register(size)
    source = {"version": 1, "components": {"size": {"use": "size", "when": "fields.extra.level > 0"}}}
    with load_reward(source, registry=registry) as reward:
        yield reward


def test_lists_of_dicts(loaded: CompositeReward) -> None:
    """Each row gains columns; the rows themselves are not changed."""
    first, second = loaded.score_rows(ROWS)
    assert list(first) == COLUMNS
    assert (first["reward"], first["reward_status"], first["components"]["size"]["value"]) == (4.0, "scored", 4.0)
    assert (second["reward"], second["reward_status"], second["components"]["size"]["kind"]) == (
        None,
        "unscored",
        "plugin",
    )
    assert list(ROWS[0]) == ["prompt", "completion", "extra"]


def test_one_row_and_one_rollout(loaded: CompositeReward) -> None:
    """They give one dict."""
    assert loaded.score_rows(ROWS[0])["reward"] == 4.0
    assert loaded.score_rows(Rollout("p", "five", {"extra": {"level": 1}}))["reward"] == 4.0


def test_scored_rows_are_scored_again(loaded: CompositeReward) -> None:
    """The columns of an earlier scoring are replaced."""
    assert loaded.score_rows(loaded.score_rows(ROWS)) == loaded.score_rows(ROWS)


def test_a_frame_of_pandas(loaded: CompositeReward) -> None:
    """The index stays; an unscored row has NaN."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(ROWS, index=[7, 3])
    found = loaded.score_rows(frame)
    assert (type(found), list(found.columns), list(found.index)) == (pd.DataFrame, COLUMNS, [7, 3])
    assert found["reward"].isna().tolist() == [False, True]
    assert "reward" not in frame.columns


def test_a_frame_with_dialogues_in_arrays(loaded: CompositeReward) -> None:
    """As pandas reads them from a Parquet file."""
    pd = pytest.importorskip("pandas")
    np = pytest.importorskip("numpy")
    prompt = np.array([{"role": "user", "content": "q"}], dtype=object)
    found = loaded.score_rows(pd.DataFrame({"prompt": [prompt], "completion": ["five"], "extra": [{"level": 1}]}))
    assert found["reward"].tolist() == [4.0]


def test_a_frame_of_polars(loaded: CompositeReward) -> None:
    """An unscored row has null."""
    pl = pytest.importorskip("polars")
    found = loaded.score_rows(pl.DataFrame(ROWS))
    assert (type(found), found.columns, found["reward"].to_list()) == (pl.DataFrame, COLUMNS, [4.0, None])


def test_a_table_of_arrow(loaded: CompositeReward) -> None:
    """An unscored row has null."""
    found = loaded.score_rows(loaded.score_rows(pa.Table.from_pylist(ROWS)))
    assert isinstance(found, pa.Table)
    assert (found.column_names, found["reward"].to_pylist()) == (COLUMNS, [4.0, None])


def test_a_dataset(loaded: CompositeReward) -> None:
    """A Dataset gives a Dataset."""
    datasets = pytest.importorskip("datasets")
    found = loaded.score_rows(datasets.Dataset.from_list(ROWS))
    assert (type(found), found.column_names, found["reward"][:]) == (datasets.Dataset, COLUMNS, [4.0, None])


@pytest.mark.parametrize(
    ("rows", "message"),
    [("text", "a builtins.str"), ([{"prompt": "p"}], "row 0: there is no column 'completion'"), ([3], "row 0")],
)
def test_what_is_no_rows_is_refused(loaded: CompositeReward, rows: Any, message: str) -> None:
    """The message says what was found."""
    with pytest.raises(UsageError, match=message):
        loaded.score_rows(rows)


def test_groups_of_the_caller_are_never_merged() -> None:
    """Equal prompts in different groups are apart, also from a row without group whose prompt is a group's name."""
    registry = Registry()
    registry.register(rank)
    with load_reward({"version": 1, "components": {"c": {"use": "rank"}}}, registry=registry) as loaded:
        rows = [{"prompt": "p", "completion": "c", "group": group} for group in (1, 1, "1", "p", None)]
        assert [row["reward"] for row in loaded.score_rows(rows)] == [2.0, 1.0 + 1.0, 1.0, 1.0, 1.0]
