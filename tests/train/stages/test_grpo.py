"""GRPO trains a tiny random model, and reports rollouts that it can't train on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rewardkit import Rollout, Score, Unscored, reward
from rewardkit.errors import DataError, RewardkitError, TooManyUnscoredError, UsageError
from rewardkit.registry import Registry
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.stages.grpo import train_grpo
from rewardkit.train.trainer.checksums import write_checksums
from rewardkit.train.trainer.launch import launch

CONFIG = """
version: 1
stage: grpo
output: {output}
model: {{path: {work}/base}}
data: {{train: {work}/train.jsonl, eval: {work}/heldout.jsonl}}
reward: {{components: {{main: {{use: {use}}}}}, unscored: {{abort_above: {abort}}}}}
steps: {steps}
rollout: {{prompts_per_step: 4, group_size: 4, max_new_tokens: 8, batch: 8}}
optimizer: {{lr: 3.0e-3}}
evaluate: {{every: 0, limit: 16, correct: "{correct}"}}
checkpoint: {{every: 0}}
"""
CALLS = []


@reward("digits")
def digits(rollout: Rollout) -> float:
    """Reward the share of digits."""
    text = rollout.completion_text
    return sum(map(str.isdigit, text)) / max(len(text), 1)


@reward("constant")
def constant(rollout: Rollout) -> float:
    """Reward every completion equally."""
    return 0.25


@reward("nan")
def nan(rollout: Rollout) -> float:
    """Return NaN."""
    return float("nan")


@reward("flaky")
def flaky(rollout: Rollout) -> Score | Unscored:
    """Can't score completions that start with a digit."""
    text = rollout.completion_text
    CALLS.append(rollout)
    return Unscored("infra", "the service is down") if text[:1].isdigit() else Score(float(len(set(text))))


def stepwise_of(text: str) -> Score:
    """Rewards each step, separated by the character 1, with its share of digits."""
    from rewardkit.language_models import steps_of_tokens

    steps = steps_of_tokens(list(text), "1") or [0]
    parts = ["".join(c for c, own in zip(text, steps, strict=False) if own == step) for step in range(max(steps) + 1)]
    shares = [sum(map(str.isdigit, part)) / max(len(part), 1) for part in parts]
    return Score(sum(shares) / len(shares), steps=shares)


@reward("stepwise")
def stepwise(rollout: Rollout) -> Score:
    """Return the step rewards."""
    return stepwise_of(rollout.completion_text)


@reward("moody")
def moody(rollout: Rollout) -> Score | Unscored:
    """Rewards steps only of completions that don't start with a digit."""
    text = rollout.completion_text
    return Unscored("infra", "the service is down") if text[:1].isdigit() else stepwise_of(text)


@reward("late")
def late(rollout: Rollout, *, calls: int = 0) -> Score | Unscored:
    """Gives negative rewards, and no score for some calls."""
    CALLS.append(rollout)
    share = sum(map(str.isdigit, rollout.completion_text)) / max(len(rollout.completion_text), 1)
    return Unscored("infra", "the service is starting") if len(CALLS) <= calls else Score(share - 2)


@reward("picky")
def picky(rollout: Rollout, *, column: str = "missing") -> float:
    """Needs a field."""
    return float(column in rollout.fields)


@pytest.fixture
def registry():
    """Return a registry with the rewards above."""
    found = Registry()
    for item in (digits, constant, nan, flaky, picky, stepwise, moody, late):
        found.register(item)
    return found


def run(work, folder, registry, use="digits", steps=2, abort=0.5, correct="main > 0.5", extra="", **overrides):
    """Train, and return the metrics by kind."""
    config = folder / "config.yaml"
    output = Path(overrides.get("output", folder / "out"))
    text = CONFIG.format(output=output, work=work, use=use, steps=steps, abort=abort, correct=correct)
    config.write_text(text + extra)
    launch(read_train_config(config, registry, overrides), train_grpo)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {kind: [line for line in lines if line["kind"] == kind] for kind in ("train", "eval")}


def test_it_learns_what_is_rewarded(work, tmp_path, registry):
    """The share of digits rises well above that of the random model, greedy and sampled."""
    metrics = run(work, tmp_path, registry, steps=25, **{"rollout.prompts_per_step": "8"})
    assert metrics["train"][-1]["reward"] > metrics["train"][0]["reward"] + 0.2
    assert metrics["eval"][-1]["reward"] > metrics["eval"][0]["reward"]
    assert len(metrics["train"]) == 25
    assert metrics["train"][0]["component/main"] == pytest.approx(metrics["train"][0]["reward"])
    assert metrics["train"][0]["component/main/advantage_share"] == pytest.approx(1)
    assert metrics["train"][0]["sampling_logp_difference"] < 1e-5
    assert (tmp_path / "out/final/model.safetensors").is_file()
    samples = [json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text().splitlines()]
    assert {"step", "prompt", "completion", "reward", "components"} <= samples[0].keys()


def test_unscored_rollouts_leave_their_group(work, tmp_path, registry):
    """They are counted by kind, and the rest of the group is trained on."""
    metrics = run(work, tmp_path, registry, use="flaky", abort=0.9, steps=1)
    [line] = metrics["train"]
    assert 0 < line["unscored"] < 0.9
    assert line["component/main/unscored_infra"] == pytest.approx(line["unscored"])
    assert 0 < line["rows_learned"] <= 16 * (1 - line["unscored"])


def test_too_many_unscored_stop_the_run(work, tmp_path, registry):
    """The error has kinds, share and the first message; they never count as a reward of 0."""
    with pytest.raises(
        TooManyUnscoredError, match=r"step 1: 16 of 16 .* \(16 plugin\).*nan.* which is not a finite number"
    ):
        run(work, tmp_path, registry, use="nan", **{"evaluate.correct": "null", "data.eval": "null"})


def test_a_constant_reward_changes_nothing(work, tmp_path, registry):
    """Groups without spread have no gradient: the weights stay bit-equal."""
    from safetensors.torch import load_file

    metrics = run(work, tmp_path, registry, use="constant")
    assert all(line["frac_reward_zero_std"] == 1 and line["rows_learned"] == 0 for line in metrics["train"])
    before, after = load_file(work / "base/model.safetensors"), load_file(tmp_path / "out/final/model.safetensors")
    assert all(bool((before[name] == after[name]).all()) for name in before)


def test_refilling_samples_further_prompts(work, tmp_path, registry):
    """Dynamic sampling has a bound, and its cost is logged."""
    extra = "filter: {zero_std: refill, refill_rounds: 2}\n"
    [line] = run(work, tmp_path, registry, use="constant", steps=1, extra=extra)["train"]
    assert line["prompts_sampled"] == 12
    assert line["prompts_kept"] == 0
    assert (line["reward"], line["frac_reward_zero_std"]) == (0.25, 1), "of all that was sampled"
    assert line["component/main/frac_reward_zero_std"] == 1


def test_what_is_filtered_out_is_still_told(work, tmp_path, registry):
    """Metrics and the unscored limit are over everything that was sampled, not over what is left."""
    extra = "filter: {zero_std: refill, refill_rounds: 2}\n"
    changes = {"rollout.max_new_tokens": "1", "rollout.group_size": "8", "data.eval": "null"}
    changes["monitors.prompt_independence"] = "null"  # which scores completions once more
    CALLS.clear()
    [line] = run(work, tmp_path, registry, use="flaky", abort=0.9, steps=1, extra=extra, **changes)["train"]
    assert len(CALLS) == 8 * line["prompts_sampled"]
    assert line["prompts_kept"] < 0.5, "nearly all completions of one token have the score 1"
    unscored = sum(rollout.completion_text[:1].isdigit() for rollout in CALLS) / len(CALLS)
    assert line["unscored"] == pytest.approx(unscored)
    assert line["component/main/unscored_infra"] == pytest.approx(unscored)
    assert unscored > 0


def test_evaluations_can_be_compared_while_weights_change(work, tmp_path, registry):
    """Scheduled weights are those of the last step in every evaluation, and those of the step in training."""
    weight = "{linear: {from: 1.0, to: 0.0, steps: [0, 4]}}"
    changes = {"reward.components.main.weight": weight, "evaluate.every": "1", "optimizer.lr": "1e-12"}
    metrics = run(work, tmp_path, registry, use="constant", steps=3, **changes)
    assert [line["reward"] for line in metrics["eval"]] == [pytest.approx(0.25 * 0.25)] * 4
    assert [line["reward"] for line in metrics["train"]] == pytest.approx([0.25, 0.25 * 0.75, 0.25 * 0.5])


def test_a_run_that_is_begun_again_at_its_first_checkpoint_evaluates_once(work, tmp_path, registry):
    """A checkpoint is saved before the first step with on_alarm: rollback, and its evaluation is logged once."""
    changes = {"monitors.on_alarm": "rollback", "evaluate.every": "1"}
    whole = run(work, tmp_path, registry, steps=2, **changes)
    shutil.rmtree(tmp_path / "out/checkpoints/step-000002")
    shutil.rmtree(tmp_path / "out/checkpoints/step-000001", ignore_errors=True)
    if not (tmp_path / "out/checkpoints/step-000000").exists():
        shutil.rmtree(tmp_path / "out/checkpoints")
        run(work, tmp_path, registry, steps=2, **changes)
    again = run(work, tmp_path, registry, steps=2, **changes)
    assert [line["step"] for line in again["eval"]] == [line["step"] for line in whole["eval"]] == [0, 1, 2]


def test_truncated_completions_can_be_left_out(work, tmp_path, registry):
    """They are masked by finish reason: a random model hardly ends within 8 tokens, so hardly any row has a gradient."""
    kept = run(work, tmp_path, registry, steps=1)["train"][0]
    masked = run(
        work, (tmp_path / "2").mkdir() or tmp_path / "2", registry, steps=1, extra="filter: {truncated: mask}\n"
    )
    assert masked["train"][0]["truncated"] == kept["truncated"] > 0.5
    assert masked["train"][0]["rows_learned"] <= 16 * (1 - kept["truncated"]) < kept["rows_learned"]


@pytest.mark.parametrize(
    "algorithm", ["grpo", "dr_grpo", "cispo", "gspo", "sapo", "rloo", "reinforce++", "reinforce++-baseline"]
)
def test_every_algorithm_learns(work, tmp_path, registry, algorithm):
    """The reward rises with KL in the loss or in the reward and several updates per batch."""
    place = "reward" if algorithm.startswith("reinforce") else "loss"
    parts = (
        ", loss: sequence_clip, reduction: grpo" if algorithm == "rloo" else ""
    )  # its own loss is for a single update
    extra = f"algorithm: {{use: {algorithm}{parts}}}\nkl: {{coefficient: 0.001, place: {place}, target: 1.0}}\nepochs_per_batch: 2\n"
    metrics = run(
        work, tmp_path, registry, steps=14, extra=extra, **{"rollout.prompts_per_step": "8", "data.eval": "null"}
    )
    first = sum(line["reward"] for line in metrics["train"][:3]) / 3
    last = sum(line["reward"] for line in metrics["train"][-3:]) / 3
    assert last > first + 0.03
    assert metrics["train"][0]["kl"] == pytest.approx(0, abs=1e-4)
    assert metrics["train"][-1]["kl"] != 0


OWN_LOSS = """
def soft(inputs, *, eps: float = 0.1):
    ratio = inputs.log_ratio_B_T.exp()
    clipped = ratio.clamp(1 - eps, 1 + eps)
    return -(ratio * inputs.advantages_B_T).minimum(clipped * inputs.advantages_B_T)
"""


def test_a_users_loss_trains_as_a_built_in_one(work, tmp_path, registry):
    """A function in a file beside the configuration, with the formula of ``clip``, gives the same weights as ``clip``."""
    (tmp_path / "my_losses.py").write_text(OWN_LOSS)
    own = '{use: "./my_losses.py:soft", with: {eps: 0.05}}'
    built_in = "{use: clip, with: {eps_low: 0.05, eps_high: 0.05}}"
    weights = []
    for name, loss in (("own", own), ("built_in", built_in)):
        overrides = {"algorithm": f"{{use: grpo, loss: {loss}}}", "updates_per_epoch": "2", "epochs_per_batch": "2"}
        run(work, tmp_path, registry, **overrides, output=str(tmp_path / name))
        weights.append((tmp_path / name / "final/model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    record = json.loads((tmp_path / "own/config.json").read_text())["loss"]
    assert (record["use"], record["with"]) == (f"{tmp_path}/my_losses.py:soft", {"eps": 0.05})

    (tmp_path / "my_losses.py").write_text(OWN_LOSS + "# changed")
    overrides = {"algorithm": f"{{use: grpo, loss: {own}}}", "updates_per_epoch": "2", "epochs_per_batch": "2"}
    with pytest.raises(UsageError, match=r"the file of algorithm\.loss .*my_losses.py:soft has changed"):
        run(work, tmp_path, registry, **overrides, output=str(tmp_path / "own"))


def test_process_rewards_reach_the_tokens_of_their_step(work, tmp_path, registry):
    """Advantages differ within a completion, and the policy is trained on them."""
    extra = "algorithm: {use: grpo, process: {component: main, separator: '1'}}\n"
    changes = {"rollout.prompts_per_step": "8", "data.eval": "null"}
    metrics = run(work, tmp_path, registry, use="stepwise", steps=14, extra=extra, **changes)
    assert (
        sum(line["reward"] for line in metrics["train"][-3:])
        > sum(line["reward"] for line in metrics["train"][:3]) + 0.1
    )


def test_process_rewards_must_fit_the_steps(work, tmp_path, registry):
    """Another number of steps than the separator makes is an error with both numbers."""
    extra = "algorithm: {use: grpo, process: {component: main, separator: '1'}}\n"
    with pytest.raises(RewardkitError, match=r"gives 0 step rewards, but algorithm\.process\.separator"):
        run(work, tmp_path, registry, steps=1, extra=extra, **{"data.eval": "null"})


@pytest.mark.parametrize("reward", ["moody", "stepwise, when: 'd > 0.2'"])
def test_what_has_no_process_rewards_leaves_its_group(work, tmp_path, registry, reward):
    """A component that was skipped or could not be scored has no step rewards, even if the total is known."""
    text = (
        f"{{components: {{main: {{use: {reward}}}, d: {{use: digits}}}}, unscored: {{policy: zero, abort_above: 1}}}}"
    )
    extra = "algorithm: {use: grpo, process: {component: main, separator: '1'}}\n"
    metrics = run(work, tmp_path, registry, steps=2, extra=extra, **{"data.eval": "null", "reward": text})
    assert all(0 < line["rows_learned"] < 16 for line in metrics["train"])


def test_groups_are_alike_by_the_rewards_of_their_steps(work, tmp_path, registry):
    """Groups with equal totals are kept if their process rewards differ."""
    extra = "algorithm: {use: grpo, process: {component: main, separator: '1'}}\nfilter: {zero_std: drop}\n"
    text = "{components: {main: {use: stepwise, weight: 0}}}"
    metrics = run(work, tmp_path, registry, steps=1, extra=extra, **{"data.eval": "null", "reward": text})
    [line] = metrics["train"]
    assert line["frac_reward_zero_std"] == 1
    assert line["rows_learned"] > 0


def test_nothing_is_learned_where_nothing_is_scored(work, tmp_path, registry):
    """All groups are dropped, and the run continues."""
    changes = {"data.eval": "null", "reward": "{components: {main: {use: nan}}, unscored: {abort_above: 1}}"}
    metrics = run(work, tmp_path, registry, steps=2, extra="filter: {zero_std: drop}\n", **changes)
    assert [line["prompts_kept"] for line in metrics["train"]] == [0, 0]


def best_of(folder):
    """Return the best evaluation result of the last checkpoint."""
    [state] = (folder / "out/checkpoints").glob("*/state.json")
    return json.loads(state.read_text())["best"]


def test_an_evaluation_that_could_not_be_scored_is_not_the_best(work, tmp_path, registry):
    """An evaluation that could not be scored is not the best, and later ones are not compared with it."""
    CALLS.clear()
    text = "{components: {main: {use: late, with: {calls: 48}}}, unscored: {abort_above: 1}}"  # before step 1, in it, after it
    changes = {
        "reward": text,
        "evaluate.every": "1",
        "evaluate.correct": "null",
        "monitors.prompt_independence": "null",
    }
    metrics = run(work, tmp_path, registry, steps=3, **changes)
    assert [line["reward"] is None for line in metrics["eval"]] == [True, True, False, False]
    assert best_of(tmp_path) == max(line["reward"] for line in metrics["eval"][2:])


def test_an_evaluation_without_gold_is_not_held_against_others(work, tmp_path, registry):
    """Its accuracy is not compared with the gold reward of others."""
    CALLS.clear()
    changes = {"evaluate.gold": "{components: {meant: {use: late, with: {calls: 32}}}}", "evaluate.every": "1"}
    metrics = run(work, tmp_path, registry, steps=3, **changes)
    gold = [line.get("gold") for line in metrics["eval"]]
    assert gold[:2] == [None, None]
    assert best_of(tmp_path) == max(gold[2:])


def test_adapters_are_trained_against_the_model_without_them(work, tmp_path, registry):
    """A LoRA run needs no second model as reference, and its KL starts at 0."""
    extra = "kl: {coefficient: 0.01}\n"
    metrics = run(work, tmp_path, registry, steps=3, extra=extra, **{"model.lora": "{rank: 4}"})
    assert metrics["train"][0]["kl"] == pytest.approx(0, abs=1e-4)
    assert (tmp_path / "out/final/adapter_model.safetensors").is_file()


@pytest.mark.parametrize("extra", ["epochs_per_batch: 2\n", "correction: {kind: truncate}\n"])
def test_adapters_are_on_when_the_policy_is_asked(work, tmp_path, registry, extra):
    """The old log-probs of a LoRA run with KL are those of the policy, not of the reference."""
    changes = {"model.lora": "{rank: 4}", "optimizer.lr": "0.02"}
    metrics = run(work, tmp_path, registry, steps=3, extra=f"kl: {{coefficient: 0.01}}\n{extra}", **changes)
    assert all(line["sampling_logp_difference"] < 1e-5 for line in metrics["train"])
    assert metrics["train"][-1]["kl_per_token"] > 1e-3


def test_dropout_is_off(work, tmp_path, registry):
    """The engine's log-probs equal the trainer's, and every micro-batch size gives the same weights."""
    import torch
    from safetensors.torch import load_file

    changes = {"model.lora": "{rank: 4, dropout: 0.5}", "optimizer.eps": "1.0e-3"}
    for name, size in (("one", "1"), ("whole", "4096")):
        (tmp_path / name).mkdir()
        metrics = run(work, tmp_path / name, registry, steps=3, **changes, micro_batch_tokens=size)
        assert all(line["sampling_logp_difference"] < 1e-5 for line in metrics["train"])
    one, whole = (load_file(tmp_path / name / "out/final/adapter_model.safetensors") for name in ("one", "whole"))
    assert all(torch.allclose(one[name], whole[name], rtol=0, atol=1e-5) for name in one)


def test_an_evaluation_that_says_little_is_told(work, tmp_path, registry, capsys):
    """The warning is shown at the start of the run."""
    changes = {"reward.components.main": "{use: digits, scale: zscore}", "evaluate.correct": "null"}
    run(work, tmp_path, registry, steps=1, **changes)
    assert capsys.readouterr().err.replace("\n", " ").count("set evaluate.correct or evaluate.gold") == 1


def test_prompts_that_leave_no_room_are_left_out_and_counted(work, tmp_path, registry, capsys):
    """As in SFT: the run says how many, of the training and of the held-out prompts."""
    lines = (work / "train.jsonl").read_text().splitlines()[:6]
    long = json.dumps({**json.loads(lines[0]), "prompt": "1" * 125})
    (tmp_path / "some.jsonl").write_text("\n".join([*lines, long, long]) + "\n")
    (tmp_path / "held_out.jsonl").write_text("\n".join([long, *lines]) + "\n")
    data = {"data.train": str(tmp_path / "some.jsonl"), "data.eval": str(tmp_path / "held_out.jsonl")}
    run(work, tmp_path, registry, steps=1, **data)
    told = " ".join(capsys.readouterr().err.split())
    assert "2 of 8 training prompts are left out: with rollout.max_new_tokens (8) they exceed" in told
    assert "1 of 7 held-out prompts are left out" in told
    record = json.loads((tmp_path / "out/config.json").read_text())
    assert (record["prompts"], record["prompts_too_long"]) == (6, 3)


def test_prompts_that_are_all_too_long_are_refused(work, tmp_path, registry):
    """The error names the shortest row before anything is sampled."""
    with pytest.raises(DataError, match=r"train\.jsonl:\d+: the shortest of \d+ prompts has 7 tokens.*context of 128"):
        run(work, tmp_path, registry, **{"rollout.max_new_tokens": "125"})


def test_another_configuration_does_not_go_on_in_the_same_folder(work, tmp_path, registry):
    """A key that the weights depend on may not change when a run is resumed."""
    run(work, tmp_path, registry, steps=1)
    run(work, tmp_path, registry, steps=1, **{"log.samples": "1"})
    with pytest.raises(
        RewardkitError, match="contains a run with other values of seed; use another output folder, or --fresh"
    ):
        run(work, tmp_path, registry, steps=1, seed="7")


def test_out_of_memory_halves_the_micro_batch(work, tmp_path, registry, monkeypatch):
    """The weights equal those of a run with enough memory; the new size is half of what did not fit."""
    import torch
    from safetensors.torch import load_file

    from rewardkit.train.models.policy import Policy

    run(work, tmp_path, registry, steps=1)
    original = Policy.forward_logprobs

    sizes = []

    def small(self, batch, *args, **kwargs):
        if torch.is_grad_enabled():
            sizes.append(len(batch))
        if len(batch) > 5:
            raise torch.OutOfMemoryError("out of memory")
        return original(self, batch, *args, **kwargs)

    monkeypatch.setattr(Policy, "forward_logprobs", small)
    (tmp_path / "2").mkdir()
    run(work, tmp_path / "2", registry, steps=1)
    tried = [size for size in sizes if size > 5]
    assert len(tried) <= 2
    one, other = (load_file(folder / "out/final/model.safetensors") for folder in (tmp_path, tmp_path / "2"))
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)


def test_the_best_result_survives_a_resume(work, tmp_path, registry):
    """A resumed run does not take its next evaluation for the best so far."""
    changes = {"checkpoint.every": "1", "evaluate.every": "1"}
    run(work, tmp_path, registry, steps=2, **changes)
    (tmp_path / "out/best/mark").touch()
    shutil.rmtree(tmp_path / "out/checkpoints/step-000002")
    state = tmp_path / "out/checkpoints/step-000001/state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"best": 1e9}))
    write_checksums(state.parent)
    run(work, tmp_path, registry, steps=2, **changes)
    assert (tmp_path / "out/best/mark").exists()
