"""What the names of algorithms stand for."""

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from rewardkit.train.config.algorithms import PRESETS


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("grpo", 0.2, 0.2), ("dr_grpo", 0.2, 0.2), ("dapo", 0.2, 0.28), ("gspo", 3e-4, 4e-4), ("reinforce++", 0.2, 0.2)],
)
def test_the_clips_are_those_of_the_papers(name, low, high):
    """Distances of the ratio from 1: DAPO's section 4.1, GSPO's section 5.1; the others have PPO's."""
    settings = PRESETS[name].loss
    assert (settings.eps_low, settings.eps_high) == (low, high)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("grpo", "clip"), ("cispo", "cispo"), ("gspo", "gspo"), ("sapo", "sapo"), ("rloo", "reinforce")],
)
def test_each_has_the_loss_of_its_paper(name, kind):
    """By the name of the loss."""
    assert PRESETS[name].loss.kind == kind
