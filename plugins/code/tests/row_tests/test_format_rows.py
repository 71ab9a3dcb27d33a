"""Rows in the formats of public data sets, each with the score that its program deserves.

`data/formats.jsonl` has the rows; `want` is 1 for a right program, 0 for a wrong one, and null where the row's own tests can't be
used, so that nothing is scored.
"""

import asyncio
import json
from pathlib import Path

import pytest
from rewardkit_code import CodeTests

from rewardkit import Rollout, Unscored

pytestmark = pytest.mark.usefixtures("_needs_sandbox")
ROWS = [json.loads(line) for line in (Path(__file__).parent / "data/formats.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def results(_needs_sandbox_module):
    """The result of each row, by its id."""
    reward = CodeTests(slots=2)
    columns = [{key: row[key] for key in row.keys() - {"id", "prompt", "completion", "want"}} for row in ROWS]
    rollouts = [Rollout(row["prompt"], row["completion"], fields) for row, fields in zip(ROWS, columns, strict=True)]
    try:
        found = asyncio.run(reward(rollouts))
    finally:
        reward.close()
    return {row["id"]: result for row, result in zip(ROWS, found, strict=True)}


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_each_row_gets_its_score(results, row):
    """A right program gets 1, a wrong one 0, and unusable tests give no score."""
    result = results[row["id"]]
    assert (None if isinstance(result, Unscored) else result.value) == row["want"], result
