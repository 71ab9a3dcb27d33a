# ruff: noqa: S106 - tokens here are characters
"""Tiny models built for the tests: one whose scores can be worked out by hand, and random ones."""

import json

import pytest

CHARACTERS = "_?[]abcdefghijklmnopqrstuvwxyz !.:\n0123456789"
"""The tokens: padding, unknown, beginning and end of a text, then characters."""


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Use one thread, because more only cost time with tiny models."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build_tokenizer(*, ends=False, template=None, characters=CHARACTERS):
    """Return a tokenizer with a token for every character; with ``ends``, texts are enclosed in [ and ]."""
    import transformers
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    raw = Tokenizer(models.WordLevel({one: index for index, one in enumerate(characters)}, unk_token="?"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    if ends:
        raw.post_processor = processors.TemplateProcessing(
            single="[ $A ]", pair="[ $A ] $B ]", special_tokens=[("[", 2), ("]", 3)]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="_", unk_token="?", chat_template=template, model_max_length=64
    )


def build_language_model(folder, *, seed=0, template=None, end="]", characters=CHARACTERS):
    """A random causal language model whose completions end with ``end``."""
    import torch
    import transformers

    tokenizer = build_tokenizer(template=template, characters=characters)
    tokenizer.eos_token = end
    torch.manual_seed(seed)
    config = transformers.Qwen2Config(
        vocab_size=len(characters),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=3,
    )
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_decoder(folder, **settings):
    """A decoder that scores a text by its last character alone: +4 for "!", −4 for any other. With another task, it scores each token.

    Attention and MLP add nothing, so the last hidden state is the norm of the last embedding, which is ±1 in its first
    dimension and 0 in the other 15: ±√16 after the norm.
    """
    import torch
    import transformers

    template = settings.pop("template", None)
    outputs = settings.pop("num_labels", 1)
    task = settings.pop("task", "SequenceClassification")
    config = transformers.Qwen2Config(
        vocab_size=len(CHARACTERS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        num_labels=outputs,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        **settings,
    )
    model = getattr(transformers, f"Qwen2For{task}")(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()
        model.model.embed_tokens.weight[:, 0] = -1.0
        model.model.embed_tokens.weight[CHARACTERS.index("!"), 0] = 1.0
        model.score.weight[-1, 0] = 1.0
    model.save_pretrained(folder)
    build_tokenizer(template=template).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def exclaiming(tmp_path_factory):
    """The folder of the model that likes exclamation marks."""
    return build_decoder(tmp_path_factory.mktemp("exclaiming"))


@pytest.fixture(scope="session")
def step_model(tmp_path_factory):
    """The folder of the process reward model that finds steps right which end with an exclamation mark."""
    folder = build_decoder(tmp_path_factory.mktemp("steps"), task="TokenClassification", template=None)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "reward_separator": "!"}))
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """The folder of a random encoder."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(CHARACTERS),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        num_labels=1,
        pad_token_id=0,
        initializer_range=0.5,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    build_tokenizer(ends=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def decoder():
    """``decoder(folder, num_labels=…, template=…)`` writes one."""
    return build_decoder


@pytest.fixture(scope="session")
def tokenizer():
    """``tokenizer(ends=…)`` makes one."""
    return build_tokenizer


@pytest.fixture(scope="session")
def language_models(tmp_path_factory):
    """The folders of two random language models with one tokenizer."""
    folder = tmp_path_factory.mktemp("language_models")
    return build_language_model(folder / "trained", seed=1), build_language_model(folder / "base", seed=2)


@pytest.fixture(scope="session")
def language_model():
    """``language_model(folder, seed=…, template=…, end=…, characters=…)`` writes one."""
    return build_language_model
