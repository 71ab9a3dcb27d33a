"""A composite reward in OpenRLHF."""

import asyncio
import importlib.util
import os
import re
import sys
import types
from pathlib import Path

import pytest

from rewardkit.errors import DataError, UsageError
from rewardkit.integrations.common import NotScoredError
from rewardkit.integrations.openrlhf import reward_function

from .conftest import ANSWERS, BROKEN, COMPLETIONS, GROUPS, SCORED, TOKENS, advantages

torch = pytest.importorskip("torch")


def ask(function, answers=ANSWERS, completions=COMPLETIONS):
    """Call as OpenRLHF does, with decoded sequences."""
    return function([f"<s>2+3?{text}</s>" for text in completions], ["2+3?"] * len(answers), answers)


def test_rewards_and_logs(file) -> None:
    """Rewards are tensors, and each component's contribution is logged under the same keys for every sample."""
    found = ask(reward_function(file()), ["5", "5"], ["\\boxed{5}", "\\boxed{6}"])
    assert found["rewards"].tolist() == found["scores"].tolist() == [1.0, 0.0]
    assert {name: values.tolist() for name, values in found["extra_logs"].items()} == {
        "right": [1.0, 0.0],
        "unscored": [0.0, 0.0],
    }


def test_a_failure_raises(file) -> None:
    """Of a group with 25 % failures the failed sample raises; the others' advantages are those of a group without it."""
    function, found = reward_function(file()), []
    for answer, completion in zip(ANSWERS, COMPLETIONS, strict=True):
        if answer == BROKEN:
            with pytest.raises(NotScoredError, match="not scored \\(reference\\)"):
                ask(function, [answer], [completion])
        else:
            found += ask(function, [answer], [completion])["rewards"].tolist()
    assert advantages(found) == pytest.approx(advantages(SCORED), abs=1e-6)


def test_a_number_is_only_on_wish(file) -> None:
    """A stated number stands for failures, which are marked."""
    found = ask(reward_function(file(), unscored=-1.0))
    assert found["rewards"].tolist() == [-1.0, *SCORED]
    assert found["extra_logs"]["unscored"].tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(("text", "message"), [(GROUPS, "compares the rollouts"), (TOKENS, "number of tokens")])
def test_what_openrlhf_can_not_give_is_refused(file, text: str, message: str) -> None:
    """Groups and tokens are refused when the function is made."""
    with pytest.raises(UsageError, match=message):
        reward_function(file(text))


def test_a_label_without_the_column_is_refused(file) -> None:
    """A label that is an object must have the columns that the reward reads."""
    with pytest.raises(DataError, match=r"OpenRLHF's label has no column 'answer', .* it has 'solution'"):
        ask(reward_function(file()), [{"solution": "5"}], ["\\boxed{5}"])


def release() -> str:
    """The version of OpenRLHF: that of the unpacked wheel, or of the installed package."""
    found = re.search(r"openrlhf-([0-9.]+)\.data", os.environ.get("OPENRLHF_SOURCE", ""))
    return found[1] if found else "openrlhf"


@pytest.fixture
def executor():
    """Return a function that makes OpenRLHF's own executor, from the installed package or an unpacked wheel."""
    base = os.environ.get("OPENRLHF_SOURCE", "")
    if not Path(base, "utils", "agent.py").is_file() and importlib.util.find_spec("openrlhf") is None:
        pytest.skip("needs OpenRLHF, or the folder of its unpacked wheel in OPENRLHF_SOURCE: make test-integrations")
    pytest.importorskip("aiohttp")
    if base:
        for name, folder in (("openrlhf", base), ("openrlhf.utils", f"{base}/utils")):
            module = types.ModuleType(name)
            module.__path__ = [folder]
            sys.modules[name] = module
    from openrlhf.utils.agent import SingleTurnAgentExecutor

    return SingleTurnAgentExecutor


class Tokenizer:
    """A tokenizer of characters whose token 0 ends a text."""

    def __call__(self, text, **_):
        """Return the characters' numbers."""
        return {"input_ids": torch.tensor([[ord(character) for character in text]])}

    def decode(self, ids, skip_special_tokens):
        """Return the text, its end included."""
        return "".join("<|im_end|>" if number == 0 else chr(number) for number in ids)


class Engine:
    """An engine that always says the same."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def generate(self, ids, params, multi_modal_data=None):
        """Say it."""
        said = types.SimpleNamespace(
            token_ids=[*map(ord, self.text), 0], text=self.text, finish_reason="stop", logprobs=None
        )
        return types.SimpleNamespace(outputs=[said])


def rollout(executor, answer: str, completion: str):
    """Let OpenRLHF generate and score one sample."""
    limits = types.SimpleNamespace(max_tokens=64, logprobs=None)
    return asyncio.run(executor.execute("<|im_start|>2+3?", answer, limits, 4096, Tokenizer(), Engine(completion)))


def test_the_real_executor_never_gets_a_zero_for_a_failure(executor, file, tmp_path: Path, truth) -> None:
    """In OpenRLHF's own executor a failed sample has no reward, on which its trainer stops; the others have theirs."""
    (tmp_path / "reward_func.py").write_text(
        f"from rewardkit.integrations.openrlhf import reward_function\nreward_func = reward_function({file()!r})\n"
    )
    own = executor(str(tmp_path / "reward_func.py"))
    found = [rollout(own, *pair)["reward"] for pair in zip(ANSWERS, COMPLETIONS, strict=True)]
    assert found[0] is None
    siblings = advantages([value.item() for value in found[1:]])
    truth(
        "OpenRLHF, function",
        release(),
        "no reward, on which its trainer stops; on wish a stated number, marked",
        siblings,
    )


def test_the_service_answers_the_real_executor(executor, file, truth) -> None:
    """Against `rewardkit serve`, OpenRLHF's own client gets rewards, and none for a failure."""
    pytest.importorskip("uvicorn", reason="needs rewardkit[serve]")
    import subprocess

    command = [sys.executable, "-m", "rewardkit", "serve", file(), "--port", "0", "--no-cache"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = process.stderr.readline().split(" on ")[1].strip()
            own = executor(f"{address}/get_reward")
            found = [rollout(own, *pair)["reward"] for pair in zip(ANSWERS, COMPLETIONS, strict=True)]
        finally:
            process.terminate()
    assert found == [None, *([value] for value in SCORED)]
    siblings = advantages([value for (value,) in found[1:]])
    truth("OpenRLHF, service", release(), "tried again, then no reward, on which its trainer stops", siblings)
