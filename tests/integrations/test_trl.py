"""A composite reward in TRL's trainers."""

import asyncio
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("trl", reason="needs TRL, of the extra peers")

from rewardkit.errors import DataError, TooManyUnscoredError, UsageError
from rewardkit.integrations.trl import reward_funcs

SIMPLE = """version: 1
components:
  right: {use: math, with: {reference: answer}}
  short: {use: length.overlong, with: {max_tokens: 16, buffer: 8}, weight: {linear: {from: 1.0, to: 0.0, steps: [0, 10]}}}
unscored: {policy: exclude, abort_above: 0.5}
"""
RELATIVE = """version: 1
components:
  right: {use: math, with: {reference: answer}, scale: zscore}
"""
BROKEN = "\\frac{1}{"
"""A reference that can't be understood, so that the row is unscored."""


@pytest.fixture
def reward(tmp_path: Path):
    """Write a reward file; returns the function that TRL calls."""

    def make(text: str = SIMPLE, **options):
        (tmp_path / "reward.yaml").write_text(text)
        return reward_funcs(tmp_path / "reward.yaml", **options)[0]

    return make


class State:
    """What TRL tells of the training."""

    def __init__(self, step: int) -> None:
        self.global_step = step


def call(function, answers, completions, tokens=4, **more):
    """Call as TRL does, with tokens of equal number."""
    ids = [[7] * tokens] * len(completions)
    known = {"trainer_state": State(0), **more}
    return function(
        prompts=["q"] * len(completions), completions=completions, completion_ids=ids, answer=answers, **known
    )


def test_an_unscored_rollout_is_none(reward):
    """A reference that can't be understood is never a reward of 0."""
    assert call(reward(), ["4", BROKEN, "4"], ["4", "4", "5"]) == [1.0, None, 0.0]


def test_components_are_logged(reward):
    """Values of each component go to TRL's table of completions, means and the share of unscored ones to its metrics."""
    extra, metrics = {}, {}
    call(reward(), ["4", BROKEN], ["4", "4"], log_extra=extra.__setitem__, log_metric=metrics.__setitem__)
    assert extra == {"right": [1.0, None], "short": [0.0, 0.0]}
    assert metrics == {"rewardkit/right": 1.0, "rewardkit/short": 0.0, "rewardkit/unscored": 0.5}


def test_weights_follow_the_training_step(reward):
    """Schedules read TRL's global step: the penalty of 12 of 16 tokens with a buffer of 8 is 0.5."""
    function = reward()
    assert call(function, ["4"], ["4"], tokens=12, trainer_state=State(0)) == [0.5]
    assert call(function, ["4"], ["4"], tokens=12, trainer_state=State(10)) == [1.0]


def test_a_missing_column_is_refused(reward):
    """The first call names the column that the reward reads and the data set lacks."""
    with pytest.raises(DataError, match=r"no column 'answer', which reward\.yaml reads"):
        reward()(prompts=["q"], completions=["4"], completion_ids=[[7]])


def test_group_rewards_need_the_size_of_groups(reward):
    """Without ``num_generations`` a group-relative reward can't know which rollouts to compare."""
    with pytest.raises(UsageError, match="pass num_generations"):
        reward(RELATIVE)


def test_equal_prompts_are_two_groups(reward):
    """Groups are blocks of ``num_generations`` rows, even where a batch holds the same prompt twice."""
    found = call(reward(RELATIVE, num_generations=2), ["4"] * 4, ["4", "5", "4", "4"])
    assert found[0] == -found[1] != 0
    assert found[2:] == [0.0, 0.0]


def test_a_split_group_is_refused(reward):
    """A process that got a part of a group must not compare it with another prompt's rollouts."""
    function = reward(RELATIVE, num_generations=2)
    with pytest.raises(UsageError, match="got a part of one"):
        function(prompts=["q", "r"], completions=["4", "4"], completion_ids=[[7], [7]], answer=["4", "4"])


def test_too_many_unscored_end_the_run(reward):
    """A run whose rollouts mostly can't be scored ends, with the reason of the last one."""
    with pytest.raises(TooManyUnscoredError, match=r"100% of 200 rollouts could not be scored .* reference: "):
        call(reward(), [BROKEN] * 200, ["4"] * 200)


def test_truncated_completions_are_known(reward):
    """A completion of ``max_completion_length`` tokens was cut off."""
    assert reward(max_completion_length=8)._finish_reason(8) == "length"
    assert reward(max_completion_length=8)._finish_reason(7) == "stop"
    assert reward()._finish_reason(8) is None


def test_it_pickles(reward):
    """AsyncGRPO hands the function to another process."""
    assert call(pickle.loads(pickle.dumps(reward())), ["4"], ["4"]) == [1.0]  # noqa: S301 - our own


def test_it_survives_a_fork(reward):
    """A forked process builds the reward anew."""
    function = reward()
    assert call(function, ["4"], ["4"]) == [1.0]
    if (child := os.fork()) == 0:
        os._exit(0 if call(function, ["4"], ["4"]) == [1.0] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_old_versions_are_refused(reward, monkeypatch):
    """Before 1.6 TRL counts None as 0."""
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1.5.2")
    with pytest.raises(UsageError, match=r"trl 1\.5\.2 counts rollouts without a score as 0"):
        reward()


@pytest.mark.filterwarnings("ignore")
def test_the_real_trainer_leaves_unscored_rollouts_out(reward, tmp_path, truth):
    """In GRPOTrainer, the advantages of scored siblings are those of the group without the unscored rows."""
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("trl")
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *map(chr, range(32, 127))])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Qwen2ForCausalLM(
        Qwen2Config(vocab_size=len(vocabulary), num_key_value_heads=2, pad_token_id=0, eos_token_id=1, **size)
    )
    function = reward(num_generations=4, max_completion_length=6)
    calls = []

    def values(prompts, completions, **columns):
        """Score as the function does, but make the first rollout of each group unscored and the others differ."""
        columns["answer"] = [BROKEN if index % 4 == 0 else "5" for index in range(len(prompts))]
        completions = ["5" if index % 4 == 1 else "6" for index in range(len(prompts))]
        calls.append(function(prompts=prompts, completions=completions, **columns))
        return calls[-1]

    arguments = peer.GRPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=6,
        max_steps=1,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        save_strategy="no",
        bf16=False,
        disable_tqdm=True,
    )
    data = Dataset.from_list([{"prompt": f"{number}+1=", "answer": "5"} for number in range(8)])
    trainer = peer.GRPOTrainer(
        model=model, args=arguments, reward_funcs=[values], train_dataset=data, processing_class=tokenizer
    )
    trainer.train()
    scored = torch.tensor([1.0, 0.0, 0.0])
    expected = ((scored - scored.mean()) / (scored.std() + 1e-4)).tolist()
    assert calls[0] == [None, 1.0, 0.0, 0.0] * 2
    for first in range(0, 8, 4):
        advantages = list(trainer._logs["advantages"])[first : first + 4]
        assert advantages[0] == 0
        truth(
            "TRL, reward function", "trl", "`None`: advantage 0, out of the baseline", advantages[1:], wanted=expected
        )


@pytest.mark.filterwarnings("ignore")
def test_async_grpo_leaves_unscored_rollouts_out(reward, truth):
    """AsyncGRPO's own code scores a group by the function; the scored siblings' advantages are those of the group without the failure."""
    pytest.importorskip("trl")
    from accelerate import PartialState
    from trl.experimental.async_grpo import async_rollout_worker as worker

    PartialState(cpu=True)  # its logger asks for it
    made = reward("version: 1\ncomponents:\n  right: {use: math, with: {reference: answer}}\n", num_generations=4)
    function = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
    chat = [[{"role": "user", "content": "q"}]] * 4
    said = [[{"role": "assistant", "content": text}] for text in ("5", "5", "6", "6")]
    sequence = SimpleNamespace(input_ids=[7], completion_mask=[1], old_log_probs=[0.0])
    group = worker.RolloutGroup(
        prompts=chat,
        reward_kwargs={"answer": [BROKEN, "5", "5", "5"]},
        completions=said,
        completions_ids=[[7]] * 4,
        completions_sequences=[[sequence]] * 4,
        tool_call_counts=[0] * 4,
        tool_failure_counts=[0] * 4,
        model_version=0,
        group_id=0,
        env_rewards=[None] * 4,
        rollout_rewards=[None] * 4,
    )
    loop = SimpleNamespace(
        reward_funcs=[function], reward_func_names=["rewardkit"], _env_reward_types=[], _provides_rollout_reward=False
    )
    samples = asyncio.run(worker._AsyncRolloutLoop._score_group(loop, group))
    found = [sample.advantage for sample in samples]
    spread = 2**0.5 / 3
    assert found[0] == 0
    truth(
        "TRL, AsyncGRPO",
        "trl",
        "`None`: advantage 0, out of the baseline",
        found[1:],
        wanted=[2 / 3 / spread, -1 / 3 / spread, -1 / 3 / spread],
    )


def test_async_grpo_gets_no_schedules(reward):
    """AsyncGRPO tells no step, so a weight that depends on it is refused."""
    with pytest.raises(UsageError, match="depends on the training step, which AsyncGRPO does not tell"):
        call(reward(), ["4"], ["4"], trainer_state=None)
