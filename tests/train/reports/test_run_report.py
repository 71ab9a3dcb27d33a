"""The report holds what happened, needs nothing else, and lets no completion become HTML."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from rewardkit.errors import DataError, OutputError
from rewardkit.train.evaluation.preference_accuracy import PairScores, preference_report
from rewardkit.train.reports.run_report import write_report


class Reader(HTMLParser):
    """Collects tags, text, titles of pictures, and whatever could fetch something."""

    def __init__(self, source):
        super().__init__()
        self.tags = []
        self.text = ""
        self.links = []
        self.charts = []
        self.strong_marks = 0
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        """A tag and its links."""
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href", "srcset", "action"}]
        self.charts += [value for name, value in attrs if name == "aria-label"]
        self.strong_marks += ("stroke-width", "2") in attrs

    def handle_data(self, data):
        """Text."""
        self.text += data


def write(folder, name, records):
    """A file of records."""
    (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def make_run(tmp_path):
    """Writes a run's folder."""

    def make(name="run", lr=0.1, metrics=(), alarms=(), samples=()):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"config": {"stage": "grpo", "optimizer": {"lr": lr}}}))
        write(folder, "metrics.jsonl", metrics)
        write(folder, "alarms.jsonl", alarms)
        write(folder, "samples.jsonl", samples)
        return folder

    return make


def read(*folders):
    """The report of some runs."""
    return Reader(write_report(list(folders), folders[0].parent / "report.html").read_text())


def train(steps, **figures):
    """Lines of training figures that grow with the step."""
    return [{"step": step, "kind": "train", **{key: value * step for key, value in figures.items()}} for step in steps]


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg/onload=alert(1)>"


def test_it_shows_curves_alarms_and_rollouts(make_run):
    """One chart per figure, an alarm as words and on the charts, each rollout with its reasons."""
    sample = {"step": 1, "prompt": "1+1", "completion": "3", "reward": None}
    folder = make_run(
        metrics=[
            *train((1, 2, 3), reward=0.1, kl_per_token=1.0),
            {"step": 3, "kind": "eval", "accuracy": 0.75, "loss": None},
        ],
        alarms=[{"step": 2, "name": "kl", "message": "far away"}],
        samples=[{**sample, "components": {"x": {"value": None, "reason": "service down"}}}],
    )
    report = read(folder)
    assert {"reward", "kl_per_token", "accuracy"} == set(report.charts)
    assert "step 2 far away" in report.text
    assert report.strong_marks == 1, "on the chart of the figure that raised it"
    assert "service down" in report.text
    assert "held-out accuracy 0.75 → 0.75" in report.text


@pytest.mark.parametrize("field", ["prompt", "completion", "reason", "component", "message", "run", "chat"])
def test_hostile_text_is_only_text(make_run, field):
    """Whatever a model, a reward or a name says, wherever it stands: no script, no picture, nothing to fetch."""
    words = {name: HOSTILE if name == field else "x" for name in ("prompt", "completion", "reason", "component")}
    prompt = [{"role": HOSTILE, "content": HOSTILE}] if field == "chat" else words["prompt"]
    metrics = train((1, 2), **{f"component/{words['component']}": 1.0})
    report = read(
        make_run(
            "<script>alert(1)<" + "\\script>" if field == "run" else "plain",
            metrics=metrics,
            alarms=[{"step": 1, "name": "kl", "message": HOSTILE if field == "message" else "x"}],
            samples=[
                {
                    "step": 1,
                    "prompt": prompt,
                    "completion": words["completion"],
                    "reward": 1.0,
                    "components": {words["component"]: {"value": 1.0, "reason": words["reason"]}},
                }
            ],
        )
    )
    assert not {"script", "img", "iframe", "link"} & set(report.tags)
    assert "alert(1)" in report.text
    assert report.links == []


def test_nothing_may_be_fetched_or_run(make_run):
    """The page forbids it, and its style refers to nothing."""
    source = write_report([make_run()], make_run("other") / "report.html").read_text()
    assert "default-src 'none'" in source
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", source)


def test_several_runs_share_charts(make_run):
    """A curve for each in every chart, and what differs between their configurations."""
    report = read(
        make_run("one", 0.1, train((1, 2, 3), reward=0.1)), make_run("two", 0.2, train((1, 2, 3), reward=0.2))
    )
    assert report.charts == ["reward"]
    assert report.tags.count("polyline") == 2
    assert "optimizer.lr" in report.text
    assert "stage" not in report.text.split("What differs")[1]


def test_runs_in_folders_of_one_name_are_told_apart(make_run):
    """By number."""
    assert "same (2)" in read(make_run("a/same"), make_run("b/same")).text


def test_gold_is_drawn_over_kl(make_run):
    """The picture that shows where a reward is exploited."""
    metrics = [
        *train(range(1, 9), kl=0.1, reward=0.1),
        *({"step": step, "kind": "eval", "gold": 1.0, "reward": 0.5} for step in (0, 4, 8)),
    ]
    assert "Rewards on held-out data over KL" in read(make_run(metrics=metrics)).text


def test_a_reward_model_shows_its_calibration(make_run):
    """Beside what length alone would achieve."""
    folder = make_run(metrics=train((1, 2), loss=1.0))
    pairs = [PairScores(2.0, 0.0, 10, 20), PairScores(1.0, 0.5, 30, 20), PairScores(-1.0, 1.0, 5, 9)]
    (folder / "evaluation.json").write_text(json.dumps(preference_report(pairs).as_json()))
    report = read(folder)
    assert "always the longer answer" in report.text
    assert "3 held-out pairs, accuracy 0.667" in report.text


def test_the_parts_of_a_step_stand_upon_each_other(make_run):
    """With their shares of the time."""
    metrics = train((1, 2), seconds=4.0, seconds_rollout=3.0, seconds_update=1.0)
    report = read(make_run(metrics=metrics))
    assert "rollout 75%" in report.text
    assert "update 25%" in report.text


def test_a_run_that_has_not_begun_has_a_report(make_run):
    """There is nothing to show, and that is said."""
    assert "no figures yet" in read(make_run()).text


def test_a_run_can_be_looked_at_while_it_goes_on(make_run):
    """A last line that is only half there is left out."""
    folder = make_run(metrics=train((1, 2), loss=1.0))
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "kind": "tr')
    assert "loss 1 → 2" in read(folder).text


def test_long_runs_make_small_reports(make_run):
    """Ten thousand steps stay under a hundred kilobytes, and their peaks stay."""
    metrics = [{"step": step, "kind": "train", "loss": 9.0 if step == 4321 else 1.0} for step in range(1, 10_001)]
    path = write_report([make_run(metrics=metrics)], make_run("other") / "report.html")
    assert path.stat().st_size < 100_000
    lowest = min(float(y) for y in re.findall(r"[\d.]+,([\d.]+)", path.read_text()))
    assert lowest < 45, "the peak is at the top of the picture"


def test_mistakes_are_told(make_run, tmp_path):
    """A folder of no run, a file that is broken, a place that can't be written to."""
    with pytest.raises(DataError, match="is no folder of a training run"):
        write_report([tmp_path], tmp_path / "report.html")
    folder = make_run()
    (folder / "metrics.jsonl").write_text("not JSON\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl can't be read"):
        write_report([folder], tmp_path / "report.html")
    with pytest.raises(OutputError, match="can't be written"):
        write_report([make_run("good")], tmp_path / "nowhere/report.html")


def test_the_key_names_held_out_data_only_where_there_are_any(make_run):
    """A run that was not evaluated has no such curve."""
    assert "held-out data" not in read(make_run("one", metrics=train((1, 2), loss=0.1))).text
    evaluated = [*train((1, 2), loss=0.1), {"step": 2, "kind": "eval", "loss": 0.1}]
    assert "held-out data" in read(make_run("two", metrics=evaluated)).text


def test_figures_are_explained(make_run):
    """Each once, with its unit; all components together, and nothing of what nobody knows."""
    names = {"entropy": 1.0, "component/a": 1.0, "component/b": 1.0, "component/a/unscored_infra": 1.0, "odd": 1.0}
    words = read(make_run(metrics=train((1, 2), **names))).text.split("What the figures mean")[1]
    assert words.count("nats/token") == 1
    assert words.count("mean of the component's value") == 1
    assert "could not score" in words
    assert "odd" not in words


@pytest.mark.parametrize("stage", ["sft", "dpo", "reward_model", "grpo", "ppo"])
def test_every_figure_of_a_run_has_a_meaning(work, tmp_path, stage):
    """Whatever a stage writes into metrics.jsonl."""
    from rewardkit import Rollout, reward
    from rewardkit.registry import Registry
    from rewardkit.train.config.reading import read_train_config
    from rewardkit.train.config.stages import STAGES
    from rewardkit.train.monitoring.metric_descriptions import describe
    from rewardkit.train.trainer.launch import launch

    @reward("digits")
    def digits(rollout: Rollout) -> float:
        """Digits."""
        return float(sum(map(str.isdigit, rollout.completion_text)))

    registry = Registry()
    registry.register(digits)
    data = {"sft": f"{{train: {work}/held.jsonl, eval: {work}/held.jsonl}}"}
    data |= dict.fromkeys(("dpo", "reward_model"), f"{{train: {work}/pairs.jsonl, eval_share: 0.01}}")
    data |= dict.fromkeys(("grpo", "ppo"), f"{{train: {work}/train.jsonl, eval: {work}/heldout.jsonl}}")
    (work / "held.jsonl").write_text("".join((work / "sft.jsonl").read_text().splitlines(keepends=True)[:8]))
    more = "batch_size: 4\n"
    if stage in {"grpo", "ppo"}:
        more = "reward: {components: {digits: {use: digits}}}\nkl: {coefficient: 0.1}\nmonitors: {zero_spread: null}\n"
        more += "rollout: {prompts_per_step: 4, max_new_tokens: 6}\n"
        more += 'evaluate: {limit: 3, correct: "digits > 1", gold: {components: {digits: {use: digits}}}}\n'
    text = f"version: 1\nstage: {stage}\noutput: {tmp_path}/out\nmodel: {{path: {work}/base}}\ndata: {data[stage]}\nsteps: 2\n"
    (tmp_path / "run.yaml").write_text(text + more)
    launch(read_train_config(tmp_path / "run.yaml", registry), STAGES[stage].runner())
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    names = {name for line in lines for name in line} - {"step", "kind"}
    assert [name for name in sorted(names) if describe(name) is None] == []
