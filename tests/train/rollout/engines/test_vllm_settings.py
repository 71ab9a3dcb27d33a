"""What the engine ``vllm`` asks vLLM for, without vLLM."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

from rewardkit.rollout_engine import Sampling
from rewardkit.train.rollout.engines.vllm import VllmEngine


def test_stop_texts_are_looked_for_among_special_tokens(monkeypatch):
    """As the engine hf does: a stop text may be or contain a special token, and stays in the completion."""
    vllm, params = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    vllm.SamplingParams = lambda **settings: settings
    params.RequestOutputKind = SimpleNamespace(FINAL_ONLY="final")
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)
    engine = VllmEngine.__new__(VllmEngine)
    engine.setup = SimpleNamespace(eos_ids={3, 1})
    found = engine._settings(Sampling(9, stop=("</think>\n",)), seed=5)
    assert (found["skip_special_tokens"], found["spaces_between_special_tokens"]) == (False, False)
    assert (found["stop"], found["include_stop_str_in_output"], found["detokenize"]) == (["</think>\n"], True, True)
    assert found["stop_token_ids"] == [1, 3]
