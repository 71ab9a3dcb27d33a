"""The studies run from beginning to end at a reduced size, and show already there what does not need their full one."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rewardkit.registry import Registry
from rewardkit.train.trainer.reinforcement import Trainer

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'rewardkit[train]'")
pytest.importorskip("matplotlib", reason="plots need matplotlib: pip install 'rewardkit[plots]'")

pytestmark = pytest.mark.filterwarnings("ignore")  # a study is a program, whose libraries may warn

STUDIES = Path(__file__).parents[2] / "benchmarks/literature"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a study in this process, and return its results, after it has printed its table and drawn its plot."""
    missing = {
        "math",
        "format.boxed",
        "format.regex",
        "reward_model",
        "reward_model.steps",
    } - Registry.load().rewards.keys()
    if missing:
        pytest.skip(f"plugins are not installed: {', '.join(sorted(missing))}")
    monkeypatch.syspath_prepend(str(STUDIES))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def study(name):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--quick", "--out", str(tmp_path)])
        importlib.import_module(name).main()
        assert (tmp_path / "report.txt").read_text() in capsys.readouterr().out
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        return json.loads((tmp_path / "results.json").read_text())

    yield study
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_over_optimisation_is_farther_from_the_start_without_kl(run):
    """β = 0 goes where β = 10 does not, and both rewards and the distance are known at every step."""
    free, held, ensemble = run("over_optimisation")
    assert (free["beta"], held["beta"]) == (0.0, 10.0)
    assert ensemble["penalty"] == 1.0
    assert min(ensemble["disagreement"]) > 0
    assert sum(free["kl"][-5:]) > 10 * abs(sum(held["kl"][-5:]))
    assert len(free["proxy"]) == len(free["gold"]) == len(free["kl"])


@pytest.mark.slow
def test_imitating_one_phrasing_takes_probability_from_the_others(run):
    """Right answers that were not demonstrated become dearer by SFT on one phrasing, and not by the other ways."""
    losses = {item["arm"]: item["other_loss"] for item in run("sft_vs_rl")}
    assert losses["sft_one"] > losses["start"] + 1
    assert max(losses["sft_all"], losses["grpo"]) < losses["start"] + 0.5


@pytest.mark.slow
def test_every_weighting_is_trained_and_examined(run):
    """One accuracy for each arm."""
    found = run("token_weighted_sft")
    assert [item["arm"] for item in found] == ["plain", "decisive", "others"]
    assert all(0 <= item["accuracy"] <= 1 for item in found)


def test_decisive_tokens_are_results_carries_and_the_answer(monkeypatch):
    """In a worked sum the pattern finds these digits and no others."""
    monkeypatch.syspath_prepend(str(STUDIES))
    study = importlib.import_module("token_weighted_sft")
    worked = r"<think>7+8+0=15,5+6+1=12</think>\boxed{125}"
    assert [match[0] for match in re.finditer(study.DECISIVE, worked)] == ["0", "15", "1", "12", "125"]


@pytest.mark.slow
def test_the_log_ratio_is_what_grpo_learns_from(run):
    """Only the arms of GRPO have a log-ratio, and every arm is evaluated."""
    found = {item["arm"]: item for item in run("demonstrations")}
    assert list(found) == ["base", "sft", "more", "sequence", "mean"]
    assert [arm for arm, item in found.items() if item["log_ratio"]] == ["sequence", "mean"]
    assert all(0 <= item["greedy"] <= 1 for item in found.values())


@pytest.mark.slow
def test_steps_are_learned_from_by_their_scores(run):
    """All arms train from the same model, and the process reward model is evaluated."""
    found = run("process_rewards")
    assert [one["arm"] for one in found] == ["outcome", "mean", "process", "both"]
    assert len({one["right_steps"][0] for one in found}) == 1
    assert 0 <= found[0]["step_accuracy"] <= 1


def test_labels_of_workings(monkeypatch):
    """A step is right if its digits, carry and sum are. What follows a mistake is judged by the true carry."""
    monkeypatch.syspath_prepend(str(STUDIES))
    study = importlib.import_module("process_rewards")
    prompt, right = "38+24=?", ["8+4+0=12", "3+2+1=6;62"]
    assert study.columns(38, 24) == right
    assert study.labels(prompt, ",".join(right)) == [True, True]
    assert study.labels(prompt, "8+4+0=13,3+2+1=6;62") == [False, True]
    assert study.labels(prompt, "8+4+0=12,3+2+0=5;52") == [True, False]
    assert study.labels(prompt, ",".join([*right, right[0]])) == [True, True, False]


@pytest.mark.slow
def test_a_critic_of_its_own_doubles_what_is_trained(run, monkeypatch):
    """GRPO trains the policy, PPO a critic as well; a head is one layer only."""
    start_process = subprocess.run

    def start_the_first(command, **options):
        """Run one arm in a process of its own, as the study does, and the others here, where torch is imported already."""
        study, out, arm = importlib.import_module("grpo_vs_ppo"), command[3], command[5]
        if arm == "grpo":
            start_process(command, **options)
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "step", Trainer.step)  # which the study replaces
            study.run_one(Path(out), arm, 0, study.QUICK)

    monkeypatch.setattr(subprocess, "run", start_the_first)
    found = {item["arm"]: item for item in run("grpo_vs_ppo")}
    policy = found["grpo"]["trained"]
    assert found["ppo_own"]["trained"] > 1.9 * policy
    assert policy < found["ppo_head"]["trained"] < 1.01 * policy
    assert found["grpo"]["peak_mb"] > 0
    assert all(item["cpu_s"] > 0 for item in found.values())


@pytest.mark.slow
def test_a_noisy_verifier_accepts_and_rejects_at_its_rates(run):
    """Each arm ran, and all began with the same samples."""
    arms = run("noisy_verifier")
    assert [len(arm["sampled"]) for arm in arms] == [3] * 5
    assert len({arm["sampled"][0] for arm in arms}) == 1
    assert [arm["further"] > 0 for arm in arms] == [False] * 4 + [True]


@pytest.mark.slow
def test_the_bench_of_monitors_finds_a_reward_that_does_not_depend_on_the_prompt(run):
    """A reward for length raises the alarm, and a sound one does not."""
    length, _, sound = run("monitors")
    for every in ("5", "2"):
        assert "prompt_independence" in length["alarms"][every]
        assert "prompt_independence" not in sound["alarms"][every]


def test_alarms_depend_on_the_evaluations_of_the_cadence(monkeypatch):
    """A held-out reward that falls at the second step is seen at the second step or, with evaluations after every fifth, at the fifth."""
    monkeypatch.syspath_prepend(str(STUDIES))
    first_alarms = importlib.import_module("monitors").first_alarms
    evaluations = {step: (0.5, [float(step < 2)] * 20) for step in range(11)}
    steps = [{"reward": 0.5}] * 10
    assert first_alarms(steps, evaluations, 2) == {"gold_drop": 2}
    assert first_alarms(steps, evaluations, 5) == {"gold_drop": 5}


def test_a_run_is_hacked_where_gold_falls_while_the_reward_does_not(monkeypatch):
    """Gold that comes back, or falls together with the reward, is no hack."""
    monkeypatch.syspath_prepend(str(STUDIES))
    hacked_at = importlib.import_module("monitors").hacked_at
    rising, flat, falling = [0.01 * step for step in range(30)], [0.0] * 30, [-0.01 * step for step in range(30)]
    assert hacked_at(rising, flat) is None
    # The mean of nine steps is 0.05 below the start at step 9: (1 + … + 9) / 9 = 5.
    assert hacked_at(rising, falling) == 10
    assert hacked_at(falling, falling) is None
    assert hacked_at(rising, [-0.2] * 10 + [0.0] * 20) is None
