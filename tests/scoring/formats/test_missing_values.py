"""NaN, null, NA, NaT and empty cells are "no value", whichever format they come from; other types are read or told."""

import decimal
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from rewardkit import CompositeReward, FieldName, Registry, Rollout, Score, Unscored, reward
from rewardkit.config import parse_config
from rewardkit.scoring.columns.columns import Columns
from rewardkit.scoring.formats.decode import decode
from rewardkit.scoring.formats.readers import Reader, find_inputs

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
numpy = pytest.importorskip("numpy", reason="numpy is not installed")


@reward("needs_answer", needs=["answer"])
def needs_answer(rollout) -> Score:
    """Tell the type of the answer."""
    return Score(1.0, type(rollout.fields["answer"]).__name__)


@reward("takes_empty", may_be_empty=["stdin"])
def takes_empty(rollout, *, stdin: FieldName = "answer") -> float:
    """Take an empty text."""
    return 1.0


@reward("takes_none", may_be_missing=["names"])
def takes_none(rollout, *, names: list[FieldName] = ("answer", "other")) -> float:
    """Take rows without a value."""
    return 1.0


def jsonl(answers: list[Any], folder: Path) -> Path:
    """Lines of JSON, as the standard library writes them: NaN stands as NaN."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(answers)))
    return path


def parquet(answers: list[Any], folder: Path) -> Path:
    """A Parquet file by pandas."""
    path = folder / "rows.parquet"
    pandas.DataFrame(rows(answers)).to_parquet(path)
    return path


def arrow(answers: list[Any], folder: Path) -> Path:
    """An Arrow file that keeps NaN and null apart."""
    path = folder / "rows.arrow"
    pyarrow.feather.write_feather(pa.Table.from_pylist(rows(answers)), str(path), compression="uncompressed")
    return path


def delimited(answers: list[Any], folder: Path) -> Path:
    """A CSV file by pandas, with the text that it writes for missing values."""
    path = folder / "rows.csv"
    pandas.DataFrame(rows(answers)).to_csv(path, index=False, na_rep="NaN")
    return path


def rows(answers: list[Any]) -> list[dict[str, Any]]:
    """Rows with these answers."""
    return [{"prompt": f"p{index}", "completion": "c", "answer": answer} for index, answer in enumerate(answers)]


def outcomes(rollouts: list[Rollout]) -> list[str]:
    """The reason of each score, or the kind of why there is none."""
    registry = Registry()
    registry.register(needs_answer)
    config = parse_config("version: 1\ncomponents: {a: {use: needs_answer}}\n", registry)
    with CompositeReward(config, registry=registry) as engine:
        found = [item.outcomes["a"] for item in engine.score(rollouts)]
    return [item.kind if isinstance(item, Unscored) else item.reason for item in found]


def read(path: Path) -> list[Rollout]:
    """The rollouts of a file."""
    decoded = [decode(chunk, Columns()) for chunk in Reader(find_inputs([str(path)])).chunks()]
    assert [reason for part in decoded for reason in part.rejected] == []
    return [rollout for part in decoded for rollout in part.rollouts]


@pytest.mark.parametrize("write", [jsonl, parquet, arrow, delimited])
@pytest.mark.parametrize("missing", [None, math.nan])
def test_missing_numbers(write: Callable[..., Path], missing: Any, tmp_path: Path) -> None:
    """A column of numbers with a missing one: that row is Unscored(input), the others are scored."""
    found = outcomes(read(write([1.5, missing, 2.5], tmp_path)))
    assert found[1] == "input"
    assert found[0] == found[2] != "input"


@pytest.mark.parametrize("write", [jsonl, parquet, arrow, delimited])
@pytest.mark.parametrize("missing", [None, "", "  ", "<NA>", "NaN", "nan", "NaT", "None"])
def test_missing_texts(write: Callable[..., Path], missing: Any, tmp_path: Path) -> None:
    """A column of texts with what tools write for a missing one."""
    assert outcomes(read(write(["x", missing, "y"], tmp_path))) == ["str", "input", "str"]


@pytest.mark.parametrize(
    "missing",
    [None, math.nan, numpy.nan, numpy.float32("nan"), pandas.NA, pandas.NaT, numpy.datetime64("NaT"), "", [], ()],
)
def test_missing_values_of_rollouts(missing: Any) -> None:
    """The same for rollouts that a program makes."""
    assert outcomes([Rollout("p", "c", {"answer": missing}), Rollout("p", "c")]) == ["input", "input"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (numpy.int64(3), "int"),
        (numpy.float32(0.5), "float"),
        (numpy.str_("x"), "str"),
        (numpy.True_, "bool"),
        (numpy.array(3), "int"),
        (numpy.array(["3"]), "ndarray"),
        (decimal.Decimal("1.5"), "Decimal"),
        (False, "bool"),
        (0, "int"),
        (b"3", "bytes"),
        ([None], "ReadOnlyList"),
    ],
)
def test_other_types_reach_the_reward(answer: Any, kind: str) -> None:
    """Scalars of NumPy arrive as Python's own; other values arrive as what they are, and 0 and False are values."""
    assert outcomes([Rollout("p", "c", {"answer": answer})]) == [kind]


def test_missing_standard_columns(tmp_path: Path) -> None:
    """NaN and the texts for a missing value name no group, no length and no finish reason."""
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            f'{{"prompt": "p", "completion": "c", "group": {missing}, "num_tokens": {missing}, "finish_reason": {missing}}}\n'
            for missing in ("null", "NaN", '""', '"<NA>"', '"nan"')
        )
    )
    found = read(path)
    assert {(rollout.num_tokens, rollout.finish_reason) for rollout in found} == {(None, None)}
    assert len({rollout.group for rollout in found}) == 1  # that of the prompt
    assert found[0].group not in {"", "nan", "<NA>"}


def test_decimal_columns(tmp_path: Path) -> None:
    """Whole numbers that a data base exports as decimals are lengths and groups."""
    table = pa.table(
        {
            "prompt": ["p"],
            "completion": ["c"],
            "num_tokens": pa.array([decimal.Decimal("12.00")]),
            "group": pa.array([decimal.Decimal(3)]),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    (rollout,) = read(tmp_path / "rows.parquet")
    assert (rollout.num_tokens, rollout.group) == (12, 3)


def test_an_empty_text_may_be_a_value() -> None:
    """A reward may say that a column's text may be empty, such as a program's input; null is missing all the same."""
    registry = Registry()
    registry.register(takes_empty)
    config = parse_config("version: 1\ncomponents: {a: {use: takes_empty}}\n", registry)
    given = [Rollout("p", "c", {"answer": value}) for value in ("", None)]
    with CompositeReward(config, registry=registry) as engine:
        assert [item.reward for item in engine.score(given)] == [1.0, None]
    assert [config.row_problems(rollout) for rollout in given] == [
        [],
        [("a", "the row has no value in column 'answer'")],
    ]


def test_a_column_may_have_no_value_in_some_rows() -> None:
    """A reward may say that a column is for some rows only, such as the function that the tests of some rows call."""
    registry = Registry()
    registry.register(takes_none)
    config = parse_config("version: 1\ncomponents: {a: {use: takes_none}}\n", registry)
    given = [Rollout("p", "c", {"answer": value}) for value in ("", None, "x")]
    with CompositeReward(config, registry=registry) as engine:
        assert [item.reward for item in engine.score(given)] == [1.0, 1.0, 1.0]
    assert [config.row_problems(rollout) for rollout in given] == [[], [], []]


@pytest.mark.parametrize(
    ("column", "without"),
    [("prompt", 1.0), ("completion", 1.0), ("num_tokens", None), ("group", None), ("finish_reason", None)],
)
def test_a_reward_may_need_a_standard_column(column: str, without: float | None) -> None:
    """What a rollout has of its own counts as a value, and an empty completion is one: the candidate's, to be judged."""
    registry = Registry()
    registry.register(reward("own", needs=[column])(lambda rollout: 1.0))
    config = parse_config("version: 1\ncomponents: {a: {use: own}}\n", registry)
    given = [Rollout("p", "c", num_tokens=3, group="g", finish_reason="stop"), Rollout("", "")]
    with CompositeReward(config, registry=registry) as engine:
        assert [item.reward for item in engine.score(given)] == [1.0, without]
