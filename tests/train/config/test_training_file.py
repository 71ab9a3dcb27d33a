"""Training configurations: read, or refused with file, line and column, without torch."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest

from rewardkit.errors import ConfigError
from rewardkit.registry import Registry
from rewardkit.train.config import GrpoConfig, SftConfig
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES

GRPO = """\
version: 1
stage: grpo
output: runs/one
model: {path: ./base}
data: {train: prompts.jsonl}
reward: {components: {even: {use: even}}}
steps: 10
"""


@pytest.fixture
def registry():
    """Two rewards, of which the second always gives the same value for the same rollout."""
    from rewardkit import Rollout, reward

    @reward("even")
    def even(rollout: Rollout) -> float:
        """Even lengths."""
        return float(len(rollout.completion_text) % 2 == 0)

    @reward("same", deterministic=True)
    def same(rollout: Rollout) -> float:
        """No text."""
        return float(not rollout.completion_text)

    found = Registry()
    found.register(even)
    found.register(same)
    return found


def read(folder, text, registry, **overrides):
    """Read a text as a file of a folder."""
    file = folder / "config.yaml"
    file.write_text(text)
    return read_train_config(file, registry, overrides)


def test_paths_are_taken_from_the_files_folder(tmp_path, registry):
    """Output, data and a model written with ./ are beside the file; a hub name stays one."""
    config = read(tmp_path, GRPO, registry).config
    assert isinstance(config, GrpoConfig)
    assert config.output == tmp_path / "runs/one"
    assert config.data.train == tmp_path / "prompts.jsonl"
    assert config.model.path == str(tmp_path / "base")
    hub = read(tmp_path, GRPO.replace("./base", "Qwen/Qwen3-0.6B"), registry).config
    assert hub.model.path == "Qwen/Qwen3-0.6B"
    deep = read(tmp_path, GRPO.replace("./base", "runs/one/final"), registry).config
    assert deep.model.path == str(tmp_path / "runs/one/final"), "no hub has names of three parts"


def test_the_reward_may_be_a_file(tmp_path, registry):
    """Named relative to the configuration."""
    (tmp_path / "reward.yaml").write_text("version: 1\ncomponents: {even: {use: even}}\n")
    text = GRPO.replace("reward: {components: {even: {use: even}}}", "reward: reward.yaml")
    assert read(tmp_path, text, registry).reward.component_names == ("even",)


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("stage: grpo", "stage: gpro", ":2:8", "there is no stage 'gpro'; did you mean 'grpo'?"),
        ("stage: grpo\n", "", ":1:1", "lacks the key 'stage'"),
        ("steps: 10", "step: 10", ":7:1", "unknown key 'step'; did you mean 'steps'?"),
        ("steps: 10", "steps: ten", ":7:8", "steps must be a whole number, found the text 'ten'"),
        ("steps: 10", "steps: 0", ":7:8", "steps must be at least 1, found 0"),
        ("{path: ./base}", "{path: ./base, dtype: float33}", ":4:30", "did you mean 'float32'?"),
        ("{use: even}", "{use: evne}", ":6:35", "did you mean even?"),
        ("{components: {even: {use: even}}}", "{components: {}}", ":6:22", "components is empty"),
        ("{components: {even: {use: even}}}", "nowhere.yaml", ":6:9", "the reward file"),
        ("steps: 10", "steps: 10\nrollout: {group_size: 1}", ":8:23", "compares the completions of a group"),
        ("steps: 10", "steps: 10\nrollout: {temperature: 0}", ":8:24", "rollout.temperature must be more than 0"),
        ("steps: 10", "steps: 10\nevaluate: {answer: '('}", ":8:20", "'(' is not a valid regular expression"),
        ("steps: 10", "steps: 10\nrollout: {stop: ['']}", ":8:18", "rollout.stop[0]"),
        ("steps: 10", "steps: 10\noptimizer: {betas: [0.9, 1]}", ":8:26", "must be less than 1"),
        ("steps: 10", 'steps: "10"', ":7:8", "found the text '10'; did you mean 10?"),
        ("{train: prompts.jsonl}", "{train: []}", ":5:15", "data.train"),
        ("steps: 10", "steps: 10\nalgorithm: {use: grop}", ":8:18", "did you mean 'grpo'?"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path, registry, old, new, place, message):
    """File, line, column, and what to do."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, GRPO.replace(old, new), registry)
    assert f"config.yaml{place}: " in str(caught.value)
    assert message in str(caught.value)


def test_overrides_go_over_the_file(tmp_path, registry):
    """Overrides are YAML values by dotted path; the error for a wrong one names the override."""
    config = read(tmp_path, GRPO, registry, **{"optimizer.lr": "3e-4", "steps": "7"}).config
    assert config.optimizer.lr == 3e-4
    assert config.steps == 7
    with pytest.raises(ConfigError, match=r"--set optimizer.rate=1: unknown key 'rate' in optimizer"):
        read(tmp_path, GRPO, registry, **{"optimizer.rate": "1"})


def test_every_shipped_example_is_a_valid_configuration():
    """Each example is a valid configuration of the stage that it names."""
    from pathlib import Path

    folder = Path(__file__).parents[3] / "examples/train"
    registry = Registry.load()
    if not {"math", "format.boxed"} <= registry.rewards.keys():
        pytest.skip("the plugins math and format are not installed")
    files = sorted(folder.glob("*.yaml"))
    assert files
    for file in files:
        assert read_train_config(file, registry).config.model_dump()["stage"] in STAGES


def test_reading_a_configuration_needs_no_torch(tmp_path):
    """Neither torch nor transformers is imported."""
    (tmp_path / "sft.yaml").write_text(
        "version: 1\nstage: sft\noutput: out\nmodel: {path: ./m}\ndata: {train: a.jsonl}\nsteps: 1\n"
    )
    code = (
        "import sys; from rewardkit.registry import Registry; from rewardkit.train.config.reading import read_train_config; "
        f"read_train_config({str(tmp_path / 'sft.yaml')!r}, Registry()); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pyarrow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_part_of_a_section_keeps_the_stages_other_defaults(tmp_path, registry):
    """PPO samples one completion of each prompt, also where something else of rollout is given."""
    text = GRPO.replace("stage: grpo", "stage: ppo") + "rollout: {max_new_tokens: 9}\nkl: {coefficient: 0.2}\n"
    config = read(tmp_path, text, registry).config
    assert (config.rollout.group_size, config.kl.place, config.algorithm.use) == (1, "reward", "bnpo")


@pytest.mark.parametrize(
    ("stage", "kl", "estimator"),
    [
        ("grpo", "{coefficient: 0.1}", "k2"),
        ("grpo", "{coefficient: 0.1, place: reward}", "k1"),
        ("ppo", "{coefficient: 0.1}", "k1"),
        ("ppo", "{coefficient: 0.1, place: loss}", "k2"),
        ("grpo", "{coefficient: 0.1, estimator: k3}", "k3"),
    ],
)
def test_the_default_estimator_of_kl_depends_on_its_place(tmp_path, registry, stage, kl, estimator):
    """k1 in the reward and k2 in the loss, in every stage."""
    config = read(tmp_path, GRPO.replace("stage: grpo", f"stage: {stage}") + f"kl: {kl}\n", registry).config
    assert config.kl.chosen_estimator == estimator


def test_steps_or_epochs(tmp_path):
    """SFT wants one of them."""
    text = "version: 1\nstage: sft\noutput: out\nmodel: {path: ./m}\ndata: {train: a.jsonl}\n"
    with pytest.raises(ConfigError, match="set either steps or epochs"):
        read(tmp_path, text, Registry())
    assert isinstance(read(tmp_path, text + "epochs: 2\n", Registry()).config, SftConfig)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kl.target": "2.0"}, "target: an adaptive coefficient needs a positive start"),
        ({"kl": "{coefficient: 0.1, estimator: k1}"}, "k1 in the loss has an expected gradient of 0"),
        (
            {"kl": "{coefficient: 0.1, estimator: k2, place: reward}"},
            "k2 in the reward has an expected gradient that is",
        ),
        (
            {"kl": "{coefficient: 0.1, estimator: k3, place: reward}"},
            "k3 in the reward has an expected gradient that is",
        ),
        ({"model": "{path: ./base, dtype: float16}"}, "dtype: float16 overflows at 65,504.* use bfloat16"),
        (
            {"algorithm": "{process: {component: even}, advantage: rloo}"},
            "algorithm.advantage can't be combined with process rewards",
        ),
        (
            {"algorithm": "{process: {component: even}}", "kl": "{coefficient: 0.1, place: reward}"},
            "kl.place: process rewards define the advantages",
        ),
        ({"correction": "{kind: mask, low: 2.5}"}, "low .2.5. is not below high .2., so every token would be masked"),
        ({"correction": "{verifier: {fp: 0.6, fn: 0.4}}"}, "add up to 1 or more: such a verifier"),
        (
            {"correction": "{verifier: {fn: 0.1, ask: 3}}"},
            "ask: 3 asks again about a completion, which says nothing new unless",
        ),
        (
            {
                "correction": "{verifier: {fn: 0.1, repeated: true, ask: 3}}",
                "reward": "{components: {even: {use: even, scale: zscore}}}",
            },
            "the reward compares the completions of a group, so single ones can't be scored again; remove ask",
        ),
        (
            {
                "correction": "{verifier: {fn: 0.1, repeated: true, component: same}}",
                "reward": "{components: {even: {use: even}, same: {use: same}}}",
            },
            "equal completions always get the same verdict from same; remove repeated",
        ),
        ({"correction": "{verifier: {}}"}, "fp and fn are both 0, so there is nothing to correct"),
        (
            {"correction": "{verifier: {fn: 0.1}}", "algorithm": "{process: {component: even}}"},
            "correction.verifier can't be combined with process rewards",
        ),
        (
            {"correction": "{verifier: {fn: 0.1, component: evne}}"},
            "there is no component 'evne'; did you mean 'even'?",
        ),
        ({"algorithm": "{process: {component: evne}}"}, "there is no component 'evne'; did you mean 'even'?"),
        (
            {
                "correction": "{verifier: {fn: 0.1, component: even}}",
                "reward": "{components: {even: {use: even}}, combine: product}",
            },
            "are combined by 'product'; correction.verifier.component needs 'sum'",
        ),
        (
            {
                "correction": "{verifier: {fn: 0.1, component: even}}",
                "reward": "{components: {even: {use: even, clip: [0, 1]}}}",
            },
            "'even' is scaled or clipped, so its values are not verdicts",
        ),
        (
            {
                "correction": "{verifier: {fn: 0.1, component: even}}",
                "reward": "{components: {even: {use: even}}, clip: [0, 1]}",
            },
            "the reward is clipped, so the correction can't tell what a verdict adds to it",
        ),
        ({"optimizer": "{lr: 1.0e-5, min_lr: 1.0e-4, schedule: cosine}"}, "min_lr .0.0001. is above lr .1e-05."),
        (
            {"data.eval": "null", "evaluate.gold": "{components: {even: {use: even}}}"},
            "evaluate.gold needs held-out prompts; set data.eval",
        ),
    ],
)
def test_settings_without_effect_are_refused(tmp_path, registry, changes, message):
    """A setting that another one makes useless is refused before anything runs."""
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, GRPO, registry, **changes)


def test_ppo_has_no_groups_to_correct_a_verifier_by(tmp_path, registry):
    """The correction estimates the share of right completions of a group, which PPO does not have."""
    text = GRPO.replace("stage: grpo", "stage: ppo")
    with pytest.raises(ConfigError, match="compares a completion with its group; it is for stage grpo"):
        read(tmp_path, text, registry, correction="{verifier: {fn: 0.1}}")


@pytest.mark.parametrize(("kind", "refused"), [("own", True), ("head", False)])
def test_the_critics_rate_falls_with_the_policys(tmp_path, registry, kind, refused):
    """A critic of its own does not begin below where the schedule ends; a head learns at the policy's rate."""
    text = GRPO.replace("stage: grpo", "stage: ppo")
    changes = {"optimizer": "{lr: 1.0e-3, min_lr: 1.0e-4, schedule: cosine}", "critic.kind": kind}
    if not refused:
        assert read(tmp_path, text, registry, **changes)
        return
    with pytest.raises(ConfigError, match=r"critic\.lr .1e-05. is below optimizer\.min_lr .0\.0001."):
        read(tmp_path, text, registry, **changes)


def test_a_head_alone_is_trained_without_adapters(tmp_path):
    """They would change the backbone, which trained: head promises to leave alone; told at the key."""
    text = "version: 1\nstage: reward_model\noutput: out\nmodel: {path: ./m, lora: {rank: 2}}\ndata: {train: a.jsonl}\nsteps: 1\n"
    with pytest.raises(
        ConfigError, match=r"config\.yaml:7:\d+: trained: head does not train the backbone, but model\.lora"
    ):
        read(tmp_path, text + "trained: head\n", Registry())


@pytest.mark.parametrize("setting", ["logprob_memory_mb: 64", "logprob_kernel: triton"])
def test_settings_of_log_probs_are_refused_for_reward_models(tmp_path, monkeypatch, setting):
    """A reward model computes none; told with the key."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    text = f"version: 1\nstage: reward_model\noutput: out\nmodel: {{path: ./m, {setting}}}\ndata: {{train: a.jsonl}}\nsteps: 1\n"
    key = setting.split(":")[0]
    with pytest.raises(ConfigError, match=rf"model\.{key}: a reward model computes no log-probabilities; remove it"):
        read(tmp_path, text, Registry())


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("shard: true\n", ":1", "shard is now called fsdp"),
        ("rollout: {canary: {every: 1}}\n", ":11", "rollout.canary is now called rollout.weight_sync_check"),
        (
            "rollout: {max_mismatch: 1.0}\n",
            ":11",
            "rollout.max_mismatch is now called rollout.max_sampling_logp_difference",
        ),
        ("filter: {zero_spread: drop}\n", ":10", "filter.zero_spread is now called filter.zero_std"),
    ],
)
def test_a_former_key_is_refused_with_its_new_name(tmp_path, registry, text, place, message):
    """The error names the new key at the line of the old one."""
    base = GRPO.rstrip("\n") + "\n"
    with pytest.raises(ConfigError) as error:
        read(tmp_path, base + text, registry)
    line = base.count("\n") + 1
    assert f"config.yaml:{line}:{place.rpartition(':')[2]}: {message}" in str(error.value)


@pytest.mark.parametrize("output", ["taken", "taken/run"])
def test_an_output_that_is_a_file_is_refused(tmp_path, registry, output):
    """At its place, before the data are read."""
    (tmp_path / "taken").touch()
    with pytest.raises(ConfigError, match=r":\d+:9: output must be a folder, and .*/taken is a file"):
        read(tmp_path, re.sub(r"(?m)^output: .*$", f"output: {output}", GRPO), registry)
