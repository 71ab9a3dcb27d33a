"""What plugins may use: rows with their places, jobs that resume, components of a reward file, calls within limits."""

import asyncio
import json

import pytest

from rewardkit import CallLimits
from rewardkit.errors import ConfigError, DataError, UsageError
from rewardkit.services import limits
from rewardkit.toolkit import (
    GaveUpError,
    RowError,
    TryAgainError,
    call_service,
    configured_rewards,
    map_row,
    read_rows,
    read_yaml,
    run_transform,
)


class Upper:
    """Writes the prompt in capitals."""

    name, by_group, needs = "upper", False, ("prompt",)

    def __init__(self):
        self.calls = 0

    async def __call__(self, rows):
        """Make one row."""
        self.calls += 1
        return [{"prompt": rows[0]["prompt"].upper()}]

    def costs(self):
        """Return nothing."""
        return {}

    async def close(self):
        """Do nothing."""


@pytest.fixture
def file(tmp_path):
    """Write two rows."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "response": ["x", "y"]}\n{"prompt": "b", "response": ["z"]}\n')
    return str(path)


def test_rows_have_places_and_names(file):
    """Columns are renamed; with ``split`` each completion is a row."""
    places = [f"{file}:1", f"{file}:2"]
    assert list(read_rows([file])) == [
        (places[0], {"prompt": "a", "response": ["x", "y"]}),
        (places[1], {"prompt": "b", "response": ["z"]}),
    ]
    found = list(read_rows([file], maps=["completion=response"], split=True))
    assert [(place, row["completion"]) for place, row in found] == [
        (places[0], "x"),
        (places[0], "y"),
        (places[1], "z"),
    ]


def test_a_wrong_row_is_named(tmp_path):
    """The message has the file and the line."""
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    with pytest.raises(DataError, match=r"bad\.jsonl:2: "):
        list(read_rows([str(tmp_path / "bad.jsonl")]))


def test_a_row_of_a_program_is_mapped():
    """As those of files are."""
    assert map_row({"prompt": "a", "text": "x"}, maps=["completion=text"]) == [{"prompt": "a", "completion": "x"}]
    with pytest.raises(RowError):
        map_row({"prompt": "a"}, maps=["completion=text"])


def test_a_job_is_done_once(file, tmp_path):
    """The same call finds it done; another identity is refused; a wrong --retry is refused before anything is read."""
    upper = Upper()
    job = {"out": tmp_path / "out.jsonl", "identity": {"mode": 1}}
    assert run_transform([file], upper, **job).manifest["rows_written"] == 2
    assert [json.loads(line)["prompt"] for line in job["out"].read_text().splitlines()] == ["A", "B"]
    assert run_transform([file], upper, **job).already_complete
    with pytest.raises(UsageError, match="mode was 1 and is 2"):
        run_transform([file], upper, **{**job, "identity": {"mode": 2}})
    with pytest.raises(UsageError, match="leave out --fresh"):
        run_transform([file], upper, **job, retry="unscored", fresh=True)
    assert upper.calls == 2


def test_work_that_can_not_be_done_does_not_start(file, tmp_path):
    """What the preflight says is the message, and nothing is written."""
    with pytest.raises(UsageError, match="it is down"):
        run_transform([file], Upper(), out=tmp_path / "out.jsonl", identity={}, preflight=lambda: "it is down")
    assert not list(tmp_path.glob("out*"))


def test_components_of_a_reward_file(tmp_path):
    """Name, reward, settings with defaults, and the built reward; a wrong parameter is told with its place."""
    path = tmp_path / "reward.yaml"
    path.write_text(
        "version: 1\ncomponents:\n  box: {use: format.boxed}\n  tags: {use: format.tags, with: {tags: [a]}}\n"
    )
    box, tags = configured_rewards(path)
    assert (box.name, box.use, tags.settings["tags"]) == ("box", "format.boxed", ["a"])
    assert callable(box.build())
    path.write_text("version: 1\ncomponents:\n  tags: {use: format.tags, with: {tags: ['a b']}}\n")
    [tags] = configured_rewards(path)
    with pytest.raises(ConfigError, match=r"reward\.yaml:3:15: format\.tags: "):
        tags.build()


def test_yaml_is_plain_data(tmp_path):
    """A mistake is told with file, line and column."""
    (tmp_path / "a.yaml").write_text("a: [1, x]\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": [1, "x"]}
    (tmp_path / "a.yaml").write_text("a: 1\na: 2\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:2:1"):
        read_yaml(tmp_path / "a.yaml")


def test_calls_are_tried_again():
    """As often as the limits say; then the caller is told."""
    limits._endpoints.clear()
    tried = []

    async def attempt():
        tried.append(1)
        if len(tried) < 3:
            raise TryAgainError("busy")
        return "done"

    given = CallLimits(endpoint="http://x", tries=3, pause=0.001)
    assert asyncio.run(call_service(given, attempt)) == "done"
    tried.clear()
    with pytest.raises(GaveUpError, match="busy, after 2 attempts"):
        asyncio.run(call_service(CallLimits(endpoint="http://x", tries=2, pause=0.001), attempt))
    limits._endpoints.clear()
