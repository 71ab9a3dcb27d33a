"""Reward models: Bradley–Terry on preference pairs, judged on pairs that were held out.

What comes out is a plain transformers folder: a sequence classifier with one output. Its config.json also says how dialogues
were rendered and what mean and standard deviation its scores have, which the plugin ``reward_model`` reads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
import torch
from rich.table import Table

from rewardkit.errors import DataError, OutputError
from rewardkit.train.checkpoint import write_folder
from rewardkit.train.config import RewardModelConfig, paths
from rewardkit.train.data import Order
from rewardkit.train.dropout import switch_off_dropout
from rewardkit.train.math.metrics import Estimate
from rewardkit.train.math.preference import bradley_terry
from rewardkit.train.optim import Optimizer, learning_rate
from rewardkit.train.pairs import DialogueRenderer, ScoredPair, read_pairs
from rewardkit.train.preference_report import PairScores, PreferenceReport, preference_report, reliability_svg
from rewardkit.train.run import FINAL, Run
from rewardkit.train.scorer import Scorer
from rewardkit.train.stages import TrainFile


def train_reward_model(file: TrainFile) -> Path:
    """Run the stage; returns the folder of the trained model.

    Raises:
        ConfigError: There is no such model.
        DataError: The data can't be used.
        OutputError: The run can't be written down.
        Interrupted: Somebody asked it to end; it can go on.
    """
    config = file.config
    assert isinstance(config, RewardModelConfig)  # noqa: S101 - for the type checker
    train_rows, held_out_rows = read_pairs(config.data)
    scorer = Scorer.load(config.model, file.where("model", "path"), trained=config.trained, seed=config.seed)
    limit = min(config.max_tokens or scorer.context, scorer.context)
    renderer = DialogueRenderer(scorer.tokenizer, config.data, limit)
    train = [renderer.pair(row, config.loss.margin) for row in train_rows]
    held_out = [renderer.pair(row, config.loss.margin) for row in held_out_rows]
    if cut := sum(pair.chosen.tokens == pair.rejected.tokens for pair in train):
        raise DataError(f"{cut} pairs do not differ within the last {limit} tokens; raise max_tokens")
    total = config.steps or math.ceil((config.epochs or 1) * len(train) / config.batch_size)
    files = [*paths(config.data.train), *paths(config.data.eval)]
    cut = sum(dialogue.is_cut for pair in train for dialogue in (pair.chosen, pair.rejected))
    facts = {"pairs": len(train), "pairs_held_out": len(held_out), "dialogues_cut": cut}
    with Run.open(config, total, files, facts) as run:
        if cut:
            run.view.say(
                f"{cut} of {2 * len(train)} dialogues are longer than {limit} tokens: their beginning is cut off"
            )
        optimizer = Optimizer(scorer.trained, config.optimizer, total)
        parts = {"reward_model": (scorer.trained, optimizer)}
        order = Order(len(train), config.seed)
        micro, first = config.micro_batch_tokens, 0
        if (latest := run.checkpoints.latest()) is not None:
            first = run.checkpoints.restore(latest, parts)["step"]
            run.view.resumed(first)
        run.rewind(first)
        if not config.dropout:
            switch_off_dropout(scorer.model)
        scorer.model.train()
        for step in run.steps(first):
            began = time.monotonic()
            batch = [train[index] for index in order.take(step * config.batch_size, config.batch_size)]
            losses, leads = torch.zeros(len(batch)), torch.zeros(len(batch))

            def backward(
                part: list[int],
                batch: Sequence[ScoredPair] = batch,
                losses: torch.Tensor = losses,
                leads: torch.Tensor = leads,
            ) -> None:
                pairs = [batch[index] for index in part]
                both = scorer.scores([pair.chosen.tokens for pair in pairs] + [pair.rejected.tokens for pair in pairs])
                chosen_P, rejected_P = both.chunk(2)
                margin_P = torch.tensor([pair.margin for pair in pairs], device=both.device)
                loss_P = bradley_terry(chosen_P, rejected_P, margin_P, centring=config.loss.centring)
                (loss_P.sum() / len(batch)).backward()  # type: ignore[no-untyped-call]
                losses[part] = loss_P.detach().cpu()
                leads[part] = (chosen_P - rejected_P).detach().cpu()

            micro = optimizer.accumulate([pair.tokens for pair in batch], micro, backward)
            norm = optimizer.step(step)
            seconds = time.monotonic() - began
            done = step + 1
            run.log(
                done,
                {
                    "loss": float(losses.mean()),
                    "accuracy": float((leads > 0).float().mean()),
                    "lead": float(leads.mean()),
                    "grad_norm": norm,
                    "lr": learning_rate(config.optimizer, step, total),
                    "tokens_per_s": sum(pair.tokens for pair in batch) / seconds,
                    "seconds": seconds,
                },
            )
            if held_out and done < total and run.is_due(done, config.evaluate.every):
                run.log(done, evaluate(scorer, held_out, config.micro_batch_tokens).figures(), kind="eval")
            if run.stop or run.is_due(done, config.checkpoint.every):
                run.checkpoints.save(done, parts, {})
            if run.stop and done < total:
                raise run.interrupted(done)
        return finish(run, scorer, train, held_out, config)


def evaluate(scorer: Scorer, pairs: Sequence[ScoredPair], most_tokens: int) -> PreferenceReport:
    """Score both answers of every pair and report."""
    dialogues = [dialogue for pair in pairs for dialogue in (pair.chosen, pair.rejected)]
    scores = scorer.score_all([dialogue.tokens for dialogue in dialogues], most_tokens)
    return preference_report(
        [
            PairScores(scores[2 * index], scores[2 * index + 1], pair.chosen.characters, pair.rejected.characters)
            for index, pair in enumerate(pairs)
        ]
    )


def finish(
    run: Run, scorer: Scorer, train: Sequence[ScoredPair], held_out: Sequence[ScoredPair], config: RewardModelConfig
) -> Path:
    """Judge the model on held-out pairs, and write it down with what its scores are like."""
    # Without held-out pairs mean and spread come from what was trained on, and nothing is said of how good the model is.
    report = evaluate(scorer, held_out or train, config.micro_batch_tokens)
    facts = {
        "reward_input": "chat" if train[0].chosen.is_chat else "text",
        "reward_mean": report.mean,
        "reward_std": report.std or 1.0,
        "reward_max_tokens": config.max_tokens,
    }
    path = run.folder / FINAL
    write_folder(path, lambda folder: scorer.save(folder, facts))
    if held_out:
        run.log(run.total_steps, report.figures(), kind="eval")
        try:
            (run.folder / "evaluation.json").write_bytes(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2))
            (run.folder / "reliability.svg").write_text(reliability_svg(report), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"the evaluation can't be written to {run.folder}: {error.strerror}") from None
        run.view.console.print(summary(report))
    return path


def summary(report: PreferenceReport) -> Table:
    """The figures that a person wants to see."""
    table = Table(title=f"{report.pairs} held-out pairs", title_justify="left", show_header=False)

    def row(name: str, value: Estimate) -> None:
        if math.isnan(value.value):
            table.add_row(name, "–", "no such pairs")
            return
        table.add_row(name, f"{value.value:.1%}", f"{value.low:.1%} to {value.high:.1%}")

    row("prefers the preferred answer", report.accuracy)
    row("  … where that is the longer one", report.where_chosen_is_longer)
    row("  … where that is the shorter one", report.where_chosen_is_shorter)
    row("always the longer answer", report.always_longer)
    row("always the shorter answer", report.always_shorter)
    table.add_row("calibration error", f"{report.calibration_error:.3f}", "")
    table.add_row("correlation of score and length", f"{report.length_correlation:+.3f}", "Spearman")
    return table
