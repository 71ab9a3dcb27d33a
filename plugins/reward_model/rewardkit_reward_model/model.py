"""The model: loaded once, then run on batches. Only this module uses torch and transformers."""

from __future__ import annotations

import contextlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rewardkit.reward_models import (
    choose_padding_token,
    context_length,
    is_out_of_memory,
    micro_batches,
    padded_batch,
    release_memory,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

logger = logging.getLogger(__name__)

Dtype: TypeAlias = Literal["auto", "float32", "float16", "bfloat16"]


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


class Classifier:
    """A sequence classifier and its tokenizer: scores token sequences by the log-odds of a label, or by the only output."""

    def __init__(self, source: Source) -> None:
        """Load the model and its tokenizer.

        Args:
            source: The model and how it is loaded.

        Raises:
            ValueError: There is no such model, it can't pad, or it has several outputs and no label is given.
        """
        import torch

        self.device = torch.device(_best_device() if source.device == "auto" else source.device)
        self.tokenizer = _load_tokenizer(source)
        self.model = _load_model(source, getattr(torch, _dtype_name(source.dtype, self.device))).to(self.device).eval()
        self.is_exact = self.model.dtype == torch.float32
        self.config: Any = self.model.config
        self.label = self._choose_label(source)
        try:
            self.pad_id = choose_padding_token(self.model, self.tokenizer)
        except ValueError as error:
            raise ValueError(f"{source.model}: {error}") from None
        self.tokenizer.truncation_side = "left"  # the completion is at the end

    @property
    def context(self) -> int:
        """The number of tokens that the model can read."""
        return context_length(self.config, self.tokenizer)

    def scores(self, rows: Sequence[Sequence[int]], most_tokens: int) -> list[float]:
        """Return the score of each token sequence; equal sequences are read once.

        If memory runs out, batches are halved and the missing ones are repeated.

        Args:
            rows: The token sequences.
            most_tokens: The most tokens in a batch, padding included.

        Raises:
            RuntimeError: A single sequence does not fit into memory, or the device fails.
        """
        distinct = list(dict.fromkeys(map(tuple, rows)))
        found: dict[tuple[int, ...], float] = {}
        while missing := [row for row in distinct if row not in found]:
            batches = micro_batches([len(row) for row in missing], most_tokens)
            try:
                for batch in batches:
                    part = [missing[index] for index in batch]
                    found.update(zip(part, self._forward(part), strict=True))
            except RuntimeError as error:
                if not is_out_of_memory(error) or all(len(batch) == 1 for batch in batches):
                    raise
                most_tokens = max(most_tokens // 2, 1)
                logger.warning("out of memory: continuing with batches of %s tokens", most_tokens)
                release_memory()
        return [found[tuple(row)] for row in rows]

    def _forward(self, rows: Sequence[Sequence[int]]) -> list[float]:
        import torch

        ids, mask = padded_batch(rows, self.pad_id)
        with torch.inference_mode():
            logits = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).logits.float()
            return self._log_odds(logits).tolist()

    def _log_odds(self, logits: torch.Tensor) -> torch.Tensor:
        """The score of each row of logits. Shapes: (N, outputs) to (N,)."""
        if logits.shape[1] == 1:
            return logits[:, 0]
        others = [index for index in range(logits.shape[1]) if index != self.label]
        return logits[:, self.label] - logits[:, others].logsumexp(1)

    def _choose_label(self, source: Source) -> int:
        labels: dict[int, str] = self.config.id2label
        names = ", ".join(f"{index} ({name})" for index, name in labels.items())
        if source.label is None:
            if len(labels) > 1:
                raise ValueError(f"{source.model} has {len(labels)} outputs; set label to the good one: {names}")
            return 0
        if not 0 <= source.label < len(labels):
            raise ValueError(f"label is {source.label}, but {source.model} has {names}")
        return source.label


def _load_tokenizer(source: Source) -> Any:
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


def _load_model(source: Source, dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    how: dict[str, Any] = {"revision": source.revision, "trust_remote_code": source.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(source.model, **how)
        if not any("SequenceClassification" in name or "Reward" in name for name in config.architectures or ()):
            raise ValueError(
                f"{source.model} is a {' and '.join(config.architectures or ['model of unknown kind'])}, not a trained "
                "sequence classifier: its head would be random"
            )
        with _no_progress_bar():
            return AutoModelForSequenceClassification.from_pretrained(source.model, dtype=dtype, **how)
    except (OSError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise ValueError(f"no reward model can be loaded from {source.model}: {_first_line(error)}") from error


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
