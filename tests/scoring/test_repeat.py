"""Rows are scored several times, and those whose scores differ are told."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rewardkit import Registry, Rollout, Score, Unscored, reward
from rewardkit.composite import CompositeReward
from rewardkit.config.reading import parse_config
from rewardkit.errors import OutputError, UsageError
from rewardkit.scoring.engines.local import RewardSpec
from rewardkit.scoring.repeat import REASONS, Stability, difference, repeat_files
from rewardkit.scoring.run import ScoreOptions

TEXT = """
version: 1
components:
  flaky: {use: repeat.flaky}
  after: {use: repeat.steady, when: flaky == 1}
unscored: {abort_above: 1.0}
"""
CALLS: Counter[str] = Counter()
"""How often each completion was scored."""


@reward("repeat.flaky", deterministic=True, content=lambda _params, _rollout: "all are equal")
def flaky(rollout: Rollout) -> Score | Unscored:
    """Does what the completion says, by the number of times that it was scored."""
    text = rollout.completion_text
    CALLS[text] += 1
    is_first = CALLS[text] == 1
    match text.split()[0]:
        case "value":
            return Score(1.0 if is_first else 0.25)
        case "scored":
            return Score(1.0) if is_first else Unscored("infra", "away")
        case "kind":
            return Unscored("infra" if is_first else "timeout", "away")
    return Score(1.0)


@reward("repeat.steady")
def steady(_rollout: Rollout) -> float:
    """Always the same."""
    return 1.0


class Run:
    """Repeats a run, with the reward above."""

    def __init__(self, folder: Path, files: ModuleType, words: list[str]) -> None:
        self.source = files.write_rows(
            folder / "rows.jsonl", [{"prompt": f"p{i}", "completion": f"{word} {i}"} for i, word in enumerate(words)]
        )
        self.out = folder / "out.jsonl"
        self.registry = Registry()
        self.registry.register(flaky)
        self.registry.register(steady)
        self.config = parse_config(TEXT, self.registry, "repeat.yaml")

    @contextlib.contextmanager
    def make_reward(self) -> Iterator[CompositeReward]:
        """Make the reward anew, as the command does."""
        with CompositeReward(self.config, registry=self.registry, share_equal=False) as made:
            yield made

    def __call__(self, scorings: int, told: Any = lambda _number: None, **options: Any) -> Stability:
        """Score so many times, and return what was found."""
        spec = RewardSpec(TEXT, "repeat.yaml", self.config.reward_id, 0)
        asked = ScoreOptions([str(self.source)], self.out, **options)
        return repeat_files(asked, scorings, self.make_reward, spec=spec, told=told)[1]


@pytest.fixture
def run(tmp_path: Path, files: ModuleType) -> Run:
    """A run over rows of each kind; nothing was scored before."""
    CALLS.clear()
    return Run(tmp_path, files, ["same", "value", "scored", "kind", "same", "value"])


def test_unstable_rows_are_told_by_component_and_reason(run: Run) -> None:
    """Each kind of difference is counted for its component, with its rows, and the total follows."""
    data = run(3).data()
    assert data["components"]["flaky"] == {
        "unstable": 4, "values_differ": 2, "scored_and_unscored": 1, "kinds_differ": 1, "applied_differs": 0, "largest_spread": 0.75,
    }  # fmt: skip
    assert data["components"]["after"]["applied_differs"] == 2
    assert (data["scorings"], data["rows"], data["unstable_rows"]) == (3, 6, 4)
    assert [(each["row"], each["why"]) for each in data["examples"] if each["component"] == "flaky"] == [
        (2, "values_differ"), (3, "scored_and_unscored"), (4, "kinds_differ"), (6, "values_differ"),
    ]  # fmt: skip


def test_each_row_is_scored_each_time(run: Run) -> None:
    """Rows that the reward calls equal are not scored once for all, and no scoring uses the results of another."""
    run(4)
    assert set(CALLS.values()) == {4}
    assert len(CALLS) == 6


def test_the_output_is_the_first_scoring(run: Run, files: ModuleType) -> None:
    """What is written is what one run would have written, and nothing is left beside it but what was found."""
    run(2)
    assert [row["components"]["flaky"]["status"] for row in files.read_rows(run.out)] == [
        "scored", "scored", "scored", "unscored", "scored", "scored",
    ]  # fmt: skip
    assert sorted(path.name for path in run.out.parent.glob("out*")) == [
        "out.jsonl", "out.jsonl.manifest.json", "out.jsonl.repeat.json",
    ]  # fmt: skip


def test_an_interrupted_command_goes_on(run: Run) -> None:
    """After an interruption in the third scoring only that one and the later ones are run; in the end all is as without it."""

    def stop(number: int) -> None:
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(4, told=stop)
    found = run(4)
    assert set(CALLS.values()) == {4}
    assert found.scorings == 4
    assert found.unstable_rows == 4


def test_more_scorings_are_added_to_a_finished_run(run: Run) -> None:
    """A finished run reports without scoring; with a larger number it goes on from where it was."""
    first = run(2)
    assert run(2).data() == first.data()
    assert set(CALLS.values()) == {2}
    assert run(3).scorings == 3
    assert set(CALLS.values()) == {3}


def test_what_was_found_belongs_to_its_rows(run: Run) -> None:
    """An output that was written anew makes the scorings begin again."""
    run(2)
    manifest = run.out.with_name("out.jsonl.manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"rows_retried": 2}))
    run(2)
    assert set(CALLS.values()) == {3}


def test_fresh_begins_again(run: Run) -> None:
    """--fresh discards the output and what was found."""
    run(2)
    run(2, fresh=True)
    assert set(CALLS.values()) == {4}


def test_a_damaged_file_is_named(run: Run) -> None:
    """What was found before and can't be read is an error with the file's name."""
    run(2)
    state = run.out.with_name("out.jsonl.repeat.json")
    for text in ("{", "[]", '{"report": {}}', "{}"):
        state.write_text(text)
        with pytest.raises(OutputError, match=r"repeat\.json is damaged"):
            run(2)


def test_input_that_can_be_read_once_is_refused(run: Run) -> None:
    """Standard input can't be scored twice."""
    with pytest.raises(UsageError, match="name a file"):
        repeat_files(ScoreOptions(["-"], run.out), 2, run.make_reward, spec=RewardSpec(TEXT, "", "", 0))


@pytest.mark.parametrize(
    ("first", "other", "expected"),
    [
        ({"status": "scored", "value": 1.0}, {"status": "scored", "value": 1.0}, None),
        ({"status": "skipped"}, {"status": "skipped"}, None),
        ({"status": "unscored", "kind": "infra"}, {"status": "unscored", "kind": "infra"}, None),
        ({"status": "not_applicable"}, {"status": "scored", "value": 1.0}, "applied_differs"),
        ({"status": "skipped"}, {"status": "unscored", "kind": "infra"}, "applied_differs"),
    ],
)
def test_difference(first: dict[str, Any], other: dict[str, Any], expected: str | None) -> None:
    """Equal results are no difference, and a component that was applied once only is one."""
    assert difference(first, other) == expected == difference(other, first)
    assert expected in (None, *REASONS)
