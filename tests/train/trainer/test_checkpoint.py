"""Files and folders are written completely or not at all."""

from __future__ import annotations

import shutil

import pytest

from rewardkit.errors import DataError, OutputError
from rewardkit.train.trainer import atomic_folder
from rewardkit.train.trainer.atomic_folder import write_file, write_folder
from rewardkit.train.trainer.checkpoint import Checkpoints


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
