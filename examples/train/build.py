"""Makes what the examples train: a model of about 0.8 million parameters with a character tokenizer, and two tasks for it.

    python examples/train/build.py FOLDER

writes FOLDER/base (a Qwen2 of random weights) and

sums: sft.jsonl, train.jsonl, pairs.jsonl, and heldout.jsonl with sft_heldout.jsonl. The sums are of two numbers between 10 and 99; the
500 sums that are held out occur in none of the other files.

functions: code_sft.jsonl, code_train.jsonl and code_heldout.jsonl. A prompt says in words what a Python function of one line is to
compute; the row's tests call it.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ALPHABET = "0123456789+-*/=?.,:;()[]{}<>\\ \n_'\"abcdefghijklmnopqrstuvwxyz"
HELD_OUT = 500
PREFERENCES = 2000
FUNCTIONS = 6000
HELD_OUT_FUNCTIONS = 200


def steps(first: int, second: int) -> str:
    """Column addition as it is written out: units first, digit + digit + carry = sum."""
    written, carry = [], 0
    for one, other in zip(reversed(f"{first:02d}"), reversed(f"{second:02d}"), strict=True):
        total = int(one) + int(other) + carry
        written.append(f"{one}+{other}+{carry}={total}")
        carry = total // 10
    return ",".join(written)


def row(first: int, second: int) -> dict[str, str]:
    """One sum: the prompt, the worked completion, and the answer."""
    answer = str(first + second)
    return {
        "prompt": f"{first}+{second}=?",
        "completion": f"<think>{steps(first, second)}</think>\\boxed{{{answer}}}",
        "answer": answer,
    }


def preference(first: int, second: int, draw: random.Random) -> dict[str, str]:
    """A worked sum, preferred to one of the same length whose boxed answer has one digit other than its working says."""
    right = row(first, second)
    digits = list(right["answer"])
    place = draw.randrange(len(digits))
    digits[place] = draw.choice([digit for digit in "123456789" if digit != digits[place]])
    wrong = right["completion"].replace(f"{{{right['answer']}}}", f"{{{''.join(digits)}}}")
    return {"prompt": right["prompt"], "chosen": right["completion"], "rejected": wrong}


def function(draw: random.Random) -> dict[str, object]:
    """Three operations one after the other: in words, as a function, and as calls with what they return."""
    said, written, values = [], "x", {number: number for number in (-4, 0, 3, 7)}
    for _ in range(3):
        kind, number = draw.choice(("add", "take", "times", "square", "negate")), draw.randint(2, 9)
        # A sum or a product is put in brackets where what follows would reach into it.
        inner = written if written == "x" else f"({written})"
        match kind:
            case "add":
                said, written = [*said, f"add {number}"], f"{written}+{number}"
                values = {key: value + number for key, value in values.items()}
            case "take":
                said, written = [*said, f"take {number}"], f"{written}-{number}"
                values = {key: value - number for key, value in values.items()}
            case "times":
                said, written = [*said, f"times {number}"], f"{inner}*{number}"
                values = {key: value * number for key, value in values.items()}
            case "square":
                said, written = [*said, "square"], f"{inner}**2"
                values = {key: value**2 for key, value in values.items()}
            case "negate":
                said, written = [*said, "negate"], f"-{inner}"
                values = {key: -value for key, value in values.items()}
    tests = [{"call": "f", "args": [key], "expected": value} for key, value in values.items()]
    return {"prompt": ", ".join(said) + ":\n", "completion": f"def f(x): return {written}", "tests": tests}


def write_functions(folder: Path) -> None:
    """Three files of functions, the same at every call. No prompt that is held out occurs in another file."""
    draw = random.Random(2)  # noqa: S311 - no secrets here
    rows = {row["prompt"]: row for row in (function(draw) for _ in range(FUNCTIONS))}
    held_out, rest = list(rows.values())[:HELD_OUT_FUNCTIONS], list(rows.values())[HELD_OUT_FUNCTIONS:]
    for name, part, columns in (
        ("sft", rest, ("prompt", "completion")),
        ("train", rest, ("prompt", "tests")),
        ("heldout", held_out, ("prompt", "tests")),
    ):
        write_lines(folder / f"code_{name}.jsonl", [{key: row[key] for key in columns} for row in part])


def write_data(folder: Path) -> None:
    """All files of both tasks, the same at every call."""
    write_sums(folder)
    write_functions(folder)


def write_sums(folder: Path) -> None:
    """Five files of sums, the same at every call."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(first, second) for first in range(10, 100) for second in range(10, 100)]
    random.Random(0).shuffle(pairs)  # noqa: S311 - no secrets here
    held_out, rest = ([row(*pair) for pair in part] for part in (pairs[:HELD_OUT], pairs[HELD_OUT:]))
    for name, lines in (("sft", rest), ("sft_heldout", held_out)):
        write_lines(folder / f"{name}.jsonl", lines)
    for name, lines in (("train", rest), ("heldout", held_out)):
        write_lines(folder / f"{name}.jsonl", [{key: line[key] for key in ("prompt", "answer")} for line in lines])
    draw = random.Random(1)  # noqa: S311 - no secrets here
    write_lines(folder / "pairs.jsonl", [preference(*pair, draw) for pair in pairs[HELD_OUT : HELD_OUT + PREFERENCES]])


def write_lines(file: Path, lines: Sequence[Mapping[str, object]]) -> None:
    """JSONL."""
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_model(folder: Path, hidden: int = 128, layers: int = 4, seed: int = 0) -> None:
    """A transformers folder: Qwen2 architecture with random weights, and a tokenizer of single characters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Qwen2's own way of writing bytes, without merges: each character is a token.
    special = ["<|pad|>", "<|end|>"]
    written = [character.replace(" ", "Ġ").replace("\n", "Ċ") for character in ALPHABET]
    vocabulary = {token: index for index, token in enumerate([*special, *written])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=special[0], eos_token=special[1])
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(vocabulary),
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            initializer_range=0.08,  # at the usual 0.02 so small a model stays unsure of everything for long
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
    )
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/train/work")
    write_data(target)
    write_model(target / "base")
    print(f"{target}: base, {', '.join(sorted(file.name for file in target.glob('*.jsonl')))}")  # noqa: T201
