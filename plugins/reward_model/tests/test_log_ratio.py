"""The log-ratio of two language models."""

import math

import pytest
from rewardkit_reward_model import LogRatioReward

from rewardkit import Rollout, Unscored

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

TEMPLATE = (
    "{% for m in messages %}[{{ m.role[0] }}{{ m.content }}]{% endfor %}{% if add_generation_prompt %}[a{% endif %}"
)
ROLLOUTS = [Rollout("say it: ", text) for text in ("yes!", "no", "a longer answer.\n\nin two steps", "yes!", "")]


@pytest.fixture
def reward(language_models):
    """``reward(…)`` is the reward of the two random models."""
    trained, base = map(str, language_models)
    return lambda **params: LogRatioReward(model=trained, reference=base, **params)


def by_transformers(folder, prompt, completion):
    """Return the log-probs of a completion's tokens and of its end as transformers gives them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    before = tokenizer(prompt)["input_ids"]
    own = [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id]
    with torch.inference_mode():
        logprobs = model(torch.tensor([[*before, *own]])).logits[0].log_softmax(-1)
    return [logprobs[len(before) + place - 1, token].item() for place, token in enumerate(own)]


def test_values_are_those_of_transformers(reward, language_models):
    """In a padded batch of small tiles every token has the log-ratio that transformers gives it alone."""
    found = reward(beta=0.5, level="token", batch_tokens=64)(ROLLOUTS)
    for rollout, score in zip(ROLLOUTS, found, strict=True):
        one, other = (by_transformers(folder, rollout.prompt, rollout.completion) for folder in language_models)
        expected = [0.5 * (a - b) for a, b in zip(one, other, strict=True)]
        assert score.steps == pytest.approx(expected, abs=1e-3)
        assert score.value == pytest.approx(sum(expected), abs=1e-3)
        assert score.metrics["logprob"] == pytest.approx(sum(one), abs=1e-3)
        assert score.metrics["reference_logprob"] == pytest.approx(sum(other), abs=1e-3)
        assert score.metrics["tokens"] == len(one)
    assert found[0].value == found[3].value


def test_tiles_change_nothing(reward, monkeypatch):
    """Logits of a single token at a time give the same values."""
    whole = [score.value for score in reward()(ROLLOUTS)]
    monkeypatch.setattr("rewardkit.language_models.TILE_LOGITS", 1)
    assert [score.value for score in reward()(ROLLOUTS)] == pytest.approx(whole, abs=1e-3)


def test_steps_end_with_the_separator(reward):
    """A step's value is the sum of its tokens'; the end belongs to the last step."""
    rollout = Rollout("q", "ab.cd")
    (tokens,) = (score.steps for score in reward(level="token")([rollout]))
    (score,) = reward(level="step", separator=".")([rollout])
    assert score.steps == pytest.approx([sum(tokens[:3]), sum(tokens[3:])], abs=1e-3)
    (mean,) = reward(level="step", separator=".", length_normalized=True)([rollout])
    assert mean.steps == pytest.approx([sum(tokens[:3]) / 3, sum(tokens[3:]) / 3], abs=1e-3)
    assert mean.value == pytest.approx(sum(tokens) / 6, abs=1e-3)


def test_a_truncated_completion_has_no_end(reward):
    """With end: unless_truncated the end counts only where the model wrote it."""
    cut, whole = Rollout("q", "abc", finish_reason="length"), Rollout("q", "abc", finish_reason="stop")
    counts = [score.metrics["tokens"] for score in reward(end="unless_truncated")([cut, whole])]
    assert counts == [3, 4]
    assert reward()([cut])[0].metrics["tokens"] == 4
    (empty,) = reward(end="unless_truncated")([Rollout("q", "", finish_reason="length")])
    assert isinstance(empty, Unscored)
    assert "no completion" in empty.message


def test_what_has_no_log_ratio_is_unscored(reward):
    """An empty prompt, messages without a template, and a dialogue beyond the context name the reason, and leave others alone."""
    long, unprompted, chat, scored = reward()(
        [Rollout("q" * 40, "a" * 40), Rollout("", "a"), Rollout([{"role": "user", "content": "q"}], "a"), ROLLOUTS[0]]
    )
    assert (long.kind, long.message) == ("input", "prompt and completion have 81 tokens, and the limit is 64")
    assert "prompt is empty" in unprompted.message
    assert "no chat template" in chat.message
    assert math.isfinite(scored.value)


def test_chat_is_rendered_as_in_training(tmp_path, language_model):
    """The assistant's tokens count up to the end of its turn, and text becomes a message with as_chat."""
    trained = language_model(tmp_path / "trained", seed=1, template=TEMPLATE)
    base = language_model(tmp_path / "base", seed=2)
    chat = Rollout([{"role": "user", "content": "q"}], [{"role": "assistant", "content": "abc"}])
    (by_chat,) = LogRatioReward(model=str(trained), reference=str(base))([chat])
    (as_chat,) = LogRatioReward(model=str(trained), reference=str(base), as_chat=True)([Rollout("q", "abc")])
    one, other = (by_transformers(folder, "[uq][a", "abc") for folder in (trained, base))
    assert by_chat.value == as_chat.value == pytest.approx(sum(one) - sum(other), abs=1e-3)
    (silent,) = LogRatioReward(model=str(trained), reference=str(base))([Rollout(chat.prompt, [chat.prompt[0]])])
    assert "no message of the assistant" in silent.message
    two = Rollout(chat.prompt, [*chat.completion, {"role": "tool", "content": "7"}, *chat.completion])
    (turns,) = LogRatioReward(model=str(trained), reference=str(base))([two])
    assert turns.metrics["tokens"] == 8


def test_different_tokenizers_are_refused(tmp_path, language_model, language_models):
    """The error names the token that differs, or the end, and what to do."""
    trained = str(language_models[0])
    other = language_model(tmp_path / "other", characters="_?[]bacdefghijklmnopqrstuvwxyz !.:\n0123456789")
    with pytest.raises(ValueError, match=r"different tokenizers.*'a' is number 4 in .* and number 5 in .*as tokenizer"):
        LogRatioReward(model=trained, reference=str(other))
    ends = language_model(tmp_path / "ends", end="!")
    with pytest.raises(ValueError, match="a completion ends with ']' in"):
        LogRatioReward(model=trained, reference=str(ends))
    assert LogRatioReward(model=trained, reference=str(ends), tokenizer=trained)(ROLLOUTS[:1])[0].value


def test_a_smaller_vocabulary_is_refused(tmp_path, language_model, language_models):
    """A model that lacks an embedding of a token is refused when it is loaded."""
    small = language_model(tmp_path / "small", characters="_?[]abc")
    with pytest.raises(ValueError, match="has 7 tokens, but the tokenizer has 45"):
        LogRatioReward(model=str(language_models[0]), reference=str(small), tokenizer=str(language_models[0]))


def test_models_that_are_none(tmp_path, exclaiming, language_models):
    """A classifier, a missing folder and a missing reference are errors that say so."""
    trained = str(language_models[0])
    with pytest.raises(ValueError, match="ForSequenceClassification, not a causal language model"):
        LogRatioReward(model=trained, reference=str(exclaiming), tokenizer=trained)
    with pytest.raises(ValueError, match="no model folder"):
        LogRatioReward(model=trained, reference=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="no adapters, so there is no model under them"):
        LogRatioReward(model=trained)
    with pytest.raises(ValueError, match="beta must be above 0"):
        LogRatioReward(model=trained, reference=trained, beta=-1.0)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
def test_the_reference_is_the_model_under_the_adapters(tmp_path, language_models):
    """Adapters give the log-ratio to the model that they were trained on, which is loaded once."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    base = str(language_models[1])
    torch.manual_seed(0)
    model = peft.get_peft_model(
        transformers.AutoModelForCausalLM.from_pretrained(base),
        peft.LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False),
    )
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path)
    alone = LogRatioReward(model=str(tmp_path))(ROLLOUTS)
    beside = LogRatioReward(model=str(tmp_path), reference=base)(ROLLOUTS)
    assert [score.value for score in alone] == pytest.approx([score.value for score in beside], abs=1e-3)
    assert abs(alone[0].value) > 0.1
