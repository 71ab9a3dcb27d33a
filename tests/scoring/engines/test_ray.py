"""The same rows through Ray Data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from rewardkit.cli import run
from rewardkit.scoring import run as scoring_run
from rewardkit.scoring.engines import ray

REWARD = """
version: 1
components:
  form: {use: format.boxed, weight: 0.2}
  rank: {use: length.overlong, with: {max_chars: 50, buffer: 40}, scale: zscore}
unscored: {abort_above: 1.0}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two CPUs on this machine."""
    ray = pytest.importorskip("ray", reason="ray is not installed (pip install 'rewardkit[ray]')")
    pytest.importorskip("ray.data")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixed groups, broken lines and resumption included, Ray gives what this machine alone gives."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scoring_run, "_CHUNK_ROWS", 50)
    monkeypatch.setattr(ray, "_WAVE_CHUNKS", 3)
    rows = [{"prompt": f"p{index % 60}", "completion": "x" * (index % 70), "id": index} for index in range(600)]
    lines = [orjson.dumps(row) for row in rows]
    lines.insert(100, b"{broken")
    Path("rows.jsonl").write_bytes(b"\n".join(lines))
    Path("reward.yaml").write_text(REWARD)
    for engine in ("local", "ray"):
        arguments = ["score", "rows.jsonl", "--reward", "reward.yaml", "--out", f"{engine}.jsonl", "--no-cache"]
        assert run([*arguments, "--engine", engine]) == 0
    for name in ("jsonl", "jsonl.rejected.jsonl"):
        assert Path(f"ray.{name}").read_bytes() == Path(f"local.{name}").read_bytes()


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where Ray is missing, the error says what to install."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    Path("rows.jsonl").write_text('{"prompt": "p", "completion": "c"}\n')
    Path("reward.yaml").write_text("version: 1\ncomponents:\n  form: {use: format.boxed}\n")
    assert run(["score", "rows.jsonl", "--reward", "reward.yaml", "--out", "o.jsonl", "--engine", "ray"]) == 2
    assert "pip install 'rewardkit[ray]'" in capsys.readouterr().err
