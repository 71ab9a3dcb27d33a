"""Compare Triton's kernels with torch on a CPU: ``TRITON_INTERPRET=1 python interpreted.py FILE`` writes the largest differences.

Triton reads the variable when it is imported, so this is a process of its own.
"""

import json
import sys
from itertools import product
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from rewardkit.train.models import logprobs
from rewardkit.train.models.kernels import triton_tiles
from rewardkit.train.models.kernels.choice import chosen_kernel
from rewardkit.train.models.kernels.tiles import NO_SCALING, TORCH_TILES, LogitScaling
from rewardkit.train.models.logprobs import TileSize, tiled_logprobs

ROWS, WIDTH, WORDS = 5, 16, 41
SCALINGS = {"plain": NO_SCALING, "scaled": LogitScaling(0.25), "capped": LogitScaling(2.0, 3.0)}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
HEADS = ("frozen", "kept in part")


def results(kernel, head, scaling, dtype):
    """Log-probabilities at temperature 0.8, entropies and gradients, in tiles of three tokens and 17 words."""
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, requires_grad=True)
    weight, bias = (torch.randn(*shape, requires_grad=head != "frozen") for shape in ((WORDS, WIDTH), (WORDS,)))
    targets = torch.randint(0, WORDS, (ROWS,))
    with mock.patch.object(TileSize, "fitting", return_value=TileSize(3, 17, 2 * WORDS)):
        found = tiled_logprobs(hidden, weight, bias, targets, 0.8, dtype, scaling, kernel=kernel)
    (found[0] * torch.linspace(-1, 1, ROWS)).sum().backward()
    return [
        *(value.detach() for value in found),
        *(value.grad for value in (hidden, weight, bias) if value.grad is not None),
    ]


def main(file):
    """Write the largest difference of each case, relative to the largest value, and whether a run's check agrees."""
    found = {}
    # A row of a tile is read in two blocks.
    with mock.patch.object(triton_tiles, "BLOCK", 16):
        for head, scaling, dtype in product(HEADS, SCALINGS, DTYPES):
            one, other = (
                results(kernel, head, SCALINGS[scaling], DTYPES[dtype])
                for kernel in (triton_tiles.TRITON_TILES, TORCH_TILES)
            )
            found[f"{head}, {scaling}, {dtype}"] = max(
                float((mine - theirs).abs().max() / theirs.abs().max()) for mine, theirs in zip(one, other, strict=True)
            )
    with mock.patch.object(logprobs, "PLAIN_LOGITS", 0):
        chosen = chosen_kernel("triton", nn.Linear(8, 50), LogitScaling(1.0, 30.0), torch.float32, torch.device("cpu"))
    Path(file).write_text(json.dumps({"cases": found, "is_chosen": chosen is triton_tiles.TRITON_TILES}))


if __name__ == "__main__":
    main(sys.argv[1])
