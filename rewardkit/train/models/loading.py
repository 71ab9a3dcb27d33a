"""Models and tokenizers from folders and hubs, with words for what can go wrong."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import torch
from safetensors import SafetensorError

from rewardkit.errors import ConfigError, Location
from rewardkit.train.config import ModelConfig
from rewardkit.train.config.base import LoraConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def best_device() -> torch.device:
    """This process's device, as accelerate sees it."""
    from accelerate import PartialState  # noqa: PLC0415 - takes a second

    return torch.device(PartialState().device)


def model_context(config: ModelConfig) -> int:
    """Most tokens that a model can read, told by its configuration alone; a very large number where it does not say."""
    from transformers import AutoConfig  # noqa: PLC0415 - heavy

    found = AutoConfig.from_pretrained(
        whole_model(config.path), trust_remote_code=config.trust_remote_code
    ).get_text_config()
    return int(getattr(found, "max_position_embeddings", 0) or 1 << 30)


def load_tokenizer(config: ModelConfig, location: Location | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer, with the chat template that the configuration names. Raises ConfigError."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - heavy

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
    return tokenizer


def load_model(auto: Any, what: str, config: ModelConfig, location: Location | None = None, **settings: Any) -> Any:
    """The model as one of transformers' automatic classes makes it; adapters that a folder holds are merged into the weights.

    Args:
        auto: The class.
        what: In words, for messages.
        config: The section of the configuration.
        location: Where its path stands, for messages.
        settings: Further arguments of ``from_pretrained``.

    Raises:
        ConfigError: There is no such model, or not of this class.
    """
    _refuse_missing(config.path, location)
    try:
        whole = whole_model(config.path, location)
        model = auto.from_pretrained(
            whole,
            dtype=getattr(torch, config.dtype),
            attn_implementation=config.attention,
            trust_remote_code=config.trust_remote_code,
            **settings,
        )
        return model if whole == config.path else _with_merged(model, config.path)
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            (location, f"no {what} can be loaded from {_named(config.path)}: {_first_line(error)}")
        ) from None


def whole_model(source: str, location: Location | None = None) -> str:
    """Where a whole model is: of adapters, the model that they are of; of any other, itself. Raises ConfigError, OSError."""
    from transformers.utils.peft_utils import find_adapter_config_file  # noqa: PLC0415 - heavy

    found = find_adapter_config_file(source)
    if found is None:
        return source
    whole = str(orjson.loads(Path(found).read_bytes())["base_model_name_or_path"])
    _refuse_missing(whole, location)
    return whole


def _with_merged(model: Any, adapters: str) -> Any:
    """A model whose weights have adapters in them, all of them to be trained."""
    import peft  # noqa: PLC0415 - heavy

    with _on_their_way_out():
        merged = peft.PeftModel.from_pretrained(model, adapters).merge_and_unload()
    return merged.requires_grad_(requires_grad=True)


def as_configured(model: Any, task: str, config: ModelConfig, location: Location | None = None) -> Any:
    """A model with what the configuration puts on it: adapters, checkpointing of activations.

    Args:
        model: As it was loaded.
        task: What it does, in peft's word.
        config: The section of the configuration.
        location: Where its path stands, for messages.

    Raises:
        ConfigError: No adapters can be put where the configuration wants them.
    """
    with _on_their_way_out():  # names that peft asks transformers for
        if config.lora is not None:
            model = _with_adapters(model, task, config.lora, location)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
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
    import peft  # noqa: PLC0415 - heavy

    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type,unused-ignore] # scales by alpha / rank, whatever its type
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type=task,
    )
    try:
        return peft.get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError((location, f"model.lora: {_first_line(error)}")) from None


@contextmanager
def _on_their_way_out() -> Iterator[None]:
    """Inside, names of transformers may be used that its later versions will not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _named(source: str) -> str:
    """A folder, or what has been taken for a model's name because it is none."""
    return source if Path(source).is_absolute() else f"{source} (a model's name on the hub, as there is no such folder)"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
