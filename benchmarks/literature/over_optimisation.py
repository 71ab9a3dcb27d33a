"""Reward over-optimisation: a learned proxy reward is trained on while the true ("gold") reward is watched.

    python benchmarks/literature/over_optimisation.py [--quick]

After Gao, Schulman and Hilton, "Scaling laws for reward model over-optimization" (https://arxiv.org/abs/2210.10760). The task is
to lay a table: letters are dishes, the prompt names a guest's favourite. The gold reward is a function that is known: each dish
has a worth, good or bad, the favourite one point more; a third serving and those after it cost half a point each. The proxy is a
reward model (stage ``reward_model``) trained on few pairs of tables, labelled by gold with noise (Bradley–Terry), as the tables
were laid before training: short, and hardly with a dish more than twice. GRPO then trains on the proxy with three KL
coefficients, the KL being taken off the reward. Gold is a component of weight 0: measured on every sample, never learned from.

Without KL, it also trains on an ensemble of three reward models, which learned from the same pairs with other seeds, as in "Reward model
ensembles help mitigate overoptimization" (https://arxiv.org/abs/2310.02743): on their mean, and on the mean minus one and minus two
standard deviations.

Both rewards are shown in standard deviations above the mean of the model that training starts from. The arms with a single
reward model take five minutes of one core; ``--arms single`` or ``--arms ensembles`` runs a part.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from common import SEEDS, SFT, arguments, build, metrics, plot, report, smooth, spread, table, train, write_lines

from rewardkit import Rollout, Score, reward
from rewardkit.registry import Registry

DISHES = "abdehiknoprtux"
WORTH = dict(zip(DISHES, (0.9, -0.6, 0.5, -0.2, 0.7, -0.9, 0.1, 0.3, -0.4, 0.8, -0.7, 0.2, 0.4, -0.1), strict=True))
FAVOURITE, WELCOME, TOO_MUCH = 1.0, 2, 0.5
NOISE = 0.5
"""Preferences are drawn with probability σ(difference of gold / NOISE)."""
NEXT_TO_NOTHING = 1e-9
"""The KL coefficient for β = 0. With 0 itself there is no reference model, and KL is not measured."""
WINDOW = 9
"""Number of steps that a point of a curve averages."""

REWARD_MODEL = """
version: 1
stage: reward_model
output: set
model: {path: set}
data: {train: set, eval_share: 0.2}
steps: 120
batch_size: 32
optimizer: {lr: 1.0e-3, warmup_steps: 10, schedule: cosine}
evaluate: {every: 0}
checkpoint: {every: 0}
"""
GRPO = """
version: 1
stage: grpo
output: set
model: {path: set}
data: {train: set, eval: set}
reward:
  components:
    proxy: {use: reward_model, with: {model: set}}
    gold:  {use: table.gold, weight: 0.0}
steps: 150
rollout: {prompts_per_step: 14, group_size: 16, max_new_tokens: 21, temperature: 1.0}
algorithm: {use: dr_grpo}
kl: {coefficient: set, estimator: k1, place: reward}
optimizer: {lr: 5.0e-4, warmup_steps: 5}
monitors: {gold_drop: 0.25, kl: null, length_correlation: null, repetition: null, truncated: null, entropy_share: null}
evaluate: {every: 10, gold: {components: {gold: {use: table.gold}}}}
checkpoint: {every: 0}
log: {samples: 2}
"""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the study."""

    seeds: Sequence[int] = SEEDS
    betas: Sequence[float] = (0.0, 0.1, 0.3, 10.0)
    """The KL coefficients with a single reward model."""
    penalties: Sequence[float] = (0.0, 1.0, 2.0)
    """The penalties on the disagreement of an ensemble, without KL."""
    members: int = 3
    pairs: int = 300
    sft_steps: int = 150
    proxy_steps: int = 120
    steps: int = 150


QUICK = Size(
    seeds=(0,), betas=(0.0, 10.0), penalties=(1.0,), members=2, pairs=100, sft_steps=50, proxy_steps=20, steps=12
)


@dataclass(frozen=True, slots=True)
class Result:
    """The results of one run. Rewards are in standard deviations above the mean of the starting model."""

    seed: int
    beta: float
    penalty: float | None
    """The penalty on the disagreement of an ensemble; None with a single reward model."""
    proxy: list[float]
    gold: list[float]
    kl: list[float]
    """KL in nats per completion."""
    disagreement: list[float]
    """The mean standard deviation of the reward models, of an ensemble."""
    alarm: int | None
    """The first step at which rewardkit's monitor raised its alarm."""

    def peak(self) -> int:
        """The step with the best gold reward."""
        curve = smooth(self.gold, WINDOW)
        return max(range(len(curve)), key=curve.__getitem__)

    def at_peak(self, values: Sequence[float]) -> float:
        """Return the mean around the best step."""
        return smooth(values, WINDOW)[self.peak()]


def at_end(values: Sequence[float]) -> float:
    """Return the mean of the last steps."""
    return fmean(values[-WINDOW:])


def worth(favourite: str, served: str) -> float:
    """Return the gold reward of a table."""
    total = 0.0
    for dish, count in Counter(served).items():
        if dish in WORTH:
            each = WORTH[dish] + (FAVOURITE if dish == favourite else 0.0)
            total += each * min(count, WELCOME) - TOO_MUCH * max(count - WELCOME, 0)
        else:
            total -= count
    return total


@reward("table.gold")
def gold(rollout: Rollout) -> Score:
    """Return the gold reward of a table for its guest."""
    return Score(worth(str(rollout.prompt)[0], rollout.completion_text))


def lay(draw: random.Random) -> str:
    """Return a table as before training."""
    return "".join(draw.choices(DISHES, k=draw.randint(3, 10)))


def write_data(folder: Path, seed: int, pairs: int) -> None:
    """Write tables for SFT, noisy preferences, and prompts."""
    draw = random.Random(seed)  # noqa: S311 - no secrets here
    guests = [{"prompt": f"{dish}:"} for dish in DISHES]
    write_lines(folder / "guests.jsonl", guests)
    tables = [{"prompt": f"{draw.choice(DISHES)}:", "completion": lay(draw)} for _ in range(4000)]
    write_lines(folder / "tables.jsonl", tables)
    rows: list[dict[str, object]] = []
    while len(rows) < pairs:
        favourite, one, other = draw.choice(DISHES), lay(draw), lay(draw)
        if one == other:
            continue
        lead = worth(favourite, one) - worth(favourite, other)
        if draw.random() > 1 / (1 + math.exp(-lead / NOISE)):
            one, other = other, one
        rows.append({"prompt": f"{favourite}:", "chosen": one, "rejected": other, "id": len(rows)})
    write_lines(folder / "pairs.jsonl", rows)


def prepare(folder: Path, seed: int, registry: Registry, size: Size) -> float:
    """Train the starting model and the proxy, and return the proxy's accuracy on held-out pairs."""
    write_data(folder, seed, size.pairs)
    build().write_model(folder / "base", hidden=64, layers=2, seed=seed)
    tables = {"seed": seed, "data.train": folder / "tables.jsonl", "model.path": folder / "base"}
    start = train(SFT, folder / "sft", registry, {**tables, "steps": size.sft_steps})
    pairs = {"seed": seed, "data.train": folder / "pairs.jsonl", "model.path": start}
    train(REWARD_MODEL, folder / "proxy", registry, {**pairs, "steps": size.proxy_steps})
    for member in range(1, size.members if size.penalties else 1):
        # The seed draws the head and the order of the pairs; those that are held out are the same.
        own = {**pairs, "seed": 100 * member + seed, "steps": size.proxy_steps}
        train(REWARD_MODEL, folder / f"proxy{member}", registry, own)
    return metrics(folder / "proxy", "eval")[-1]["accuracy"]


def optimise(
    folder: Path, seed: int, beta: float, registry: Registry, size: Size, penalty: float | None = None
) -> Result:
    """Train on the proxy, or with a penalty on the ensemble."""
    run = folder / (f"beta{beta:g}" if penalty is None else f"ensemble{penalty:g}")
    proxy: dict[str, object] = {"model": str(folder / "proxy/final")}
    if penalty is not None:
        members = ["proxy", *(f"proxy{member}" for member in range(1, size.members))]
        proxy = {"models": [str(folder / member / "final") for member in members], "uncertainty_penalty": penalty}
    changes = {
        "seed": seed,
        "model.path": folder / "sft/final",
        "data.train": folder / "guests.jsonl",
        "data.eval": folder / "guests.jsonl",
        "reward.components.proxy.with": proxy,
        "kl.coefficient": beta or NEXT_TO_NOTHING,
        "steps": size.steps,
    }
    train(GRPO, run, registry, changes)
    lines = metrics(run)

    def course(name: str) -> list[float]:
        start, deviation = lines[0][f"component/{name}"], lines[0][f"component/{name}/std"]
        return [(line[f"component/{name}"] - start) / deviation for line in lines]

    alarms = (run / "alarms.jsonl").read_text(encoding="utf-8") if (run / "alarms.jsonl").exists() else ""
    raised = [item["step"] for item in map(json.loads, alarms.splitlines()) if item["name"] == "gold_drop"]
    return Result(
        seed,
        beta,
        penalty,
        course("proxy"),
        course("gold"),
        [line["kl"] for line in lines],
        [line["component/proxy/disagreement"] for line in lines] if penalty is not None else [],
        min(raised, default=None),
    )


def name_of(beta: float, penalty: float | None) -> str:
    """Return the name of an arm."""
    return f"β = {beta:g}" if penalty is None else f"ensemble, λ = {penalty:g}"


def findings(results: Sequence[Result], accuracies: Sequence[float]) -> str:
    """Return the table and its conclusions."""
    arms = list(dict.fromkeys((course.beta, course.penalty) for course in results))
    seeds = len(results) // len(arms)
    rows = []
    for arm in arms:
        own = [course for course in results if (course.beta, course.penalty) == arm]
        alarms = [str(course.alarm) for course in own if course.alarm is not None]
        rows.append(
            [
                name_of(*arm),
                spread([root(at_end(course.kl)) for course in own]),
                spread([at_end(course.proxy) for course in own]),
                spread([course.at_peak(course.gold) for course in own]),
                spread([at_end(course.gold) for course in own]),
                spread([course.at_peak(course.gold) - at_end(course.gold) for course in own]),
                f"{len(alarms)} of {len(own)}",
            ]
        )
    free = [course for course in results if (course.beta, course.penalty) == (0, None)]
    fell = [course for course in free if course.at_peak(course.gold) - at_end(course.gold) > 0.25]
    rose = [course for course in free if at_end(course.proxy) > course.at_peak(course.proxy)]
    lines = [
        table(
            ["", "√KL at the end", "proxy at the end", "gold at its best", "gold at the end", "gold lost", "alarms"],
            rows,
        ),
        "",
        f"Means over {seeds} seeds (least to greatest); rewards in standard deviations of the start.",
        f"The proxy orders {spread(accuracies)} of held-out noisy pairs rightly.",
        f"β = 0: gold ends more than 0.25 below its best in {len(fell)} of {seeds}.",
        f"β = 0: the proxy is higher at the end than where gold was best in {len(rose)} of {seeds}.",
    ]
    for arm in arms:
        held = [course for course in results if (course.beta, course.penalty) == arm]
        if arm == (0, None) or not free:
            continue
        better = sum(at_end(one.gold) > at_end(other.gold) for one, other in zip(held, free, strict=True))
        lost = sum(_lost(one) < _lost(other) for one, other in zip(held, free, strict=True))
        lines.append(
            f"{name_of(*arm)}: gold ends above that of β = 0 in {better} of {seeds}, and loses less in {lost}."
        )
        if arm[1] is not None:
            grown = spread([at_end(one.disagreement) / fmean(one.disagreement[:WINDOW]) for one in held])
            lines.append(f"{name_of(*arm)}: the disagreement grows to {grown} times that of the start.")
    return "\n".join(lines)


def _lost(course: Result) -> float:
    return course.at_peak(course.gold) - at_end(course.gold)


def root(kl: float) -> float:
    """Return √KL. An estimate of a KL near 0 may be negative."""
    return math.sqrt(max(kl, 0.0))


def draw(results: Sequence[Result], axes: Sequence[Any]) -> None:
    """Draw both rewards over the KL divergence, and over steps."""
    arms = list(dict.fromkeys((course.beta, course.penalty) for course in results))
    for course in results:
        colour = f"C{arms.index((course.beta, course.penalty))}"
        distance = [root(kl) for kl in smooth(course.kl, WINDOW)]
        label = name_of(course.beta, course.penalty) if course.seed == results[0].seed else None
        for axis, xs in ((axes[0], distance), (axes[1], list(range(len(distance))))):
            axis.plot(xs, smooth(course.proxy, WINDOW), "--", color=colour, linewidth=1, alpha=0.7)
            axis.plot(xs, smooth(course.gold, WINDOW), color=colour, linewidth=1.6, alpha=0.9, label=label)
    axes[0].set_xlabel("√KL from the start (KL in nats)")
    axes[1].set_xlabel("step")
    for axis in axes:
        axis.set_ylabel("reward, standard deviations of the start")
    axes[0].set_title("gold (solid) and proxy (dashed)", fontsize=10)
    axes[0].legend()


def main() -> None:
    """Run every seed, coefficient and ensemble."""
    choice = {"choices": ["all", "single", "ensembles"], "default": "all", "help": "which arms to run"}
    options = arguments("over_optimisation", __doc__, ("--arms", choice))
    size = QUICK if options.quick else Size()
    if options.arms != "all":  # the single reward model without KL is what ensembles are compared with
        size = replace(size, **({"penalties": ()} if options.arms == "single" else {"betas": (0.0,)}))
    registry = Registry.load()
    registry.register(sys.modules[__name__])
    results, accuracies = [], []
    for seed in size.seeds:
        folder = options.out / f"seed{seed}"
        accuracies.append(prepare(folder, seed, registry, size))
        results += [optimise(folder, seed, beta, registry, size) for beta in size.betas]
        results += [optimise(folder, seed, 0.0, registry, size, penalty) for penalty in size.penalties]
    records = [{**asdict(course), "proxy_accuracy": accuracies[size.seeds.index(course.seed)]} for course in results]
    report(options.out, findings(results, accuracies), records)
    plot(options.out / "over_optimisation.png", 2, lambda axes: draw(results, axes))


if __name__ == "__main__":
    main()
