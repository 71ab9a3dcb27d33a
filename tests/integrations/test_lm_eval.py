"""A composite reward as the metrics of a task of the LM Evaluation Harness."""

import json

import pytest

from rewardkit.errors import DataError, UsageError
from rewardkit.integrations.lm_eval import process_results

from .conftest import ANSWERS, COMPLETIONS, GROUPS, MATH, SCORED, TOKENS


def test_completions_of_a_document_are_averaged(file) -> None:
    """The metrics are means over the completions that could be scored."""
    score = process_results(file())
    assert score({"answer": "5"}, [["\\boxed{5}", "\\boxed{6}"]]) == {"reward": 0.5, "right": 0.5, "unscored": 0.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GROUPS, "compares the rollouts"),
        (TOKENS, "number of tokens"),
        (MATH.replace("right:", "reward:"), "rename the component 'reward'"),
    ],
)
def test_unsuitable_rewards_are_refused(file, text: str, message: str) -> None:
    """What the harness can't give, and names that it needs, are refused when the function is made."""
    with pytest.raises(UsageError, match=message):
        process_results(file(text))


def test_a_missing_column_is_named(file) -> None:
    """A document without the column says so."""
    with pytest.raises(DataError, match="the document has no column 'answer'"):
        process_results(file())({"gold": "5"}, ["5"])


@pytest.mark.filterwarnings("ignore")
def test_the_real_harness_leaves_failures_out(file, tmp_path, monkeypatch, truth) -> None:
    """With 25 % failures, the harness's means are those of the scored documents."""
    pytest.importorskip("lm_eval", reason="needs lm_eval, which has an environment of its own: make test-integrations")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from lm_eval import evaluate
    from lm_eval.api.model import LM
    from lm_eval.api.task import ConfigurableTask

    rows = [{"question": f"{number}: 2+3?", "answer": answer} for number, answer in enumerate(ANSWERS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mean = {"aggregation": "mean", "higher_is_better": True}

    class Model(LM):
        def generate_until(self, requests, disable_tqdm=False):
            return [COMPLETIONS[int(request.args[0].split(":")[0])] for request in requests]

        def loglikelihood(self, requests):
            raise NotImplementedError

        def loglikelihood_rolling(self, requests):
            raise NotImplementedError

    task = ConfigurableTask(
        config={
            "task": "sums",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}, "cache_dir": str(tmp_path)},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{answer}}",
            "process_results": process_results(file(), prompt="question"),
            "metric_list": [{"metric": name, **mean} for name in ("reward", "right", "unscored")],
        }
    )
    found = evaluate(lm=Model(), task_dict={"sums": task}, bootstrap_iters=0, log_samples=False)["results"]["sums"]
    assert found["unscored,none"] == 0.25
    truth(
        "lm_eval, metrics",
        "lm_eval",
        "has no metric but `unscored`",
        [found["reward,none"], found["right,none"]],
        wanted=[sum(SCORED) / 3] * 2,
        kind="means",
    )
