"""Writes the data of the examples as Parquet files in verl's format.

    python examples/real/prepare.py words     # word problems of one step, made on the spot
    python examples/real/prepare.py gsm8k     # GSM8K, from the hub with the package datasets
    python examples/real/prepare.py gsm8k --train gsm8k_train.jsonl --test gsm8k_test.jsonl     # or from files of your own

Each row has a prompt of chat messages, the reference answer as reward_model.ground_truth, and for SFT a worked completion:

    {"data_source": "openai/gsm8k", "prompt": [{"role": "user", "content": "…"}], "completion": "… #### 72",
     "reward_model": {"style": "rule", "ground_truth": "72"}, "extra_info": {"index": 0, "split": "train"}}
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

WORK = Path(__file__).parent / "work"
NAMES = ("Tom", "Ana", "Ravi", "Mei", "Sam", "Lea", "Noor", "Ivo")
THINGS = ("apples", "coins", "books", "cards", "shells", "stamps")
WORDS_TRAIN, WORDS_HELD_OUT = 2000, 200
GSM8K_SFT = 2000
"""Number of problems of GSM8K that SFT learns from. GRPO learns from the others."""


def row(source: str, question: str, completion: str, answer: str, index: int, split: str) -> dict[str, Any]:
    """Return a row in verl's format, with a worked completion."""
    return {
        "data_source": source,
        "prompt": [{"role": "user", "content": question}],
        "completion": completion,
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": answer},
        "extra_info": {"index": index, "split": split},
    }


def word_problem(draw: random.Random) -> tuple[str, str]:
    """Return a word problem of one addition or subtraction of small numbers, and its answer.

    There are 48 sums, each in many words, so that a short run meets each of them several times.
    """
    name, thing = draw.choice(NAMES), draw.choice(THINGS)
    have, change, gains = draw.randint(3, 10), draw.randint(1, 3), draw.random() < 0.5
    event = f"{draw.choice(('buys', 'finds') if gains else ('loses', 'sells'))} {change}"
    question = f"{name} has {have} {thing} and {event}. How many now?"
    return question, str(have + change if gains else have - change)


def write_words(folder: Path) -> None:
    """Write words_train.parquet and words_heldout.parquet, the same at every call. No held-out problem is trained on."""
    draw = random.Random(0)  # noqa: S311 - no secrets here
    problems: dict[str, str] = {}
    while len(problems) < WORDS_TRAIN + WORDS_HELD_OUT:
        question, answer = word_problem(draw)
        problems[question] = answer
    rows = [
        row("words", question, answer, answer, index, "") for index, (question, answer) in enumerate(problems.items())
    ]
    for name, part in (("heldout", rows[:WORDS_HELD_OUT]), ("train", rows[WORDS_HELD_OUT:])):
        for one in part:
            one["extra_info"]["split"] = name
        write(folder / f"words_{name}.parquet", part)


def gsm8k_rows(problems: Iterable[Mapping[str, str]], split: str) -> list[dict[str, Any]]:
    """Return the problems of GSM8K as rows. The completion is the worked answer without the notes of its calculator."""
    rows = []
    for index, problem in enumerate(problems):
        worked = re.sub(r"<<[^>]*>>", "", problem["answer"])
        answer = worked.rpartition("####")[2].strip().replace(",", "")
        rows.append(row("openai/gsm8k", problem["question"], worked, answer, index, split))
    return rows


def write_gsm8k(folder: Path, train: Path | None, test: Path | None) -> None:
    """Write gsm8k_sft.parquet, gsm8k_train.parquet and gsm8k_heldout.parquet, from files of problems or from the hub."""
    rows = {"train": gsm8k_rows(problems("train", train), "train"), "test": gsm8k_rows(problems("test", test), "test")}
    write(folder / "gsm8k_sft.parquet", rows["train"][:GSM8K_SFT])
    write(folder / "gsm8k_train.parquet", rows["train"][GSM8K_SFT:])
    write(folder / "gsm8k_heldout.parquet", rows["test"])


def problems(split: str, file: Path | None) -> Iterable[Mapping[str, str]]:
    """Return the problems of a split, from a JSONL file or from the hub."""
    if file is not None:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    from datasets import load_dataset  # type: ignore[import-untyped,unused-ignore]

    found: Iterable[Mapping[str, str]] = load_dataset("openai/gsm8k", "main", split=split)
    return found


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write a Parquet file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    print(f"{file}: {len(rows):,} rows")  # noqa: T201


def main() -> None:
    """Write the files of one task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["words", "gsm8k"])
    parser.add_argument("--out", type=Path, default=WORK, help="the folder of the files")
    parser.add_argument("--train", type=Path, help="a JSONL file of GSM8K's training problems, instead of the hub")
    parser.add_argument("--test", type=Path, help="a JSONL file of GSM8K's test problems, instead of the hub")
    arguments = parser.parse_args()
    if arguments.task == "words":
        write_words(arguments.out)
    else:
        write_gsm8k(arguments.out, arguments.train, arguments.test)


if __name__ == "__main__":
    main()
