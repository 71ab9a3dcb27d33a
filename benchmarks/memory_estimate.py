"""Compare the estimate of ``rewardkit check`` with the peak memory of the run.

    python benchmarks/memory_estimate.py                  # Qwen2 and GPT-2 shapes, built on the spot
    python benchmarks/memory_estimate.py --model FOLDER   # a model of your own
    python benchmarks/memory_estimate.py --stage grpo     # instead of sft; needs rewardkit-length

Each case is two steps in a process of its own, with all weights and with LoRA: SFT of rows with 128 tokens of the example's tokenizer, or
GRPO of 8 prompts with 4 completions of up to 32 tokens. On a CPU the peak is that of resident memory, Python and its libraries included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples/train"))

GRPO = {
    "reward": {"components": {"short": {"use": "length.penalty", "with": {"per_char": 0.001}}}},
    "rollout": {"prompts_per_step": 8, "group_size": 4, "max_new_tokens": 32},
    "kl": {"coefficient": 0.02},
    "evaluate": {"every": 0},
}


def build(kind: str, folder: Path) -> None:
    """Write a model of random weights, large enough that Python's own memory is the smaller part."""
    import build as example  # type: ignore[import-not-found,unused-ignore]

    example.write_model(folder, hidden=32, layers=1)  # for its tokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

    if kind == "qwen2":
        config: Any = Qwen2Config(
            vocab_size=32_000,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=6,
            num_attention_heads=12,
            num_key_value_heads=4,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
        model: Any = Qwen2ForCausalLM(config)
    else:
        config = GPT2Config(
            vocab_size=32_000, n_embd=768, n_layer=6, n_head=12, pad_token_id=0, bos_token_id=None, eos_token_id=1
        )
        model = GPT2LMHeadModel(config)
    model.save_pretrained(folder)


def measure(model: Path, work: Path, tokens: int, stage: str, *, lora: bool) -> tuple[int, int]:
    """Return the estimated and the measured peak of a run, in bytes."""
    text = "How many apples does Ana have now? " * 200
    rows = [{"prompt": f"{index}: ", "completion": text[: 2 * 128]} for index in range(64)]
    (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = {
        "version": 1,
        "stage": stage,
        "output": f"run_{lora}",
        "model": {"path": str(model), "dtype": "float32", **({"lora": {"rank": 16}} if lora else {})},
        "data": {"train": "rows.jsonl"},
        "steps": 2,
        "micro_batch_tokens": tokens,
        "checkpoint": {"every": 0},
        **(GRPO if stage == "grpo" else {"batch_size": 16}),
    }
    file = work / "config.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "rewardkit"]
    done = subprocess.run([*command, "check", str(file), "--json"], capture_output=True, text=True, check=True)
    estimate: int = json.loads(done.stdout)["memory"]["peak"]
    program = (
        "import json, sys, torch, resource; from rewardkit.cli import run; code = run(['train', sys.argv[1], '--fresh']); "
        "peak = torch.cuda.max_memory_reserved() if torch.cuda.is_available() "
        "else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024; "
        "print(json.dumps([code, peak]))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    code, peak = json.loads(done.stdout.splitlines()[-1])
    if code:
        raise RuntimeError(done.stderr[-600:])
    return estimate, peak


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder of a model, instead of those that are built")
    parser.add_argument("--tokens", type=int, default=2048, help="micro_batch_tokens")
    parser.add_argument("--stage", choices=["sft", "grpo"], default="sft")
    arguments = parser.parse_args()
    print(f"{'model':12}{'trained':10}{'estimate GB':>12}{'peak GB':>10}{'difference':>12}", flush=True)
    for kind in ["model"] if arguments.model else ["qwen2", "gpt2"]:
        with tempfile.TemporaryDirectory() as folder:
            model = arguments.model or Path(folder, kind)
            if arguments.model is None:
                build(kind, model)
            for lora in (False, True):
                estimate, peak = measure(model, Path(folder), arguments.tokens, arguments.stage, lora=lora)
                name = "lora" if lora else "all"
                print(
                    f"{kind:12}{name:10}{estimate / 1e9:12.2f}{peak / 1e9:10.2f}{estimate / peak - 1:+12.0%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
