"""What the names of algorithms and losses stand for, and how a configuration chooses a loss of its own."""

import subprocess
import sys
from typing import get_args

import pytest

from rewardkit import Rollout, reward
from rewardkit.errors import ConfigError
from rewardkit.registry import Registry
from rewardkit.train.config.algorithms import PRESETS, resolve_algorithm
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.rl import Algorithm

CONFIG = """\
version: 1
stage: grpo
output: out
model: {path: ./m}
data: {train: a.jsonl}
reward: {components: {even: {use: even}}}
steps: 1
"""
LOSSES = '''
from typing import Annotated

from annotated_types import Gt


def gentle(inputs, *, strength: Annotated[float, Gt(0)] = 1.0):
    """Weight the log-probabilities by the advantages.

    Args:
        strength: The factor of the loss.
    """
    return -strength * inputs.advantages_B_T * inputs.logprobs_B_T


def loose(inputs, strength=1.0):
    """Lack the asterisk before the setting."""


NUMBER = 3
'''


@reward("even")
def even(rollout: Rollout) -> float:
    """Reward even lengths."""
    return float(len(rollout.completion_text) % 2 == 0)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a configuration with further lines, beside a file of losses that is importable, too."""
    (tmp_path / "gentle_losses.py").write_text(LOSSES)
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry()
    registry.register(even)

    def read(lines):
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG + lines)
        return read_train_config(path, registry).config

    return read


def test_every_algorithm_has_its_parts():
    """The table has a row for each name that a configuration may give."""
    assert set(PRESETS) == set(get_args(Algorithm))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("grpo", 0.2, 0.2), ("dr_grpo", 0.2, 0.2), ("dapo", 0.2, 0.28), ("gspo", 3e-4, 4e-4), ("reinforce++", 0.2, 0.2)],
)
def test_clip_ranges_are_those_of_the_papers(read, name, low, high):
    """DAPO's section 4.1 and GSPO's section 5.1 give their own; the others have PPO's."""
    settings = resolve_algorithm(read(f"algorithm: {{use: {name}}}\n").algorithm).loss.settings
    assert (settings["eps_low"], settings["eps_high"]) == (low, high)


@pytest.mark.parametrize(
    ("name", "loss"),
    [("grpo", "clip"), ("cispo", "cispo"), ("gspo", "gspo"), ("sapo", "sapo"), ("rloo", "reinforce")],
)
def test_each_algorithm_has_the_loss_of_its_paper(read, name, loss):
    """The loss is named by the table."""
    assert resolve_algorithm(read(f"algorithm: {{use: {name}}}\n").algorithm).loss.name == loss


def test_settings_change_the_algorithms_own_loss(read):
    """Without ``use`` the algorithm's loss stays, and so do its other settings."""
    loss = resolve_algorithm(read("algorithm: {use: dapo, loss: {with: {eps_low: 0.1}}}\n").algorithm).loss
    assert (loss.name, loss.settings["eps_low"], loss.settings["eps_high"]) == ("clip", 0.1, 0.28)


def test_another_loss_has_its_own_defaults(read):
    """The settings of the algorithm's loss are not handed to another one."""
    loss = resolve_algorithm(read("algorithm: {use: dapo, loss: sequence_clip}\n").algorithm).loss
    assert (loss.name, loss.settings["eps_high"]) == ("sequence_clip", 0.2)


@pytest.mark.parametrize("place", ["gentle_losses:gentle", "./gentle_losses.py:gentle", "gentle_losses.py:gentle"])
def test_a_users_loss_is_named_by_module_or_file(read, place):
    """A file is looked for beside the configuration, and its content is part of the run's record."""
    loss = resolve_algorithm(read(f'algorithm: {{loss: {{use: "{place}", with: {{strength: 2}}}}}}\n').algorithm).loss
    assert loss.settings == {"strength": 2.0}
    assert len(loss.record()["sha256"]) == 64


@pytest.mark.parametrize(
    ("lines", "place", "message"),
    [
        ("algorithm:\n  loss: clop\n", "9:9", "there is no loss 'clop'; did you mean 'clip'"),
        ("algorithm:\n  loss:\n    use: nowhere_at_all:f\n", "10:10", "can't import the loss nowhere_at_all:f"),
        ("algorithm:\n  loss: ./missing.py:f\n", "9:9", "missing.py does not exist"),
        ("algorithm:\n  loss: gentle_losses:rough\n", "9:9", "gentle_losses has no function or class 'rough'"),
        ("algorithm:\n  loss: gentle_losses:NUMBER\n", "9:9", "gentle_losses:NUMBER is neither a function nor a class"),
        ("algorithm:\n  loss: gentle_losses:loose\n", "9:9", "parameter 'strength' must be keyword-only"),
        ("algorithm:\n  loss: {use: gentle_losses:gentle, with: {strength: 0}}\n", "9:54", "strength"),
        ("algorithm:\n  loss: {use: clip, with: {eps_hihg: 0.3}}\n", "9:28", "eps_hihg"),
        ("algorithm:\n  loss: {use: cispo, with: {low: 6}}\n", "9:28", r"low \(6\) is not below high \(5\)"),
        ("algorithm:\n  loss: {use: cispo, wiht: {low: 6}}\n", "9:22", "wiht"),
        (
            "algorithm:\n  use: rloo\nepochs_per_batch: 2\n",
            "9:3",
            "only the first of 2 updates of a batch would be right",
        ),
        ("algorithm:\n  eps_high: 0.3\n", "9:3", r"eps_high is now written algorithm.loss: \{with: \{eps_high"),
    ],
)
def test_a_wrong_loss_is_refused_at_its_place(read, lines, place, message):
    """The message has file, line and column."""
    with pytest.raises(ConfigError, match=message) as caught:
        read(lines)
    assert f"config.yaml:{place}: " in str(caught.value)


def test_settings_of_a_loss_are_checked_without_torch():
    """Reading the built-in losses does not import torch."""
    code = "import sys; from rewardkit.train.config.algorithms import make_loss; make_loss('gspo'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
