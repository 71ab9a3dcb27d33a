"""Loads models and tokenizers from folders and hubs, with clear errors."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import torch
from safetensors import SafetensorError
from torch import nn

from rewardkit.errors import ConfigError, Location
from rewardkit.train.config import ModelConfig
from rewardkit.train.config.base import LoraConfig
from rewardkit.train.distributed import collectives
from rewardkit.train.models.precision import cast_trained, find_non_finite
from rewardkit.train.models.sharded_loading import load_divided

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def best_device() -> torch.device:
    """Return this process's device, as accelerate chooses it."""
    from accelerate import PartialState

    return torch.device(PartialState().device)


def model_context(config: ModelConfig) -> int:
    """Return the context length that a model's configuration states, in tokens; a very large number if it states none."""
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(
        base_model(config.path), trust_remote_code=config.trust_remote_code
    ).get_text_config()
    return int(getattr(found, "max_position_embeddings", 0) or 1 << 30)


def load_tokenizer(config: ModelConfig, location: Location | None = None) -> PreTrainedTokenizerBase:
    """Load the tokenizer, with the configured chat template and end-of-sequence token. Raises ConfigError."""
    from transformers import AutoTokenizer

    source = config.tokenizer or config.path
    _refuse_missing(source, location)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            (location, f"no tokenizer can be loaded from {_named(source)}: {_first_line(error)}")
        ) from None
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes of a folder without any
        raise ConfigError((location, f"there is no tokenizer in {source}; name one as model.tokenizer"))
    if config.chat_template is not None:
        try:
            tokenizer.chat_template = config.chat_template.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                (location, f"the chat template {config.chat_template} can't be read: {error.strerror}")
            ) from None
    if config.eos_token is not None:
        if config.eos_token not in tokenizer.get_vocab():
            raise ConfigError(
                (location, f"model.eos_token: the tokenizer of {_named(source)} has no token {config.eos_token!r}")
            )
        tokenizer.eos_token = config.eos_token
    return tokenizer


def end_token_ids(generation_config: Any, tokenizer: PreTrainedTokenizerBase, words: int) -> frozenset[int]:
    """Return all tokens that end a completion: those of the generation configuration, of which there may be several, and the tokenizer's.

    Args:
        generation_config: The model's generation configuration; None if it has none.
        tokenizer: The tokenizer.
        words: The number of the model's token embeddings. The tokenizer may name a token without one, which is left out.
    """
    found: set[int] = set()
    for value in (getattr(generation_config, "eos_token_id", None), tokenizer.eos_token_id):
        if isinstance(value, int):
            found.add(value)
        elif isinstance(value, Sequence):
            found.update(int(item) for item in value)
    return frozenset(token for token in found if 0 <= token < words)


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> frozenset[int]:
    """Return the special tokens among the texts that end a completion, which engines can find without decoding."""
    vocabulary = tokenizer.get_vocab()
    return frozenset({vocabulary[text] for text in stop if text in vocabulary} & set(tokenizer.all_special_ids))


def configured_end_token_ids(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return ``end_token_ids`` of a model that is not loaded."""
    from transformers import GenerationConfig

    try:
        generation_config = GenerationConfig.from_pretrained(base_model(config.path))
    except OSError:
        generation_config = None  # the model has none
    return end_token_ids(generation_config, tokenizer, 1 << 62)


def load_model(
    auto: Any,
    what: str,
    config: ModelConfig,
    location: Location | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    sharded: bool = False,
    **settings: Any,
) -> Any:
    """Load a model with one of transformers' automatic classes. If its folder holds adapters, they are merged into the weights.

    Args:
        auto: The class.
        what: The kind of model, for messages.
        config: The section ``model`` of the configuration.
        location: The place of the model's path in the configuration, for messages.
        dtype: The data type of the weights.
        sharded: The model is to be sharded among several processes, so that each reads its part of the weights alone. A folder with
            adapters, and a model that transformers can't read in parts, is read as a whole by each process.
        settings: Further arguments of ``from_pretrained``.

    Raises:
        ConfigError: There is no such model, it is of another class, or its weights are not finite.
    """
    _refuse_missing(config.path, location)
    try:
        base = base_model(config.path, location)
        settings |= {"dtype": dtype, "trust_remote_code": config.trust_remote_code}
        settings["attn_implementation"] = None if config.attention == "auto" else config.attention
        model = None
        if sharded and collectives.size() > 1 and base == config.path:
            model = load_divided(auto, base, best_device(), **settings)
        if model is None:
            model = auto.from_pretrained(base, **settings)
        model = model if base == config.path else merge_adapters(model, config.path)
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            (location, f"no {what} can be loaded from {_named(config.path)}: {_first_line(error)}")
        ) from None
    name = find_non_finite(dict(model.named_parameters()))
    if name is not None or (sharded and collectives.any_rank(name is not None)):
        where = f" ({name})" if name is not None else ""
        problem = f"the model in {_named(config.path)} has weights that are infinite or NaN{where}; train it again"
        raise ConfigError((location, problem))
    return model


def base_model(source: str, location: Location | None = None) -> str:
    """Return the source of the full model: the base model of a folder with adapters, else the source itself.

    Raises:
        ConfigError: The base model does not exist.
        OSError: The adapters' configuration can't be read.
    """
    from transformers.utils.peft_utils import find_adapter_config_file

    found = find_adapter_config_file(source)
    if found is None:
        return source
    base = str(orjson.loads(Path(found).read_bytes())["base_model_name_or_path"])
    _refuse_missing(base, location)
    return base


def merge_adapters(model: Any, adapters: str) -> Any:
    """Merge adapters into the weights of a model, and make all of its weights trainable.

    Args:
        model: The model that the adapters were trained on.
        adapters: The folder or hub name of the adapters.

    Returns:
        The model, which is changed in place.
    """
    import peft

    with _peft_warnings_ignored():
        merged = peft.PeftModel.from_pretrained(model, adapters).merge_and_unload()
    return merged.requires_grad_(requires_grad=True)


def prepare_for_training(model: Any, task: str, config: ModelConfig, location: Location | None = None) -> Any:
    """Add the configured adapters and activation checkpointing to a model, and cast its trained weights to float32.

    Args:
        model: The loaded model.
        task: peft's name of the model's task.
        config: The section ``model`` of the configuration.
        location: The place of the model's path in the configuration, for messages.

    Raises:
        ConfigError: The configured modules can't have adapters.
    """
    with _peft_warnings_ignored():
        if config.lora is not None:
            model = _with_adapters(model, task, config.lora, location)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
    cast_trained(model)
    return model


def _refuse_missing(source: str, location: Location | None) -> None:
    path = Path(source)
    if path.is_absolute() and not path.is_dir():
        hint = "; a run ends with writing it: do that run first" if path.name in {"final", "best"} else ""
        raise ConfigError((location, f"there is no model folder {path}{hint}"))
    if path.is_dir() and not any(
        (path / name).is_file() for name in ("config.json", "tokenizer.json", "tokenizer_config.json")
    ):
        raise ConfigError((location, f"{path} is no model folder: it holds no config.json"))
    if (path / "metrics.jsonl").is_file():
        is_done, best = (path / "final").is_dir(), path / "best"
        model = f"; the model that it trained is {path / 'final'}" if is_done else " that has not ended"
        so_far = f"; its best model so far is {best}" if not is_done and best.is_dir() else ""
        raise ConfigError((location, f"{path} is the folder of a run{model}{so_far}"))


def _with_adapters(model: Any, task: str, lora: LoraConfig, location: Location | None) -> Any:
    import peft

    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type,unused-ignore] # scales by alpha / rank, whatever its type
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type=task,
    )
    modules = dict(model.named_modules())
    try:
        found: Any = peft.get_peft_model(model, settings)
    except ValueError as error:
        reason = _target_problem(modules, lora.targets) or _first_line(error)
        if "No modules were targeted" in str(error):
            reason = (
                f"adapters of {lora.targets} would have no effect, because a reward model's head is trained as a whole"
            )
        raise ConfigError((location, f"model.lora.targets: {reason}")) from None
    # peft has replaced names of experts, such as gate_proj, by those of transformers, which fuses them.
    problem = _tied_problem(found.get_base_model()) or _target_problem(
        modules, found.peft_config["default"].target_modules
    )
    if problem is not None:
        raise ConfigError((location, f"model.lora.targets: {problem}"))
    return found


def _target_problem(modules: Mapping[str, nn.Module], targets: str | Collection[str] | None) -> str | None:
    """Return why modules can't have adapters, or None if nothing is known against them.

    Args:
        modules: The modules of the model without adapters, by name.
        targets: A regular expression for whole names, or the last parts of names.
    """
    from transformers.pytorch_utils import Conv1D

    if targets == "all-linear" or not targets:
        return None
    if isinstance(targets, str):
        chosen = [name for name in modules if re.fullmatch(targets, name)]
        if not chosen:
            return f"no module of the model has a name that {targets!r} matches as a whole; a list holds the last parts of names"
    else:
        ends = {target: [name for name in modules if f".{name}".endswith(f".{target}")] for target in targets}
        if missing := sorted(target for target, names in ends.items() if not names):
            return f"no module of the model is called {', '.join(missing)}"
        chosen = [name for names in ends.values() for name in names]
    adaptable = (nn.Linear, nn.Embedding, nn.modules.conv._ConvNd, nn.MultiheadAttention, Conv1D)  # noqa: SLF001 - all of them
    wrong = next((name for name in chosen if not isinstance(modules[name], adaptable)), None)
    if wrong is None:
        return None
    kind = type(modules[wrong]).__name__
    return f"{wrong} is a {kind}, which can't have adapters; name linear layers or embeddings, or leave targets out for all linear layers"


def _tied_problem(model: Any) -> str | None:
    """Return which of the embeddings and the head has an adapter, if they are one tensor: merged, it would change the other, too."""
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    if None in ends or ends[0].weight is not ends[1].weight:
        return None
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and any(module is end for end in ends):
            return f"{name} can't have an adapter, because the model's embeddings and head are one tensor; leave it out"
    return None


@contextmanager
def _peft_warnings_ignored() -> Iterator[None]:
    """Ignore warnings about what peft does itself, such as with deprecated names of transformers, and about what is refused here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys", RuntimeWarning)  # made for experts
        warnings.filterwarnings(
            "ignore", "fan_in_fan_out is set to False but the target module is `Conv1D`", UserWarning
        )
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True` and a tied layer", UserWarning)
        yield


def _named(source: str) -> str:
    """Return a source for messages. One that is not a folder has been taken for a hub name."""
    return source if Path(source).is_absolute() else f"{source} (a model's name on the hub, as there is no such folder)"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
