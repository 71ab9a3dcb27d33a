"""Files and folders are written completely or not at all."""

from __future__ import annotations

import shutil

import pytest
import torch

from rewardkit.errors import DataError, OutputError
from rewardkit.train.config import ModelConfig, OptimizerConfig
from rewardkit.train.distributed.fsdp import full_tensor
from rewardkit.train.models.policy import Policy
from rewardkit.train.trainer import atomic_folder
from rewardkit.train.trainer.atomic_folder import write_file, write_folder
from rewardkit.train.trainer.checkpoint import Checkpoints
from rewardkit.train.trainer.optimizer import Optimizer


def say(text):
    """Something that writes a folder with one file."""
    return lambda folder: (folder / "file").write_text(text)


def full(_folder):
    """A disk without room, as torch tells it."""
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 61120 vs 61008")


def test_a_full_disk_is_called_that(tmp_path, monkeypatch):
    """Torch's own words for it help nobody; where there is room they are all that is known."""
    with pytest.raises(OutputError, match=r"a can't be written: \[enforce fail"):
        write_folder(tmp_path / "a", full)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(atomic_folder.shutil, "disk_usage", lambda _: usage._replace(free=112))
    with pytest.raises(
        OutputError, match=r"a can't be written: No space left on device \(112 bytes are free\); the existing"
    ):
        write_folder(tmp_path / "a", full)


def test_a_folder_that_was_being_replaced_is_found_again(tmp_path):
    """Killed between the two renames, the folder of before is not lost when the next attempt fails."""
    write_folder(tmp_path / "best", say("first"))
    (tmp_path / "best").rename(tmp_path / ".best.old")
    with pytest.raises(OutputError):
        write_folder(tmp_path / "best", full)
    assert (tmp_path / "best/file").read_text() == "first"
    write_folder(tmp_path / "best", say("second"))
    assert (tmp_path / "best/file").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_what_is_written_can_be_read_by_whom_the_folder_can(tmp_path):
    """The files of safetensors are for their owner alone, which a shared disk of models has no use for."""
    tmp_path.chmod(0o755)

    def write(folder):
        say("first")(folder)
        (folder / "file").chmod(0o600)

    write_folder(tmp_path / "final", write)
    folder, file = (tmp_path / "final").stat().st_mode, (tmp_path / "final/file").stat().st_mode
    assert file & 0o777 == folder & 0o666


def test_a_file_that_can_not_be_written_is_told(tmp_path):
    """The error gives the reason and says that nothing is lost."""
    with pytest.raises(OutputError, match=r"config\.json can't be written: No such file or directory; the existing"):
        write_file(tmp_path / "gone" / "config.json", b"first")


@pytest.mark.parametrize("remove", ["drop", "keep"])
def test_half_of_a_removed_checkpoint_is_none(tmp_path, monkeypatch, remove):
    """Killed while it removes files, a run does not go on from what is left of them."""
    kept = Checkpoints(tmp_path, keep=1)
    for step in (1, 2):
        write_folder(tmp_path / f"step-{step:06d}", say(str(step)))
    monkeypatch.setattr(atomic_folder.shutil, "rmtree", lambda *_, **__: None)  # gets no further than its first file
    if remove == "drop":
        kept.drop_after(1)
        assert [path.name for path in kept.all()] == ["step-000001"]
    else:
        kept.save(3, {}, {})
        assert [path.name for path in kept.all()] == ["step-000003"]


def test_the_latest_and_one_to_spare_are_kept(tmp_path):
    """The latest checkpoints are kept, and the one to return to, however old it is."""
    kept = Checkpoints(tmp_path, keep=2)
    for step in range(1, 6):
        kept.save(step, {}, {"position": step}, spare=1)
    assert [path.name for path in kept.all()] == ["step-000001", "step-000004", "step-000005"]
    assert kept.restore(kept.latest(), {}) == {"step": 5, "position": 5}


@pytest.fixture(scope="module")
def after_two_steps(work):
    """The weights and moments of one process after two steps."""
    policy, optimizer = trained_once(work)
    return stepped(policy, optimizer)


@pytest.fixture(scope="module")
def of_two(work, tmp_path_factory, in_processes):
    """The checkpoints of two processes that share a model, after its first step."""
    folder = tmp_path_factory.mktemp("of_two")

    def save():
        policy, optimizer = trained_once(work)
        Checkpoints(folder, keep=1).save(1, {"policy": (policy.trained, optimizer)}, {"best": 0.5})

    in_processes(2, save)
    return folder


def trained_once(work):
    """A policy, sharded if there are several processes, and its optimizer, after one step."""
    policy = Policy.load(ModelConfig(path=str(work / "base")), sharded=True)
    settings = OptimizerConfig(lr=1e-2, max_grad_norm=None)
    optimizer = Optimizer(policy.trained, settings, 10, policy.sharded)
    stepped(policy, optimizer)
    return policy, optimizer


def stepped(policy, optimizer):
    """Do a step whose gradients are a tenth of the weights. Return all weights and moments."""
    for value in policy.trained.values():
        value.grad = 0.1 * value.detach()
    optimizer.step(0)
    moments = {
        f"{name} {key}": full_tensor(moment)
        for name, value in policy.trained.items()
        for key, moment in optimizer.adamw.state[value].items()
    }
    return {**{name: full_tensor(value.detach()) for name, value in policy.trained.items()}, **moments}


@pytest.mark.parametrize("size", [1, 4])
def test_a_checkpoint_of_two_processes_is_resumed_by_another_number(work, of_two, after_two_steps, in_processes, size):
    """Each process writes its own part alone, and any number of processes goes on to the weights and moments of one process."""
    assert len(list(of_two.glob("step-000001/*.safetensors"))) == 2

    def resume():
        policy, optimizer = trained_once(work)
        for value in policy.trained.values():
            value.data.zero_()
        kept = Checkpoints(of_two, keep=1)
        state = kept.restore(kept.latest(), {"policy": (policy.trained, optimizer)})
        return state, stepped(policy, optimizer)

    for state, found in in_processes(size, resume):
        assert state == {"step": 1, "best": 0.5}
        assert found.keys() == after_two_steps.keys()
        assert all(torch.allclose(value, found[name], atol=1e-6) for name, value in after_two_steps.items())


def test_the_damaged_part_of_one_process_is_named(of_two, tmp_path):
    """A checkpoint with a part that is cut off is refused before anything is read."""
    shutil.copytree(of_two, tmp_path / "checkpoints")
    kept = Checkpoints(tmp_path / "checkpoints", keep=1)
    second = kept.latest() / "shard-00002-model-00001-of-00001.safetensors"
    second.write_bytes(second.read_bytes()[:-1])
    with pytest.raises(
        DataError, match=r"damaged: shard-00002-model-00001-of-00001\.safetensors has [\d,]+ bytes where"
    ):
        kept.restore(kept.latest(), {})


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_offered(tmp_path):
    """A run never resumes from damaged files; the message says which folder to remove and where that leads."""
    kept = Checkpoints(tmp_path, keep=3)
    for step in (10, 20):
        kept.save(step, {}, {"seed": 7})
    assert kept.restore(kept.latest(), {}) == {"step": 20, "seed": 7}
    state = tmp_path / "step-000020/state.json"
    state.write_bytes(state.read_bytes().replace(b"7", b"8"))
    with pytest.raises(DataError, match=r"step-000020 is damaged: the content of state\.json.*resume after step 10$"):
        kept.restore(kept.latest(), {})
    shutil.rmtree(tmp_path / "step-000020")
    (tmp_path / "step-000010/state.json").unlink()
    with pytest.raises(DataError, match=r"state\.json is missing\. Remove this folder to resume from the beginning$"):
        kept.restore(kept.latest(), {})
