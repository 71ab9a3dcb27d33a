"""The console fits a terminal of 80 columns, shows where the time goes, and is plain lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rewardkit.train.monitoring import console as module
from rewardkit.train.monitoring.console import RunConsole, duration, shown, sparkline, speed

FIGURES = {
    "lr": 1e-5,
    "reward": 0.5,
    "component/format": 1.0,
    "component/format/std": 0.1,
    "kl": 0.01,
    "tokens_per_s": 1234.0,
    "seconds": 4.0,
    "seconds_rollout": 3.0,
    "seconds_sync": 0.001,
    "seconds_update": 1.0,
}


def terminal(height=24):
    """Return a console of 80 columns."""
    return Console(file=io.StringIO(), width=80, height=height, force_terminal=True)


@pytest.mark.parametrize("height", [10, 24, 50])
def test_the_panel_fits_the_terminal(height):
    """Eighty metrics and five long messages fit, with the most important metrics at the top."""
    console = terminal(height)
    view = RunConsole("grpo → out", 100, console)
    view.show(0, {"accuracy": 0.25, "length": 9.0}, "eval")
    for step in range(1, 41):
        view.show(step, {**FIGURES, **{f"figure_{index}": step / 7 for index in range(70)}}, "train")
    for index in range(5):
        view.message(f"step {index}: " + "a figure is out of its bound " * 3)
    console = terminal(height)
    found = console.render_lines(view.render(), console.options, pad=False)
    text = ["".join(segment.text for segment in line) for line in found]
    assert all(len(line) <= 80 for line in text)
    assert len(text) <= max(height, 20)
    names = [line.split()[1] for line in text if line.startswith("│ ")]
    assert names.index("reward") < names.index("kl")
    assert "1,234 tokens/s  4 s/step (rollout 75%, update 25%)" in "\n".join(text)
    assert "40/100" in "\n".join(text)


def test_without_a_terminal_there_are_plain_lines(monkeypatch):
    """A line has the important metrics, speed, the division of the time and the remaining time; an alarm has its own line."""
    monkeypatch.setattr(module, "BETWEEN_LINES", 0.0)
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    with RunConsole("grpo → out", 100, console) as view:
        view.show(0, {"accuracy": 0.25, "odd[/red]": 1.0}, "eval")
        view.show(1, FIGURES, "train")
        view.message("step 1: [bold]alarm[/bold]")
    out = console.file.getvalue().splitlines()
    assert out[0] == "eval step 0/100  accuracy 0.25  odd[/red] 1"
    assert out[1].startswith(
        "train step 1/100  reward 0.5  kl 0.01  1,234 tokens/s  4 s/step (rollout 75%, update 25%)"
    )
    assert out[2] == "step 1: [bold]alarm[/bold]"
    assert "\x1b" not in console.file.getvalue()


def test_a_running_evaluation_is_shown():
    """A running evaluation is shown beside the speed until its metrics are there."""
    console = terminal()
    view = RunConsole("grpo → out", 100, console)
    view.activity = "evaluating 500 held-out prompts"

    def shown_now():
        found = console.render_lines(view.render(), console.options, pad=False)
        return "".join(segment.text for line in found for segment in line)

    assert "evaluating 500 held-out prompts" in shown_now()
    view.show(0, {"accuracy": 0.25}, "eval")
    assert "evaluating" not in shown_now()


def test_fast_steps_have_few_lines():
    """Only the first and the last of a hundred fast steps have a line; every evaluation has one."""
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    view = RunConsole("sft → out", 100, console)
    for step in range(1, 101):
        view.show(step, {"loss": 1 / step}, "train")
        if step % 50 == 0:
            view.show(step, {"loss": 1 / step}, "eval")
    kinds = [line.split("  ")[0] for line in console.file.getvalue().splitlines()]
    assert kinds == ["train step 1/100", "eval step 50/100", "train step 100/100", "eval step 100/100"]


def test_durations_metrics_and_sparklines_are_short():
    """Durations, metrics and sparklines are short."""
    assert [duration(value) for value in (3.2, 61, 3725)] == ["3 s", "1:01", "1:02:05"]
    assert [shown(value) for value in (3.0, 0.123456, 123456.7, float("nan"))] == ["3", "0.1235", "123,457", "nan"]
    assert sparkline([1.0]) == ""
    assert sparkline([0.0, 1.0]) == "▁█"
    assert sparkline([1.0, 1.0 + 1e-7, 1.0]) == "▁▁▁", "rounding is no course"
    assert len(sparkline(list(range(1000)))) == module.SPARKLINE_WIDTH
    assert speed({"seconds": 0.0}) == ""
