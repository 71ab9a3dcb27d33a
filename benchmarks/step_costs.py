"""What a training step costs at least, and where its memory goes: the floor and the memory parts that ``grpo_step.py`` prints."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

CHUNK = 1024
"""Tokens of a product of the update. Costs are scaled from here to the step's number of tokens."""
HEAD_ROWS = 256
"""Rows of a product with the head, whose logits take much memory."""


@dataclass(frozen=True)
class StepTokens:
    """The numbers of tokens that the products of a step depend on."""

    prompts: int
    """Tokens of the prompts, each counted once."""
    rows: int
    """Completions."""
    length: int
    """Tokens of a completion."""

    @property
    def completions(self) -> int:
        """Tokens of all completions."""
        return self.rows * self.length


def seconds_of_products(model: Path, tokens: StepTokens, *, trains_all: bool) -> dict[str, float]:
    """Measure the matrix products that a step can't do without, with torch's own operations and random data.

    These are: for sampling, one forward pass over each prompt, and one with one token per completion for each of its tokens; for the
    update, one forward and one backward pass over each prompt, which its completions share, and each completion. The backward pass has a
    product for the inputs of each layer and, if all weights are trained, one for its weights. Products of attention and of adapters are
    left out.

    Args:
        model: The folder of the model.
        tokens: The tokens of the step.
        trains_all: Whether all weights are trained, not adapters alone.

    Returns:
        CPU seconds by part of the step.
    """
    import torch
    from torch import nn
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    head = lm.get_output_embeddings()
    shapes = [module.weight.shape for module in lm.modules() if isinstance(module, nn.Linear) and module is not head]
    layers = [torch.randn(shape) for shape in shapes]
    head_weight = torch.randn(head.weight.shape)

    def forward(weights: Iterable[torch.Tensor], rows: int) -> float:
        inputs = {width: torch.randn(rows, width) for width in {weight.shape[1] for weight in weights}}
        return _median_cpu_seconds(lambda: [inputs[weight.shape[1]] @ weight.t() for weight in weights])

    def backward(weights: Iterable[torch.Tensor], rows: int) -> float:
        inputs = {width: torch.randn(rows, width) for width in {weight.shape[1] for weight in weights}}
        outputs = {width: torch.randn(rows, width) for width in {weight.shape[0] for weight in weights}}
        to_inputs = _median_cpu_seconds(lambda: [outputs[weight.shape[0]] @ weight for weight in weights])
        if not trains_all:
            return to_inputs
        return to_inputs + _median_cpu_seconds(
            lambda: [outputs[weight.shape[0]].t() @ inputs[weight.shape[1]] for weight in weights]
        )

    sequences = (tokens.prompts + tokens.completions) / CHUNK
    head_parts = tokens.completions / HEAD_ROWS
    return {
        "sampling": forward(layers, CHUNK) * tokens.prompts / CHUNK
        + (forward(layers, tokens.rows) + forward([head_weight], tokens.rows)) * tokens.length,
        "update, layers": (forward(layers, CHUNK) + backward(layers, CHUNK)) * sequences,
        "update, head": (forward([head_weight], HEAD_ROWS) + backward([head_weight], HEAD_ROWS)) * head_parts,
    }


def _median_cpu_seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """Return the CPU time of a call: the median of some, after one that is not measured."""
    function()
    found = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        found.append(time.process_time() - began)
    return median(found)


class PeakMemory:
    """The largest resident memory of this process, by part of a step. Linux can start a new peak at any time; elsewhere all is 0."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}

    def note(self, part: str) -> None:
        """Note the peak since the last note, and start a new one."""
        self.peaks[part] = max(self.peaks.get(part, 0.0), _status("VmHWM"))
        if os.access("/proc/self/clear_refs", os.W_OK):
            Path("/proc/self/clear_refs").write_text("5")

    @staticmethod
    def now() -> float:
        """Return the resident memory, in MB."""
        return _status("VmRSS")


def _status(name: str) -> float:
    """Return a size in this process's status, in MB."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def tensor_megabytes(tensors: Iterable[Any]) -> float:
    """Return the memory of tensors in MB, each counted once."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values()) / 2**20 if tensors else math.nan
