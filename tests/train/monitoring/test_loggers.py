"""Metrics and alarms reach TensorBoard and Weights & Biases, and a resumed run is one run there."""

from __future__ import annotations

import math
import sys

import pytest

from rewardkit.errors import RewardkitError, UsageError
from rewardkit.train.config import LogConfig
from rewardkit.train.monitoring.loggers import open_loggers


def log(config, folder, steps, first_step=0):
    """Log a part of a run."""
    loggers = open_loggers(config, folder, {"stage": "grpo", "optimizer": {"lr": 0.1}}, first_step)
    for logger in loggers:
        for step in steps:
            logger.log(step, {"reward": step / 10, "odd": math.nan}, "train")
        logger.log(steps[-1], {"accuracy": 0.5}, "eval")
        logger.alarm(steps[-1], "kl", "far away")
        logger.close()


def test_nothing_is_opened_by_default(tmp_path):
    """Only the run's own files are written by default."""
    assert open_loggers(LogConfig(), tmp_path, {}) == []
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_shows_what_was_logged(tmp_path):
    """The event files have each step once, even after a resume."""
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = LogConfig(tensorboard=True)
    log(config, tmp_path, [1, 2, 3, 4])
    log(config, tmp_path, [3, 4, 5], first_step=2)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/reward")] == [
        (step, pytest.approx(step / 10)) for step in (1, 2, 3, 4, 5)
    ]
    assert [event.value for event in events.Scalars("eval/accuracy")] == [0.5]
    assert events.Tensors("alarm/kl/text_summary")[-1].tensor_proto.string_val == [b"far away"]


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Use Weights & Biases without a network, with all its files in the test's folder."""
    wandb = pytest.importorskip("wandb", reason="needs wandb: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    yield wandb
    wandb.teardown()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_wandb_keeps_what_was_logged(tmp_path, capfd, offline):
    """The offline files have metrics, configuration and alarm, a resumed run has the same id, and nothing is printed."""
    folder = tmp_path / "my-run"
    for steps, first in (([1, 2], 0), ([3], 2)):
        log(LogConfig(wandb="project"), folder, steps, first)
        offline.teardown()  # as the end of the process does; its service writes until then
    history, ids, config, alerts = read_wandb(folder)
    rewards = [(step, "train/reward", step / 10) for step in (1, 2, 3)]
    assert sorted(history) == sorted([*rewards, (2, "eval/accuracy", 0.5), (3, "eval/accuracy", 0.5)])
    assert len(ids) == 1
    assert config["stage"] == '"grpo"'
    assert alerts == ["kl at step 2", "kl at step 3"]
    assert capfd.readouterr() == ("", "")


def leveldb_records(data, block=32768):
    """Yield the records of a LevelDB log, the format of W&B's files after a header of seven bytes."""
    at, parts = 7, []
    while at + 7 <= len(data):
        if block - at % block < 7:  # what is left of a block holds no header
            at += block - at % block
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts.append(data[at + 7 : at + 7 + size])
        at += 7 + size
        if kind in {1, 4}:  # whole, or the last part
            yield b"".join(parts)
            parts = []


def read_wandb(folder):
    """Return history, ids, configuration and alerts of the offline runs in a folder."""
    import json

    from wandb.proto import wandb_internal_pb2

    history, ids, config, alerts = [], set(), {}, []
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        for data in leveldb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                ids.add(record.run.run_id)
                config |= {item.key: item.value_json for item in record.run.config.update}
            if record.HasField("alert"):
                alerts.append(record.alert.title)
            if record.HasField("history"):
                items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                step = record.history.step.num
                history += [(step, name, value) for name, value in items.items() if not name.startswith("_")]
    return history, ids, config, alerts


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_told(tmp_path, monkeypatch, name):
    """The error has the command that installs the package."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=f"pip install {name}"):
        open_loggers(LogConfig(tensorboard=name == "tensorboard", wandb="p" if name == "wandb" else None), tmp_path, {})


def test_a_refusal_of_wandb_is_told(tmp_path, monkeypatch):
    """The error says what to do, and loggers that were opened before are closed."""
    wandb = pytest.importorskip("wandb", reason="needs wandb: pip install wandb")

    def refuse(**_settings):
        raise wandb.errors.UsageError("api_key not configured")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(RewardkitError, match="WANDB_MODE=offline"):
        open_loggers(LogConfig(wandb="p"), tmp_path, {})
