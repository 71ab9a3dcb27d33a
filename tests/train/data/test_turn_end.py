"""Chat templates whose turns end with another token than completions, and special tokens around prompts."""

from __future__ import annotations

import json
import shutil

import pytest
from tokenizers import processors

from rewardkit.errors import ConfigError
from rewardkit.rollout_engine import Request, Sampling
from rewardkit.train.config import ModelConfig, PairData, SftData, TextData
from rewardkit.train.config.reading import read_train_config
from rewardkit.train.config.stages import STAGES
from rewardkit.train.data.preference_pairs import AnswerRenderer
from rewardkit.train.data.rows import Row
from rewardkit.train.data.tokenization import Renderer
from rewardkit.train.data.turn_end import turn_end_problem
from rewardkit.train.data.weight_functions import by_pattern
from rewardkit.train.evaluation.evaluator import evaluate_models
from rewardkit.train.models.loading import configured_end_token_ids, load_tokenizer
from rewardkit.train.models.policy import Policy
from rewardkit.train.preflight.preview import preview
from rewardkit.train.rollout.engines.hf import HfEngine, _Batch
from rewardkit.train.trainer.launch import launch

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def chat_model(work, tmp_path_factory):
    """Return a base model whose ChatML template ends turns with <|im_end|>, while its end-of-sequence token is <|end|>."""
    import transformers

    folder = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(work / "base", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    rows = [{"prompt": f"{a}+1=?", "answer": str(a + 1), "completion": str(a + 1), "bad": str(a)} for a in range(8)]
    (folder.parent / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def configuration(chat_model, output, stage, model=None, **settings):
    """Return the configuration of a short run on chat prompts."""
    rows = str(chat_model.parent / "rows.jsonl")
    rollouts = {
        "reward": {"components": {"length": {"use": "length.penalty", "with": {"per_token": 0.02}}}},
        "rollout": {"prompts_per_step": 2, "group_size": 2, "max_new_tokens": 6},
    }
    own = {
        "sft": {"data": {"train": rows, "as_chat": True}, "batch_size": 2},
        "dpo": {"data": {"train": rows, "as_chat": True, "chosen": "completion", "rejected": "bad"}, "batch_size": 2},
        "grpo": {"data": {"train": rows, "as_chat": True}, **rollouts},
        "ppo": {"data": {"train": rows, "as_chat": True}, **rollouts},
    }[stage]
    return {
        "version": 1,
        "stage": stage,
        "output": str(output),
        "model": {"path": str(chat_model), **(model or {})},
        "steps": 1,
        "threads": 1,
        **own,
        **settings,
    }


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo", "ppo"])
def test_a_turn_end_that_is_no_end_token_is_an_error_in_every_stage(chat_model, tmp_path, stage):
    """With the remedy, before anything is trained; check reports the same."""
    file = read_train_config(configuration(chat_model, tmp_path / "run", stage))
    with pytest.raises(
        ConfigError, match=r"ends the assistant's turn with '<\|im_end\|>'.*set model.eos_token: '<\|im_end\|>'"
    ):
        launch(file, STAGES[stage].runner())
    assert any("set model.eos_token: '<|im_end|>'" in problem for problem in preview(file).problems)


def test_it_is_an_error_of_an_evaluation(chat_model, tmp_path):
    """Whose completions would run on, too."""
    settings = configuration(chat_model, tmp_path / "run", "grpo")
    settings["data"]["eval"] = settings["data"]["train"]
    file = read_train_config(settings | {"evaluate": {"correct": "length > 0"}})
    with pytest.raises(ConfigError, match=r"set model.eos_token: '<\|im_end\|>'"):
        evaluate_models(file, [None], 0, None, lambda _progress: None)


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_model_eos_token_is_the_remedy(chat_model, tmp_path, stage):
    """The run is accepted, and the saved model ends with that token without the setting."""
    file = read_train_config(configuration(chat_model, tmp_path / "run", stage, model={"eos_token": "<|im_end|>"}))
    assert not preview(file).problems
    final = launch(file, STAGES[stage].runner())
    policy = Policy.load(ModelConfig(path=str(final)))
    ends = {policy.tokenizer.convert_ids_to_tokens(token) for token in policy.eos_ids}
    assert "<|im_end|>" in ends
    assert policy.tokenizer.eos_token_id == policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert configured_end_token_ids(ModelConfig(path=str(final)), policy.tokenizer) == policy.eos_ids


def test_an_end_token_that_the_tokenizer_lacks_is_refused(chat_model):
    """The message names the key."""
    with pytest.raises(ConfigError, match=r"model\.eos_token: the tokenizer of .* has no token '<\|eot\|>'"):
        load_tokenizer(ModelConfig(path=str(chat_model), eos_token="<|eot|>"))  # noqa: S106 - no password


def test_a_stop_text_that_is_a_special_token_ends_completions(chat_model, tmp_path):
    """So it is a remedy in reinforcement learning, and the sampled completion ends with it."""
    settings = configuration(chat_model, tmp_path / "run", "grpo")
    settings["rollout"]["stop"] = ["<|im_end|>"]
    file = read_train_config(settings)
    assert not preview(file).problems
    launch(file, STAGES["grpo"].runner())
    policy = Policy.load(ModelConfig(path=str(chat_model)), stop=["<|im_end|>"])
    end = policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in policy.eos_ids
    with_bias = policy.lm.get_input_embeddings().weight
    with_bias.data[end] = 5 * with_bias.data.abs().max() * with_bias.data[7].sign()
    requests = [Request((7, 8), list(range(20)))]
    [[(_, completions)]] = HfEngine(policy).generate(requests, Sampling(60, stop=("<|im_end|>",)))
    ended = [item for item in completions if end in item.tokens]
    assert ended
    assert all(item.tokens.index(end) == len(item.tokens) - 1 and item.finish_reason == "stop" for item in ended)


def test_a_template_that_ends_turns_with_plain_text_is_refused(chat_model):
    """The remedy is another template."""
    tokenizer = load_tokenizer(ModelConfig(path=str(chat_model)))
    tokenizer.chat_template = "{% for m in messages %}{{ m.role[0] + ':' + m.content + '\n' }}{% endfor %}"
    problem = turn_end_problem(tokenizer, {tokenizer.eos_token_id})
    assert "ends the assistant's turn with '\\n'" in problem
    assert "chat template (model.chat_template) with '<|end|>'" in problem
    assert turn_end_problem(tokenizer, {tokenizer.eos_token_id}, stop=["\n"]) is None


@pytest.mark.parametrize("text", ["{{ m.content }}<|end|>", "{{ m.content }}<|end|>\n"])
def test_a_template_that_ends_turns_with_the_end_token_is_right(chat_model, text):
    """Whatever follows it."""
    tokenizer = load_tokenizer(ModelConfig(path=str(chat_model)))
    tokenizer.chat_template = "{% for m in messages %}" + text + "{% endfor %}"
    assert turn_end_problem(tokenizer, {tokenizer.eos_token_id}) is None


def test_one_of_several_end_tokens_suffices(chat_model):
    """As in models whose generation configuration names several."""
    tokenizer = load_tokenizer(ModelConfig(path=str(chat_model)))
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert turn_end_problem(tokenizer, ends) is None


def special_tokens_added(chat_model, single):
    """Return a tokenizer that puts special tokens around every text."""
    tokenizer = load_tokenizer(ModelConfig(path=str(chat_model)))
    tokenizer.bos_token = "<|im_start|>"  # noqa: S105 - no password
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|im_start|>", "<|end|>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return tokenizer


def prompt_of(tokenizer, tmp_path, prompt):
    """Return the tokens of a prompt as strings."""
    renderer = Renderer(tokenizer, TextData(train="unused"))
    found = renderer.prompt(Row({"prompt": prompt}, tmp_path / "rows.jsonl", 1))
    return tokenizer.convert_ids_to_tokens(list(found.tokens))


@pytest.mark.parametrize("prompt", ["1", "<|im_start|>1", [{"role": "user", "content": "1"}]])
def test_prompts_begin_with_one_beginning_of_sequence_token(chat_model, tmp_path, prompt):
    """Also if the text or the template already has one."""
    tokenizer = special_tokens_added(chat_model, "<|im_start|> $A")
    tokenizer.chat_template = "<|im_start|><|im_start|>{{ messages[0].content }}"
    found = prompt_of(tokenizer, tmp_path, prompt)
    assert found == ["<|im_start|>", "1"]


def test_prompts_do_not_end_with_an_added_end_of_sequence_token(chat_model, tmp_path):
    """The completion would follow after the end of the text. One that the text itself ends with stays."""
    tokenizer = special_tokens_added(chat_model, "$A <|end|>")
    assert prompt_of(tokenizer, tmp_path, "1+1") == ["1", "+", "1"]
    assert prompt_of(tokenizer, tmp_path, "1<|end|>") == ["1", "<|end|>"]


def test_a_response_has_one_end_of_sequence_token(chat_model, tmp_path):
    """Also if its text already ends with one, and in whole texts of pairs with a tokenizer that adds one."""
    tokenizer = special_tokens_added(chat_model, "$A <|end|>")
    renderer = Renderer(tokenizer, SftData(train="unused"))
    [example] = renderer.examples(Row({"prompt": "1", "completion": "2<|end|>"}, tmp_path / "rows.jsonl", 1))
    assert tokenizer.convert_ids_to_tokens(list(example.tokens)) == ["1", "2", "<|end|>"]
    pair = AnswerRenderer(tokenizer, PairData(train="unused")).pair(
        Row({"chosen": "12", "rejected": "13<|end|>"}, tmp_path / "rows.jsonl", 1)
    )
    assert [tokenizer.convert_ids_to_tokens(list(one.tokens))[1:] for one in (pair.chosen, pair.rejected)] == [
        ["2", "<|end|>"],
        ["3", "<|end|>"],
    ]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "1<|im_start|>2<|im_end|>"),
        ({"stop": ["<|im_start|>"]}, "1<|im_start|>2<|im_end|>"),
        ({"stop": ["<|im_end|>"]}, "1<|im_start|>2"),
        ({"skip_special_tokens": True}, "12"),
    ],
)
def test_special_tokens_of_a_completion_reach_the_reward(chat_model, settings, text):
    """Except for those that end or pad it or end a turn; a setting leaves all of them out."""
    policy = Policy.load(ModelConfig(path=str(chat_model)), **settings)
    assert policy.tokenizer.pad_token_id in policy.silent_ids
    tokens = policy.tokenizer("1<|im_start|>2<|im_end|><|end|>")["input_ids"]
    assert policy.decode([*tokens, policy.tokenizer.pad_token_id]) == text


def test_a_stop_text_may_contain_a_special_token(chat_model):
    """The engine hf finds it, as vllm does."""
    policy = Policy.load(ModelConfig(path=str(chat_model)))
    one, end = policy.tokenizer("1<|im_start|>")["input_ids"]
    batch = _Batch(policy, [Request((7, 8), [0])], Sampling(9, stop=("1<|im_start|>",)))
    assert batch.ends_in_stop([5, one, end])
    assert not batch.ends_in_stop([one, 5, end])


def test_weights_of_responses_see_special_tokens(chat_model, tmp_path):
    """A pattern may weigh what stands between two of them."""
    tokenizer = load_tokenizer(ModelConfig(path=str(chat_model)))
    renderer = Renderer(tokenizer, SftData(train="unused"))
    row = Row({"prompt": "1", "completion": "<|im_start|>2<|im_start|>3"}, tmp_path / "rows.jsonl", 1)
    [example] = renderer.examples(row, [by_pattern(r"<\|im_start\|>.*<\|im_start\|>", 0.5)])
    assert example.weights == (0.5, 0.5, 0.5, 1.0, 1.0)


@pytest.fixture
def merging_tokenizer():
    """Return a byte-level tokenizer that merges two line breaks, as those of Qwen, Llama 3 and Gemma do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [*"Ċabcdefghijklmnopqrstuvwxyz?", "ĊĊ", "<|im_start|>", "<|im_end|>", "<|end|>"]
    core = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, merges=[("Ċ", "Ċ")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = {"eos_token": "<|end|>", "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.mark.parametrize("answer", ["a", "\na", "\n\na", "\n"])
def test_a_response_may_begin_with_what_the_prompt_ends_with(merging_tokenizer, tmp_path, answer):
    """Even if the tokenizer would merge both: the example begins with the tokens that are sampled from."""
    renderer = Renderer(merging_tokenizer, SftData(train="unused"))
    row = Row({"prompt": [{"role": "user", "content": "q?"}], "completion": answer}, tmp_path / "rows.jsonl", 1)
    [example] = renderer.examples(row)
    assert example.tokens[: example.start] == renderer.prompt(row).tokens
    assert merging_tokenizer.decode(example.tokens[example.start :]) == f"{answer}<|im_end|>\n"


def test_a_turn_ends_with_any_of_the_tokens_that_end_a_completion(merging_tokenizer, tmp_path):
    """Also with one that only the generation configuration names; the template's white space after it has no weight."""
    ends = {merging_tokenizer.eos_token_id, merging_tokenizer.convert_tokens_to_ids("<|im_end|>")}
    messages = [{"role": role, "content": "abc"} for role in ("user", "assistant", "user", "assistant")]
    row = Row({"m": messages, "prompt": messages[:1], "c": "x", "r": "y"}, tmp_path / "rows.jsonl", 1)
    [example] = Renderer(merging_tokenizer, SftData(train="unused", messages="m"), end_ids=ends).examples(row)
    weighed = [token for token, weight in zip(example.tokens[example.start :], example.weights, strict=True) if weight]
    assert merging_tokenizer.decode(weighed) == "abc<|im_end|>abc<|im_end|>"
    pair = AnswerRenderer(merging_tokenizer, PairData(train="unused", chosen="c", rejected="r"), ends).pair(row)
    assert merging_tokenizer.decode(pair.chosen.tokens[pair.chosen.start :]) == "x<|im_end|>"
