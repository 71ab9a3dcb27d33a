"""Loads models and tokenizers, and runs models on batches that fit into memory."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from rewardkit.reward_models import is_out_of_memory, micro_batches, release_memory

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

Dtype: TypeAlias = Literal["auto", "float32", "float16", "bfloat16"]
R = TypeVar("R", bound=Hashable)
F = TypeVar("F")

EXACT_DIGITS, HALF_DIGITS = 4, 2
"""The decimals that a score keeps. The last bits depend on the rest of the batch, and equal answers must not differ by them."""
BATCH, CPU_BATCH = 16384, 2048
"""The tokens that go through a model at once, on an accelerator and on a CPU."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model and how it is loaded."""

    model: str
    tokenizer: str | None
    revision: str | None
    dtype: Dtype
    device: str
    label: int | None
    trust_remote_code: bool

    def torch_device(self) -> torch.device:
        """Return the device; auto is the accelerator, if there is one."""
        import torch

        return torch.device(_best_device() if self.device == "auto" else self.device)

    def torch_dtype(self) -> torch.dtype:
        """Return the type of the weights."""
        import torch

        found: torch.dtype = getattr(torch, _dtype_name(self.dtype, self.torch_device()))
        return found


def default_batch_tokens(device: torch.device) -> int:
    """Return the most tokens, padding included, that go through a model at once on this device."""
    return CPU_BATCH if device.type == "cpu" else BATCH


def kept_digits(model: Any) -> int:
    """Return the decimals that the scores of a model keep, by the type of its weights."""
    return EXACT_DIGITS if "float32" in str(model.dtype) else HALF_DIGITS


def in_batches(
    rows: Sequence[R],
    most_tokens: int,
    length: Callable[[R], int],
    forward: Callable[[list[R]], Sequence[F]],
) -> list[F]:
    """Return what a model makes of each row; equal rows are read once.

    If memory runs out, batches are halved and the missing ones are repeated.

    Args:
        rows: The rows.
        most_tokens: The most tokens in a batch, padding included.
        length: Returns the number of tokens of a row.
        forward: Runs the model on a batch.

    Raises:
        RuntimeError: A single row does not fit into memory, or the device fails.
    """
    found: dict[R, F] = {}
    distinct = list(dict.fromkeys(rows))
    while missing := [row for row in distinct if row not in found]:
        batches = micro_batches([length(row) for row in missing], most_tokens)
        try:
            for batch in batches:
                part = [missing[index] for index in batch]
                found.update(zip(part, forward(part), strict=True))
        except RuntimeError as error:
            if not is_out_of_memory(error) or all(len(batch) == 1 for batch in batches):
                raise
            most_tokens = max(most_tokens // 2, 1)
            logger.warning("out of memory: continuing with batches of %s tokens", most_tokens)
            release_memory()
    return [found[row] for row in rows]


def load_tokenizer(source: Source) -> Any:
    """Load the tokenizer.

    Args:
        source: The model and how it is loaded.

    Raises:
        ValueError: There is none.
    """
    from transformers import AutoTokenizer

    place = source.tokenizer or source.model
    _refuse_missing(place)
    try:
        return AutoTokenizer.from_pretrained(
            place, revision=None if source.tokenizer else source.revision, trust_remote_code=source.trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "" if Path(place).exists() else f"; there is no folder {Path(place).absolute()} either"
        raise ValueError(f"no tokenizer can be loaded from {place}: {_first_line(error)}{hint}") from error


def load_classifier(source: Source, task: Literal["SequenceClassification", "TokenClassification"]) -> Any:
    """Load a trained classifier of texts, or of tokens, onto its device.

    Args:
        source: The model and how it is loaded.
        task: What it classifies.

    Raises:
        ValueError: There is no such model.
    """
    import transformers

    what = (
        "sequence classifier"
        if task == "SequenceClassification"
        else "token classifier, as the stage reward_model with level: step makes"
    )
    auto = getattr(transformers, f"AutoModelFor{task}")
    how: dict[str, Any] = {"revision": source.revision, "trust_remote_code": source.trust_remote_code}
    try:
        config = transformers.AutoConfig.from_pretrained(source.model, **how)
        names = (task, "Reward") if task == "SequenceClassification" else (task,)
        if not any(known in name for known in names for name in config.architectures or ()):
            raise ValueError(
                f"{source.model} is a {' and '.join(config.architectures or ['model of unknown kind'])}, not a trained "
                f"{what}: its head would be random"
            )
        with _no_progress_bar():
            return (
                auto.from_pretrained(source.model, dtype=source.torch_dtype(), **how).to(source.torch_device()).eval()
            )
    except (OSError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise ValueError(f"no reward model can be loaded from {source.model}: {_first_line(error)}") from error


def load_language_model(source: Source) -> Any:
    """Load a causal language model, or adapters with the model under them, onto its device.

    Args:
        source: The model and how it is loaded.

    Raises:
        ValueError: There is no such model, or it is no causal language model with trained weights.
    """
    from transformers import AutoModelForCausalLM

    _refuse_missing(source.model)
    named = _architectures(source.model)
    if named and not any(known in name for known in ("CausalLM", "LMHead", "ConditionalGeneration") for name in named):
        raise ValueError(
            f"{source.model} is a {' and '.join(named)}, not a causal language model: it gives no log-probs"
        )
    try:
        with _no_progress_bar():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source.model,
                dtype=source.torch_dtype(),
                revision=source.revision,
                trust_remote_code=source.trust_remote_code,
                output_loading_info=True,
            )
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, ImportError) as error:
        raise ValueError(f"no language model can be loaded from {source.model}: {_first_line(error)}") from error
    model, info = loaded
    if missing := sorted(name for name in info["missing_keys"] if "lora_" not in name):
        raise ValueError(f"{source.model} lacks weights, which would be random: {', '.join(missing[:3])}")
    return model.to(source.torch_device()).eval()


def _architectures(place: str) -> list[str]:
    """Return the architectures that a folder's config.json names; none of a hub's name or a folder of adapters."""
    try:
        found = json.loads((Path(place) / "config.json").read_text(encoding="utf-8")).get("architectures")
    except (OSError, ValueError, AttributeError):
        return []
    return [str(name) for name in found] if isinstance(found, list) else []


def choose_label(source: Source, config: Any) -> int:
    """Return the index of the good output.

    Args:
        source: The model, with the label that was asked for.
        config: The model's configuration, of transformers.

    Raises:
        ValueError: The model has several outputs and no label is given, or it has no such output.
    """
    labels: dict[int, str] = config.id2label
    names = ", ".join(f"{index} ({name})" for index, name in labels.items())
    if source.label is None:
        if len(labels) > 1:
            raise ValueError(f"{source.model} has {len(labels)} outputs; set label to the good one: {names}")
        return 0
    if not 0 <= source.label < len(labels):
        raise ValueError(f"label is {source.label}, but {source.model} has {names}")
    return source.label


def log_odds(logits: torch.Tensor, label: int) -> torch.Tensor:
    """Return the log-odds of a label, or the only output.

    Args:
        logits: The outputs. Shape: (N, outputs).
        label: The index of the good output.

    Returns:
        The scores. Shape: (N,).
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    others = [index for index in range(logits.shape[1]) if index != label]
    return logits[:, label] - logits[:, others].logsumexp(1)


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Hide the progress bar of loading, which would interrupt the caller's."""
    from transformers.utils import logging as their_logging

    was_on = their_logging.is_progress_bar_enabled()
    their_logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    try:
        yield
    finally:
        if was_on:
            their_logging.enable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]


def _refuse_missing(place: str) -> None:
    """Raise ValueError for a path without a folder, which is not searched on the hub."""
    path = Path(place).expanduser()
    if (path.is_absolute() or place.startswith((".", "~")) or place.count("/") > 1) and not path.is_dir():
        raise ValueError(f"there is no model folder {path.absolute()}")


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _dtype_name(dtype: Dtype, device: torch.device) -> str:
    import torch

    if dtype != "auto":
        return dtype
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "float32"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def finite(value: object, default: float) -> float:
    """Return a number of a configuration file, or the default if it is missing or not finite."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else default
