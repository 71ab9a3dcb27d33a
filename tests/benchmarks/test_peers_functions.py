"""The comparison with functions of other libraries finds equal numbers on a few rows."""

import importlib.util
import itertools
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs TRL, of the extra peers")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peers_functions.py"


def test_a_reward_file_gives_the_numbers_of_direct_calls(tmp_path, monkeypatch):
    """Twenty rows by one of TRL's functions: equal, and not all the same."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("peers_functions", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "peers_functions", module)
    spec.loader.exec_module(module)
    (tmp_path / "rollouts").mkdir()
    items = [
        {"question": "2+3?", "ground_truth": "5 it is\nA: 5", "model": {"solution": f"Try {number}\nA: {number}"}}
        for number in range(20)
    ]
    file = tmp_path / "rollouts" / "gsm8k_model_solutions.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in items))
    rows = list(itertools.islice(module.solutions(tmp_path), 20))
    peer = next(item for item in module.PEERS if item.use.endswith("think_format_reward"))
    found = module.compare(peer, rows)
    assert (found["rows"], found["equal"], found["none"], found["mean"]) == (20, 20, 0, 0.25)
