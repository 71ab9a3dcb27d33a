"""Options of commands: numbers that are finite, and pages that replace no input."""

import json

import click
import pytest

from rewardkit import cli
from rewardkit.errors import UsageError
from rewardkit.toolkit import FiniteRange, check_page


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_numbers_are_finite(value):
    """NaN is below and above no bound, so ``click.FloatRange`` lets it pass."""
    with pytest.raises(click.BadParameter, match="is not a finite number"):
        FiniteRange().convert(value, None, None)


PLUGINS = ("judge", "math")


def _options(command, name):
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in [*command.list_commands(context), *(PLUGINS if command is cli.cli else ())]:
            yield from _options(command.get_command(context, each), f"{name} {each}")
    else:
        yield from ((name, option) for option in command.params)


def test_no_option_takes_nan():
    """A limit of NaN would be a check that never fails."""
    loose = [
        f"{name} --{option.name}"
        for name, option in _options(cli.cli, "rewardkit")
        if isinstance(option.type, click.types.FloatParamType) and not isinstance(option.type, FiniteRange)
    ]
    assert loose == []


def test_a_page_must_not_replace_an_input(tmp_path):
    """Also where the input is a glob, or has another path."""
    data = tmp_path / "rows.jsonl"
    data.touch()
    for name in (data, str(tmp_path / "*.jsonl"), tmp_path / "." / "rows.jsonl"):
        with pytest.raises(UsageError, match="is also an input"):
            check_page("--out", data, [name])
    check_page("--out", tmp_path / "new.html", [data])
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize("command", ["report", "diff", "audit"])
def test_a_page_that_can_not_be_written_is_found_first(tmp_path, capfd, command):
    """The folder is missing: nothing is read or scored."""
    reward, rows = tmp_path / "a.yaml", tmp_path / "rows.jsonl"
    reward.write_text("version: 1\ncomponents:\n  right: {use: math, with: {reference: answer}}\n")
    rows.write_text(json.dumps({"prompt": "q", "completion": "4", "answer": "4"}) + "\n")
    arguments = {
        "report": [str(rows)],
        "diff": [str(reward), str(reward), str(rows)],
        "audit": [str(reward), "--data", str(rows)],
    }[command]
    page = tmp_path / "none" / "page.html"
    assert cli.run([command, *arguments, "--out", str(page)]) == 2
    told = capfd.readouterr().err
    assert f"--out {page}: the folder {page.parent} does not exist" in told
    assert "scoring" not in told


@pytest.mark.parametrize("command", ["report", "diff"])
def test_a_scored_file_is_not_replaced_by_its_page(tmp_path, capsys, command):
    """The scored file is kept."""
    scored = tmp_path / "scored.jsonl"
    scored.write_text(json.dumps({"prompt": "q", "completion": "4", "reward": 1.0}) + "\n")
    before = scored.read_bytes()
    files = [str(scored)] * (2 if command == "diff" else 1)
    assert cli.run([command, *files, "--out", str(scored)]) == 2
    assert "is also an input" in capsys.readouterr().err
    assert scored.read_bytes() == before
