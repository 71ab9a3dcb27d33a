"""The report of a run shows what happened in one file, and escapes every text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from rewardkit.errors import DataError, OutputError
from rewardkit.train.evaluation.preference_accuracy import PairScores, preference_report
from rewardkit.train.reports.run_report import write_report


class Reader(HTMLParser):
    """Collects tags, text, the titles of charts, and every attribute that could load something."""

    def __init__(self, source):
        super().__init__()
        self.tags = []
        self.text = ""
        self.links = []
        self.charts = []
        self.strong_marks = 0
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        """Collect a tag and its links."""
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href", "srcset", "action"}]
        self.charts += [value for name, value in attrs if name == "aria-label"]
        self.strong_marks += ("stroke-width", "2") in attrs

    def handle_data(self, data):
        """Collect text."""
        self.text += data


def write(folder, name, records):
    """Write records as JSON Lines."""
    (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def make_run(tmp_path):
    """Return a function that writes a run's folder."""

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
    """Return the parsed report of some runs."""
    return Reader(write_report(list(folders), folders[0].parent / "report.html").read_text())


def train(steps, **metrics):
    """Return lines of training metrics that grow with the step."""
    return [{"step": step, "kind": "train", **{key: value * step for key, value in metrics.items()}} for step in steps]


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg/onload=alert(1)>"


def test_it_shows_curves_alarms_and_rollouts(make_run):
    """Each metric has a chart, an alarm is text and a mark on the charts, and a rollout has its reasons."""
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
    assert report.strong_marks == 1, "on the chart of the metric that raised it"
    assert "service down" in report.text
    assert "held-out accuracy 0.75 → 0.75" in report.text


@pytest.mark.parametrize("field", ["prompt", "completion", "reason", "component", "message", "run", "chat"])
def test_hostile_text_is_only_text(make_run, field):
    """Text of a model, a reward or a name becomes no script, no image and no request, wherever it stands."""
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


def test_the_page_forbids_scripts_and_requests(make_run):
    """The content security policy forbids them, and the style refers to nothing."""
    source = write_report([make_run()], make_run("other") / "report.html").read_text()
    assert "default-src 'none'" in source
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", source)


def test_several_runs_share_charts(make_run):
    """Every chart has a curve of each run, and the report lists the differences between their configurations."""
    report = read(
        make_run("one", 0.1, train((1, 2, 3), reward=0.1)), make_run("two", 0.2, train((1, 2, 3), reward=0.2))
    )
    assert report.charts == ["reward"]
    assert report.tags.count("polyline") == 2
    assert "optimizer.lr" in report.text
    assert "stage" not in report.text.split("Differences in configuration")[1]


def test_runs_in_folders_of_one_name_are_told_apart(make_run):
    """Runs in folders of the same name are numbered."""
    assert "same (2)" in read(make_run("a/same"), make_run("b/same")).text


def test_gold_is_drawn_over_kl(make_run):
    """Trained and held-out reward are drawn over the KL divergence."""
    metrics = [
        *train(range(1, 9), kl=0.1, reward=0.1),
        *({"step": step, "kind": "eval", "gold": 1.0, "reward": 0.5} for step in (0, 4, 8)),
    ]
    assert "Held-out rewards over KL" in read(make_run(metrics=metrics)).text


def test_a_reward_model_shows_its_calibration(make_run):
    """The table has what length alone would reach, and names the intervals' method."""
    folder = make_run(metrics=train((1, 2), loss=1.0))
    pairs = [PairScores(2.0, 0.0, 10, 20), PairScores(1.0, 0.5, 30, 20), PairScores(-1.0, 1.0, 5, 9)]
    (folder / "evaluation.json").write_text(json.dumps(preference_report(pairs).as_json()))
    report = read(folder)
    assert "always the longer answer" in report.text
    assert "3 held-out pairs, accuracy 0.667" in report.text


def test_the_time_of_a_step_is_divided(make_run):
    """The legend has each part's share of the time."""
    metrics = train((1, 2), seconds=4.0, seconds_rollout=3.0, seconds_update=1.0)
    report = read(make_run(metrics=metrics))
    assert "rollout 75%" in report.text
    assert "update 25%" in report.text


def test_a_run_without_metrics_has_a_report(make_run):
    """The report of a run before its first step says that there are no metrics."""
    assert "no metrics yet" in read(make_run()).text


def test_a_running_run_has_a_report(make_run):
    """A last line that is only half written is left out."""
    folder = make_run(metrics=train((1, 2), loss=1.0))
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "kind": "tr')
    assert "loss 1 → 2" in read(folder).text


def test_long_runs_make_small_reports(make_run):
    """The report of 10,000 steps is below 100 kB, and the peak is still drawn."""
    metrics = [{"step": step, "kind": "train", "loss": 9.0 if step == 4321 else 1.0} for step in range(1, 10_001)]
    path = write_report([make_run(metrics=metrics)], make_run("other") / "report.html")
    assert path.stat().st_size < 100_000
    lowest = min(float(y) for y in re.findall(r"[\d.]+,([\d.]+)", path.read_text()))
    assert lowest < 45, "the peak is at the top of the chart"


def test_mistakes_are_errors(make_run, tmp_path):
    """A folder without a run, a damaged file, a former name of a metric and an unwritable path are named."""
    with pytest.raises(DataError, match="is not the folder of a training run"):
        write_report([tmp_path], tmp_path / "report.html")
    folder = make_run()
    (folder / "metrics.jsonl").write_text("not JSON\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl:1: can't be read"):
        write_report([folder], tmp_path / "report.html")
    for old, new in (("mismatch", "sampling_logp_difference"), ("component/a/zero_spread", "frac_reward_zero_std")):
        write(folder, "metrics.jsonl", [{"step": 1, "kind": "train", old: 0.5}])
        with pytest.raises(DataError, match=rf"metrics\.jsonl:1: the metric '{old}' is now called '.*{new}'"):
            write_report([folder], tmp_path / "report.html")
    with pytest.raises(OutputError, match="can't be written"):
        write_report([make_run("good")], tmp_path / "nowhere/report.html")


def test_the_key_names_held_out_data_only_where_there_are_any(make_run):
    """A run without an evaluation has no such entry in its legend."""
    assert "held-out data" not in read(make_run("one", metrics=train((1, 2), loss=0.1))).text
    evaluated = [*train((1, 2), loss=0.1), {"step": 2, "kind": "eval", "loss": 0.1}]
    assert "held-out data" in read(make_run("two", metrics=evaluated)).text


def test_metrics_are_described(make_run):
    """Each metric is described once, with its unit; components share their rows, and unknown metrics have none."""
    names = {"entropy": 1.0, "component/a": 1.0, "component/b": 1.0, "component/a/unscored_infra": 1.0, "odd": 1.0}
    words = read(make_run(metrics=train((1, 2), **names))).text.split("metricdescriptionunit")[1]
    assert words.count("nats/token") == 1
    assert words.count("mean value of the component") == 1
    assert "could not score" in words
    assert "odd" not in words


def test_an_interrupted_run_says_so(make_run):
    """The table at the top tells a finished run from one that was interrupted, and from one that an alarm ended."""
    folder = make_run(metrics=train((1, 2), loss=1.0))
    record = {
        "config": {"stage": "sft", "model": {"path": "/models/org/base"}},
        "total_steps": 4,
        "started": "2026-01-02T03:04:05",
    }
    (folder / "config.json").write_text(json.dumps(record))
    text = read(folder).text
    assert "interrupted or still running: 2 of 4 steps" in text
    assert "org/base" in text
    assert "2026-01-02 03:04" in text
    (folder / "final").mkdir()
    (folder / "config.json").write_text(json.dumps({**record, "total_steps": 2}))
    assert "finished: 2 of 2 steps" in read(folder).text
    record["config"]["monitors"] = {"on_alarm": "stop"}
    (folder / "config.json").write_text(json.dumps(record))
    write(folder, "alarms.jsonl", [{"step": 2, "name": "kl", "message": "far"}])
    assert "ended by an alarm: 2 of 4 steps" in read(folder).text


def test_losses_of_different_stages_have_their_own_charts(make_run):
    """The loss of SFT and that of GRPO are not comparable; rewards of two GRPO runs are."""
    one, two = make_run("one", metrics=train((1, 2), loss=1.0)), make_run("two", metrics=train((1, 2), loss=1.0))
    (two / "config.json").write_text(json.dumps({"config": {"stage": "sft"}}))
    assert read(one, two).charts == ["loss (grpo)", "loss (sft)"]


def test_the_axis_of_steps_is_labelled_with_whole_numbers(make_run):
    """Two steps have no tick at 1.5."""
    folder = make_run(metrics=train((1, 2), loss=1.0))
    source = write_report([folder], folder / "report.html").read_text()
    labels = re.findall(r'text-anchor="middle"[^>]*>([^<]+)<', source)
    assert labels == ["1", "2", "step"]


def test_the_table_of_rollouts_fits_a_narrow_screen(make_run):
    """Below 640 pixels each cell is a block under the name of its column."""
    sample = {"step": 1, "prompt": "1+1", "completion": "2", "reward": 1.0, "components": {}}
    folder = make_run(samples=[sample])
    source = write_report([folder], folder / "report.html").read_text()
    assert "@media(max-width:640px)" in source
    for name in ("step", "prompt", "completion", "reward", "components"):
        assert f'data-label="{name}"' in source


def test_an_alarm_of_a_plugin_is_marked_on_its_metrics(make_run):
    """The alarm's record names the metrics, so that the report needs no plugin."""
    alarms = [{"step": 2, "name": "own", "message": "odd", "metrics": ["entropy"]}]
    report = read(make_run(metrics=train((1, 2), entropy=1.0, reward=0.5), alarms=alarms))
    assert report.strong_marks == 1


@pytest.mark.parametrize("stage", ["sft", "dpo", "reward_model", "grpo", "ppo"])
def test_every_metric_has_a_description(work, tmp_path, stage):
    """Every metric that a stage writes into metrics.jsonl is described."""
    from rewardkit import Rollout, reward
    from rewardkit.registry import Registry
    from rewardkit.train.config.reading import read_train_config
    from rewardkit.train.config.stages import STAGES
    from rewardkit.train.monitoring.metric_descriptions import describe
    from rewardkit.train.trainer.launch import launch

    @reward("digits")
    def digits(rollout: Rollout) -> float:
        """Count the digits."""
        return float(sum(map(str.isdigit, rollout.completion_text)))

    registry = Registry()
    registry.register(digits)
    data = {"sft": f"{{train: {work}/held.jsonl, eval: {work}/held.jsonl}}"}
    data |= dict.fromkeys(("dpo", "reward_model"), f"{{train: {work}/pairs.jsonl, eval_share: 0.01}}")
    data |= dict.fromkeys(("grpo", "ppo"), f"{{train: {work}/train.jsonl, eval: {work}/heldout.jsonl}}")
    (work / "held.jsonl").write_text("".join((work / "sft.jsonl").read_text().splitlines(keepends=True)[:8]))
    more = "batch_size: 4\n"
    if stage in {"grpo", "ppo"}:
        more = "reward: {components: {digits: {use: digits}}}\nkl: {coefficient: 0.1}\nmonitors: {frac_reward_zero_std: null}\n"
        more += "rollout: {prompts_per_step: 4, max_new_tokens: 6}\n"
        more += 'evaluate: {limit: 3, correct: "digits > 1", gold: {components: {digits: {use: digits}}}}\n'
    text = f"version: 1\nstage: {stage}\noutput: {tmp_path}/out\nmodel: {{path: {work}/base}}\ndata: {data[stage]}\nsteps: 2\n"
    (tmp_path / "run.yaml").write_text(text + more)
    launch(read_train_config(tmp_path / "run.yaml", registry), STAGES[stage].runner())
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    names = {name for line in lines for name in line} - {"step", "kind"}
    assert [name for name in sorted(names) if describe(name) is None] == []
