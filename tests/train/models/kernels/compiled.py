"""Compile Triton's kernels for a GPU that this machine need not have: ``python compiled.py FILE`` writes the sizes of the binaries.

Interpreting does not show what Triton's compiler refuses.
"""

import json
import sys
from itertools import product
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from rewardkit.train.models.kernels import triton_tiles

HOPPER = GPUTarget("cuda", 90, 32)
TYPES = {"row_stride": "i32", "targets": "*i64", "first": "i32", "words": "i32"}
TYPES |= dict.fromkeys(("scale", "cap", "temperature"), "fp32")


def size(kernel, dtype, **constants):
    """Return the size of a kernel's binary. Tensors of logits have the given type, the others are float32."""
    types = {
        name: "constexpr"
        if name in constants
        else TYPES.get(name, f"*{dtype if name in {'product', 'masses', 'gradient'} else 'fp32'}")
        for name in kernel.arg_names
    }
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    return len(triton.compile(source, target=HOPPER, options={"num_warps": triton_tiles.WARPS}).asm["cubin"])


def main(file):
    """Compile both kernels for each type and kind of head."""
    found = {}
    for dtype, cap in product(("bf16", "fp32"), (False, True)):
        constants = {"HAS_CAP": cap, "BLOCK_SIZE": triton_tiles.BLOCK}
        for masses in (False, True):
            name = f"forward, {dtype}, {'capped' if cap else 'plain'}, {'frozen' if masses else 'trained'}"
            found[name] = size(triton_tiles._forward_kernel, dtype, WRITES_MASSES=masses, **constants)
        found[f"backward, {dtype}, {'capped' if cap else 'plain'}"] = size(
            triton_tiles._backward_kernel, dtype, **constants
        )
    Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
