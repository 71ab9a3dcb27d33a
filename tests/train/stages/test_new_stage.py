"""A training stage is added from outside with one module and one line."""

from __future__ import annotations

import sys

import pytest

from rewardkit.registry import Registry
from rewardkit.train import train
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES, Stage
from rewardkit.train.preflight.preview import preview

MODULE = '''
from typing import Literal

from rewardkit.train.config import SftConfig


class ShortConfig(SftConfig):
    """SFT on the first rows only."""

    stage: Literal["short_sft"]
    first_rows: int = 4
    """Number of rows to train on."""


def train_short(file):
    """Run the stage with the loop of supervised stages."""
    from rewardkit.train.models.policy import Policy
    from rewardkit.train.stages.sft import SftTask, load_examples
    from rewardkit.train.trainer.run import Run
    from rewardkit.train.trainer.supervised import train_supervised

    config = file.config
    policy = Policy.load(config.model)
    rows = load_examples(file, policy, (), "train")[: config.first_rows]
    with Run.open(file, config.total_steps(len(rows)), {"rows": len(rows)}) as run:
        train_supervised(run, SftTask(config, policy, rows, []), config)
        return run.save_model(policy.save, "final")
'''


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Add the stage: one module, one line."""
    (tmp_path / "short_stage.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(STAGES, "short_sft", Stage("short_stage:ShortConfig", "short_stage:train_short"))
    yield
    sys.modules.pop("short_stage", None)


@pytest.mark.usefixtures("stage")
def test_a_stage_from_outside_is_checked_and_trained(work, tmp_path):
    """Its configuration is read like any other, its data are previewed, and it trains and resumes."""
    config = {
        "version": 1,
        "stage": "short_sft",
        "output": tmp_path / "out",
        "model": {"path": f"{work}/base"},
        "data": {"train": f"{work}/sft.jsonl"},
        "epochs": 2,
        "batch_size": 2,
        "first_rows": 2,
    }
    assert preview(read_train_config(config, Registry())).facts["rows"]
    run = train(config, registry=Registry())
    assert [record["step"] for record in run.metrics] == [1, 2]
    assert (run.model / "model.safetensors").is_file()
    assert train(config, registry=Registry()) == run
