import json
import math
import shutil
import subprocess
import sys

import pytest
from rewardkit_reward_model import RewardModel

from rewardkit import Rollout, Score, Unscored

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

TEMPLATE = "{% for m in messages %}[{{ m.role[0] }}{{ m.content }}]{% endfor %}"
YES, NO = Rollout("p", "yes!"), Rollout("p", "no")


def _config(folder, **facts):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **facts}))


def test_scores_by_hand(exclaiming):
    """The decoder gives +4 to a text that ends in an exclamation mark and −4 to any other, padded or not."""
    found = RewardModel(model=str(exclaiming))([YES, NO, Rollout("p", "a longer one! no"), YES])
    assert [score.value for score in found] == [4.0, -4.0, -4.0, 4.0]
    assert found[0].reason == "4 by the model, 5 tokens"


def test_padded_batches_score_like_transformers_alone(encoder, tokenizer):
    """In a batch of many lengths every text gets the score that transformers gives it alone."""
    texts = ["a", "some text", "a rather longer text than that", "0123456789 !", "zz"]
    found = RewardModel(model=str(encoder), batch_tokens=70)([Rollout("q ", text) for text in texts])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(encoder).eval()
    with torch.inference_mode():
        alone = [
            model(**tokenizer(ends=True)("q " + text, return_tensors="pt", return_token_type_ids=False)).logits.item()
            for text in texts
        ]
    assert [score.value for score in found] == pytest.approx(alone, abs=1e-4)
    assert len({score.value for score in found}) == len(texts)


def test_the_model_says_its_mean_and_std(exclaiming, tmp_path):
    """Scores are normalized by the model's config, and parameters override it."""
    folder = shutil.copytree(exclaiming, tmp_path / "model")
    _config(folder, reward_mean=2.0, reward_std=4.0)
    assert RewardModel(model=str(folder))([YES])[0].value == 0.5
    assert RewardModel(model=str(folder), mean=0.0, std=2.0)([YES])[0].value == 2.0
    squashed = RewardModel(model=str(folder), sigmoid=True)([YES])[0].value
    assert squashed == pytest.approx(1 / (1 + math.exp(-0.5)), abs=1e-4)


@pytest.mark.parametrize("wrong", [{"std": 0.0}, {"std": math.inf}, {"mean": math.nan}])
def test_a_normalisation_that_makes_no_sense_is_refused(exclaiming, wrong):
    """A standard deviation of 0 or a mean of NaN is an error before any model is loaded."""
    with pytest.raises(ValueError, match="must be"):
        RewardModel(model=str(exclaiming), **wrong)


def test_chat_messages_go_through_the_template(tmp_path, decoder):
    """With a chat template, prompt and completion are messages, whatever form they came in."""
    folder = decoder(tmp_path, template=TEMPLATE)  # ends in "]", whatever the completion
    messages = Rollout([{"role": "user", "content": "p"}], [{"role": "assistant", "content": "yes!"}])
    found = RewardModel(model=str(folder))([YES, messages])
    assert [score.reason for score in found] == ["-4 by the model, 11 tokens"] * 2  # [up][ayes!]
    assert RewardModel(model=str(folder), input="text")([YES])[0].value == 4.0


def test_the_model_says_what_it_reads(tmp_path, decoder):
    """A model that was trained on plain text reads plain text, though its tokenizer has a chat template."""
    folder = decoder(tmp_path, template=TEMPLATE)
    _config(folder, reward_input="text")
    assert RewardModel(model=str(folder))([YES])[0].value == 4.0


def test_chat_without_a_template_is_refused(exclaiming):
    """input: chat without a chat template is an error that says what to do."""
    with pytest.raises(ValueError, match="no chat template; use text or pair"):
        RewardModel(model=str(exclaiming), input="chat")


def test_messages_that_the_template_refuses_are_unscored(tmp_path, decoder):
    """A template that raises leaves its own rollout unscored, and no other."""
    folder = decoder(tmp_path, template="{% if messages|length > 2 %}{{ raise_exception('two at most') }}{% endif %}!")
    many = Rollout([{"role": "user", "content": "a"}] * 2, "b")
    refused, scored = RewardModel(model=str(folder))([many, YES])
    assert isinstance(refused, Unscored)
    assert refused.kind == "input"
    assert "two at most" in refused.message
    assert scored.value == 4.0


def test_pairs_are_two_texts(encoder):
    """With the form ``pair``, the separator token separates prompt and completion."""
    as_pair, as_text = (
        RewardModel(model=str(encoder), input=kind)([Rollout("ab", "cd")])[0] for kind in ("pair", "text")
    )
    assert as_pair.reason.endswith("7 tokens")  # [ab]cd]
    assert as_text.reason.endswith("6 tokens")  # [abcd]


def test_long_dialogues_lose_their_beginning(exclaiming, encoder):
    """A text longer than the model's context loses its beginning, keeps its special tokens, and the reason says so."""
    long = Rollout("x" * 100, "end!")
    score = RewardModel(model=str(exclaiming))([long])[0]
    assert score.value == 4.0
    assert score.reason == "4 by the model, 64 tokens, the beginning was cut off"
    cut, whole = RewardModel(model=str(encoder), max_tokens=6)([long, Rollout("", "end!")])
    assert cut.value == whole.value  # [end!] either way
    assert "cut" not in whole.reason


def test_nothing_to_read_is_unscored(exclaiming):
    """An empty prompt with an empty completion has no tokens."""
    empty, scored = RewardModel(model=str(exclaiming))([Rollout("", ""), YES])
    assert isinstance(empty, Unscored)
    assert empty.kind == "input"
    assert scored.value == 4.0


def test_a_label_of_several(tmp_path, decoder):
    """With two outputs, the score is the log-odds of `label`; without it, the error lists the choices."""
    folder = decoder(tmp_path, num_labels=2)  # logits 0 and ±4
    assert [score.value for score in RewardModel(model=str(folder), label=1)([YES, NO])] == [4.0, -4.0]
    assert RewardModel(model=str(folder), label=0)([YES])[0].value == -4.0
    with pytest.raises(ValueError, match=r"2 outputs.*0 \(LABEL_0\), 1 \(LABEL_1\)"):
        RewardModel(model=str(folder))
    with pytest.raises(ValueError, match="label is 2"):
        RewardModel(model=str(folder), label=2)


def test_a_model_without_a_trained_head_is_refused(tmp_path, tokenizer):
    """A model without a trained head is refused, because its scores would be noise."""
    config = transformers.Qwen2Config(
        vocab_size=44,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    transformers.Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="Qwen2ForCausalLM, not a trained sequence classifier"):
        RewardModel(model=str(tmp_path))


def test_a_folder_that_is_not_there(tmp_path):
    """A path is not searched on the hub."""
    with pytest.raises(ValueError, match="no model folder"):
        RewardModel(model=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"no model folder .*runs/reward_model/final"):
        RewardModel(model="runs/reward_model/final")
    with pytest.raises(ValueError, match="can be loaded"):
        RewardModel(model=str(tmp_path))


def test_a_tokenizer_that_does_not_fit_is_refused(exclaiming, tmp_path, tokenizer):
    """A padding token without an embedding is an error when the model is loaded, not in the middle of a run."""
    folder = shutil.copytree(exclaiming, tmp_path / "model")
    other = tokenizer()
    other.add_special_tokens({"pad_token": "<pad>"})
    other.save_pretrained(folder)
    _config(folder, pad_token_id=None)
    with pytest.raises(ValueError, match="neither a padding nor"):
        RewardModel(model=str(folder))


def test_nan_is_unscored(exclaiming, tmp_path):
    """A model that gives NaN gives no score."""
    folder = shutil.copytree(exclaiming, tmp_path / "model")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.score.weight[0, 0] = math.nan
    model.save_pretrained(folder)
    (found,) = RewardModel(model=str(folder))([YES])
    assert isinstance(found, Unscored)
    assert "nan" in found.message


def test_out_of_memory_halves_the_batches(exclaiming, monkeypatch, caplog):
    """Batches that do not fit into memory are halved and repeated, and every rollout is scored."""
    reward = RewardModel(model=str(exclaiming))
    forward = reward._members[0].classifier._forward
    sizes = []

    def small(rows):
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("too much")
        return forward(rows)

    monkeypatch.setattr(reward._members[0].classifier, "_forward", small)
    found = reward([Rollout("p", "x" * n + "!") for n in range(1, 9)])
    assert [score.value for score in found] == [4.0] * 8
    assert "out of memory" in caplog.text
    assert max(sizes) > 2


def test_what_does_not_fit_alone_raises(exclaiming, monkeypatch):
    """If a single dialogue does not fit, the error reaches the engine, which leaves the rollout unscored."""
    reward = RewardModel(model=str(exclaiming))

    def never(_rows):
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(reward._members[0].classifier, "_forward", never)
    with pytest.raises(torch.OutOfMemoryError):
        reward([YES])


def test_equal_dialogues_are_read_once(exclaiming, monkeypatch):
    """A group of equal completions costs one forward pass and has no spread."""
    reward = RewardModel(model=str(exclaiming))
    forward, rows_seen = reward._members[0].classifier._forward, []
    monkeypatch.setattr(reward._members[0].classifier, "_forward", lambda rows: rows_seen.extend(rows) or forward(rows))
    found = reward([YES] * 5)
    assert len(rows_seen) == 1
    assert len(set(found)) == 1


def test_half_precision_keeps_two_decimals(encoder):
    """In 16 bits scores keep two decimals, and stay near those of 32 bits."""
    rollouts = [Rollout("q", text) for text in ("abc", "some text", "!!")]
    exact = RewardModel(model=str(encoder))(rollouts)
    half = RewardModel(model=str(encoder), dtype="bfloat16")(rollouts)
    assert all(score.value == round(score.value, 2) for score in half)
    assert [score.value for score in half] == pytest.approx([score.value for score in exact], abs=0.1)


def test_importing_loads_no_torch():
    """Importing the plugin loads neither torch nor transformers."""
    code = "import sys, rewardkit_reward_model; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_through_the_engine(exclaiming, tmp_path):
    """A YAML file gives a reward on the device executor."""
    from rewardkit import load_reward

    file = tmp_path / "reward.yaml"
    file.write_text(
        f"version: 1\ncomponents:\n  liked: {{use: reward_model, with: {{model: {exclaiming}}}, weight: 0.5}}\n"
    )
    with load_reward(file) as reward:
        found = reward.score([YES, NO])
    assert [one.reward for one in found] == [2.0, -2.0]
    assert isinstance(found[0].outcomes["liked"], Score)


def _wary(folder, source, by):
    """Write a copy of the decoder whose scores are multiplied."""
    shutil.copytree(source, folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.score.weight *= by
    model.save_pretrained(folder)
    return str(folder)


def test_an_ensemble_by_hand(exclaiming, tmp_path):
    """Of the scores 4 and 8 (mean 6, standard deviation 2), half a standard deviation of penalty leaves 5; their scales are their own."""
    folder = _wary(tmp_path / "other", exclaiming, 2.0)
    models = [str(exclaiming), folder]
    (score,) = RewardModel(models=models, uncertainty_penalty=0.5)([YES])
    assert score.value == 5.0
    assert score.metrics == {"mean": 6.0, "disagreement": 2.0, "lowest": 4.0}
    assert RewardModel(models=models)([NO])[0].value == -6.0
    _config(tmp_path / "other", reward_std=2.0)
    (agreed,) = RewardModel(models=models, uncertainty_penalty=0.5)([YES])
    assert (agreed.value, agreed.metrics["disagreement"]) == (4.0, 0.0)


def test_an_ensemble_scores_only_what_all_models_score(exclaiming, tmp_path):
    """If one of the models gives NaN, there is no score."""
    folder = _wary(tmp_path / "other", exclaiming, math.nan)
    (found,) = RewardModel(models=[str(exclaiming), folder])([YES])
    assert isinstance(found, Unscored)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "name one model"),
        ({"model": "a", "models": ["b", "c"]}, "not both"),
        ({"models": ["b", "b"]}, "at least two different"),
        ({"model": "a", "uncertainty_penalty": 1.0}, "needs several models"),
    ],
)
def test_models_that_contradict_are_refused(wrong, words):
    """Neither, both, equal models, and a penalty of one model are errors before any model is loaded."""
    with pytest.raises(ValueError, match=words):
        RewardModel(**wrong)
