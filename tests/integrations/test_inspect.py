"""A composite reward as a scorer of Inspect."""

import math

import pytest

inspect_ai = pytest.importorskip(
    "inspect_ai", reason="needs inspect_ai, which has an environment of its own: make test-integrations"
)

from inspect_ai import Task, eval  # noqa: A004
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model

from rewardkit.errors import UsageError
from rewardkit.integrations.inspect import reward_scorer

from .conftest import ANSWERS, COMPLETIONS, GROUPS, SCORED, TOKENS


def output(text: str) -> ModelOutput:
    """An answer of the mock model, with its usage: else Inspect downloads a tokenizer to count."""
    made = ModelOutput.from_content("mock", text)
    made.usage = ModelUsage(input_tokens=5, output_tokens=12, total_tokens=17)
    return made


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Return a function that evaluates samples with a reward file; it returns the log."""
    monkeypatch.setenv("INSPECT_DISPLAY", "none")

    def run(file: str, answers=ANSWERS, completions=COMPLETIONS):
        samples = [Sample(input="2+3?", target=answer) for answer in answers]
        model = get_model("mockllm/model", custom_outputs=[output(text) for text in completions])
        task = Task(dataset=samples, scorer=reward_scorer(file))
        (log,) = eval(task, model=model, log_dir=str(tmp_path / "logs"), max_connections=1, max_samples=1)
        assert log.status == "success", log.error
        return log

    return run


def test_failures_are_in_no_mean(evaluate, file, truth) -> None:
    """With 25 % failures, means are those of the scored samples, and the unscored one is counted."""
    log = evaluate(file())
    scores = {item.name: item for item in log.results.scores}
    assert (scores["reward"].scored_samples, scores["reward"].unscored_samples) == (3, 1)
    failed = log.samples[0].scores["rewardkit"]
    assert failed.metadata["unscored"]["kind"] == "reference"
    assert not isinstance(failed.value, dict)
    assert math.isnan(failed.value)
    means = [scores[name].metrics["mean"].value for name in ("reward", "right")]
    truth(
        "Inspect, scorer", "inspect_ai", "`Score.unscored`, counted", means, wanted=[sum(SCORED) / 3] * 2, kind="means"
    )


def test_tokens_and_components(evaluate, file) -> None:
    """Each component has a metric, and the tokens that the model reports are read: 12 of 16 with a buffer of 8 cost 0.5."""
    log = evaluate(file(TOKENS), ["5"], ["\\boxed{5}"])
    assert log.samples[0].scores["rewardkit"].value == {"reward": 0.5, "right": 1.0, "short": -0.5}


def test_groups_are_refused(file) -> None:
    """Inspect scores one sample at a time."""
    with pytest.raises(UsageError, match="Inspect scores one rollout at a time"):
        reward_scorer(file(GROUPS))
