"""A composite reward in verl's reward loop."""

import asyncio
import math
import os

import pytest

from rewardkit.errors import DataError, TooManyUnscoredError, UsageError
from rewardkit.integrations.common import NotScoredError
from rewardkit.integrations.verl import RewardkitRewardManager, compute_score

from .conftest import ANSWERS, BROKEN, COMPLETIONS, GROUPS, MATH, SCORED, TOKENS, advantages


def score(file: str, truth="5", solution="\\boxed{5}", extra=None, **options):
    """Call the function as verl does."""
    arguments = {"data_source": "d", "solution_str": solution, "ground_truth": truth, "extra_info": extra or {}}
    return asyncio.run(compute_score(**arguments, file=file, **options))


def test_the_function_scores(file) -> None:
    """The score and each component's value, under the same keys for every row."""
    assert score(file()) == {"score": 1.0, "rewardkit/unscored": 0.0, "rewardkit/right": 1.0}


def test_a_failure_ends_the_run(file) -> None:
    """Of a group with 25 % failures the failed one raises, and the others have the advantages of a group without it."""
    path, found = file(), []
    for truth, solution in zip(ANSWERS, COMPLETIONS, strict=True):
        if truth == BROKEN:
            with pytest.raises(NotScoredError, match="not scored \\(reference\\)"):
                score(path, truth, solution)
        else:
            found.append(score(path, truth, solution)["score"])
    assert advantages(found) == pytest.approx(advantages(SCORED), abs=1e-6)


def test_a_number_is_only_on_wish(file) -> None:
    """A stated number stands for a failure, which is marked; the keys stay the same."""
    found = score(file(), BROKEN, unscored=-1.0)
    assert (found["score"], found["rewardkit/unscored"]) == (-1.0, 1.0)
    assert math.isnan(found["rewardkit/right"])
    assert found.keys() == score(file()).keys()


def test_too_many_numbers_end_the_run(file) -> None:
    """Above the reward file's share of failures the run ends, even where a number was stated."""
    path = file()
    for _ in range(199):
        score(path, BROKEN, unscored=0.0)
    with pytest.raises(TooManyUnscoredError):
        score(path, BROKEN, unscored=0.0)


def test_what_verl_can_not_give_is_refused(file) -> None:
    """Groups and tokens are refused by name before anything is scored; a missing column, too."""
    with pytest.raises(UsageError, match="compares the rollouts of a group"):
        score(file(GROUPS))


def test_tokens_are_refused_by_the_function(file) -> None:
    """The plain function is not told the tokens."""
    with pytest.raises(UsageError, match="short needs the number of tokens"):
        score(file(TOKENS))


def test_a_missing_column_is_named(file) -> None:
    """A reward that reads another column says which."""
    with pytest.raises(DataError, match="verl's row has no column 'answer'"):
        score(file(MATH), reference="solution")


def test_a_finish_reason_needs_the_largest_length(file) -> None:
    """Without verl's limit of a response the manager can't tell a truncated one, so a reward that reads this is refused."""
    config = {"reward": {"reward_kwargs": {"file": file(MATH + "gate: \"finish_reason != 'length'\"\n")}}, "data": {}}
    with pytest.raises(UsageError, match=r"set data\.max_response_length"):
        RewardkitRewardManager(config, None)


@pytest.fixture
def manager():
    """Return a function that makes a reward manager by verl's own loader."""
    pytest.importorskip("verl", reason="needs verl, which has an environment of its own: make test-integrations")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    from omegaconf import OmegaConf
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from verl.trainer.ppo.reward import load_reward_manager

    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *map(chr, range(32, 127))])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    from tokenizers import decoders

    raw.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")

    def make(**options):
        module = {"path": "pkg://rewardkit.integrations.verl", "name": "RewardkitRewardManager"}
        chosen = {"source": "importlib", "name": "RewardkitRewardManager", "module": module}
        reward = {"reward_manager": chosen, "reward_kwargs": options, "custom_reward_function": {"path": None}}
        config = {"data": {"max_response_length": 12}, "reward": {**reward, "reward_model": {"enable": False}}}
        return load_reward_manager(OmegaConf.create(config), tokenizer), tokenizer

    return make


def batch(tokenizer, answers, completions):
    """A batch as verl's rollout gives it."""
    import numpy as np
    import torch
    from verl import DataProto

    ids = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in completions]
    width, count = max(map(len, ids)), len(ids)
    truths = [{"ground_truth": answer} for answer in answers]
    cells = {
        "data_source": ["d"] * count,
        "reward_model": truths,
        "raw_prompt": [[{"role": "user", "content": "2+3?"}]] * count,
        "extra_info": [{"index": number, "tags": np.array(["x"])} for number in range(count)],
    }
    return DataProto.from_dict(
        tensors={
            "responses": torch.tensor([item + [0] * (width - len(item)) for item in ids]),
            "attention_mask": torch.tensor([[1] * (4 + len(item)) + [0] * (width - len(item)) for item in ids]),
            "prompts": torch.zeros(count, 4, dtype=torch.long),
        },
        non_tensors={name: np.array([*values, None], dtype=object)[:-1] for name, values in cells.items()},
    )


def test_the_real_manager_ends_the_run(manager, file, truth) -> None:
    """In verl's reward loop a failure raises, and the scored siblings' advantages are those of a group without it."""
    made, tokenizer = manager(file=file())
    data = batch(tokenizer, ANSWERS, COMPLETIONS)

    async def run():
        return await asyncio.gather(*(made.run_single(data[i : i + 1]) for i in range(4)), return_exceptions=True)

    failed, *others = made.loop.run_until_complete(run())
    assert isinstance(failed, NotScoredError)
    found = [item["reward_score"] for item in others]
    assert advantages(found) == pytest.approx(advantages(SCORED), abs=1e-6)
    truth("verl, reward manager", "verl", "raises `NotScoredError`; on wish a stated number, marked")


def test_the_real_manager_knows_tokens(manager, file) -> None:
    """The manager tells tokens, so rewards that count them work: 10 of 16 tokens with a buffer of 8 cost 0.25."""
    made, tokenizer = manager(file=file(TOKENS))
    assert isinstance(made, RewardkitRewardManager)
    data = batch(tokenizer, ["5"], ["\\boxed{5}"])
    found = made.loop.run_until_complete(made.run_single(data))
    assert found["reward_extra_info"]["rewardkit/short"] == -0.25
    assert found["reward_score"] == 0.75


def test_the_real_manager_marks_numbers(manager, file) -> None:
    """With a stated number every row has the same keys, from which verl makes its arrays, and failures are marked."""
    made, tokenizer = manager(file=file(), unscored=0.0)
    data = batch(tokenizer, ANSWERS, COMPLETIONS)

    async def run():
        return await asyncio.gather(*(made.run_single(data[i : i + 1]) for i in range(4)))

    infos = [item["reward_extra_info"] for item in made.loop.run_until_complete(run())]
    assert [info["rewardkit/unscored"] for info in infos] == [1.0, 0.0, 0.0, 0.0]
    assert len({tuple(info) for info in infos}) == 1
