"""Looks at a run's data before it starts: what is in the loss, what will be asked, and what is odd about it.

Loads the tokenizer, not the model, and runs no reward.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rewardkit.train.config import RlConfig, SftConfig, paths
from rewardkit.train.data import Example, Prompt, Renderer
from rewardkit.train.policy import load_tokenizer, model_context
from rewardkit.train.rollouts import rollout
from rewardkit.train.rows import read_rows
from rewardkit.train.stages import TrainFile

SKEWED = 8
"""Lengths are called skewed where the longest hundredth is so many times the median."""
MOST_ROW_PROBLEMS = 5


@dataclass(slots=True)
class Findings:
    """What was seen."""

    facts: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    sample: Text | None = None
    """A rendered row; green is in the loss, dim is not."""


def preview(file: TrainFile) -> Findings:
    """Look at the data of a configuration.

    Raises:
        ConfigError: There is no such model.
        DataError: A row can't be used.
    """
    config = file.config
    found = Findings()
    if isinstance(config, SftConfig):
        _sft(config, file, found)
    elif isinstance(config, RlConfig):
        _prompts(config, file, found)
    return found


def _sft(config: SftConfig, file: TrainFile, found: Findings) -> None:
    tokenizer = load_tokenizer(config.model, file.where("model", "path"))
    renderer = Renderer(tokenizer, config.data)
    rows = read_rows(paths(config.data.train))
    examples = [item for row in rows for item in renderer.examples(row, config.loss.weights)]
    context = model_context(config.model)
    limit = min(config.max_tokens or context, context)
    lengths = [len(item.tokens) for item in examples]
    in_loss = sum(weight > 0 for item in examples for weight in item.weights)
    found.facts |= {
        "rows": f"{len(rows):,} ({len(examples):,} examples)",
        "tokens": f"{sum(lengths):,}, {in_loss / max(sum(lengths), 1):.0%} of them in the loss",
        "length": _spread(lengths),
    }
    found.sample = _sample(examples[0], renderer)
    _lengths(lengths, limit, "left out", found)
    _repeats([item.tokens for item in examples], "examples", found)
    if config.data.eval is not None:
        held_out = {item.tokens for row in read_rows(paths(config.data.eval)) for item in renderer.examples(row)}
        both = sum(item.tokens in held_out for item in examples)
        if both:
            found.warnings.append(f"{both} training examples are held-out ones, too")
    echoes = sum(_echoes(item) for item in examples)
    if echoes:
        found.warnings.append(f"{echoes} responses begin with their own prompt: prompt tokens are in the loss")
    if not any(item.tokens[-1] == tokenizer.eos_token_id for item in examples):
        found.warnings.append("no example ends with the end-of-sequence token: the model will not learn to stop")
    _template(renderer, rows[0].data.get(config.data.prompt), found)


def _prompts(config: RlConfig, file: TrainFile, found: Findings) -> None:
    tokenizer = load_tokenizer(config.model, file.where("model", "path"))
    renderer = Renderer(tokenizer, config.data)
    rows = read_rows(paths(config.data.train))
    prompts = [renderer.prompt(row) for row in rows]
    lengths = [len(item.tokens) for item in prompts]
    found.facts |= {"prompts": f"{len(prompts):,}", "length": _spread(lengths)}
    found.sample = Text(str(tokenizer.decode(list(prompts[0].tokens))), "dim")
    _lengths(
        [length + config.rollout.max_new_tokens for length in lengths], model_context(config.model), "refused", found
    )
    _repeats([item.tokens for item in prompts], "prompts", found)
    _template(renderer, rows[0].data.get(config.data.prompt), found)
    needed = config.rollout.prompts_per_step
    if len(prompts) < needed:
        found.warnings.append(
            f"a step takes {needed} prompts and there are {len(prompts)}: it will hold some of them twice"
        )
    _row_problems(prompts, file, found)


def _row_problems(prompts: Sequence[Prompt], file: TrainFile, found: Findings) -> None:
    """What the reward would miss in a row, told by the reward's own check."""
    if file.reward is None:
        return
    problems: Counter[str] = Counter()
    first: dict[str, str] = {}
    from rewardkit.train.engines.base import Completion  # noqa: PLC0415 - for an empty completion alone

    nothing = Completion((), (), "stop")
    for index, prompt in enumerate(prompts):
        for component, problem in file.reward.row_problems(rollout(prompt, index, nothing, lambda _tokens: "")):
            text = f"{component}: {problem}"
            problems[text] += 1
            first.setdefault(text, prompt.place)
    for text, count in problems.most_common(MOST_ROW_PROBLEMS):
        found.warnings.append(f"{count} rows: {text} (the first: {first[text]})")


def _lengths(lengths: Sequence[int], limit: int, fate: str, found: Findings) -> None:
    long = sum(length > limit for length in lengths)
    if long:
        found.warnings.append(f"{long} of {len(lengths)} rows are longer than {limit} tokens and will be {fate}")
    ordered = sorted(lengths)
    longest = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    if longest > SKEWED * median(lengths):
        found.warnings.append(
            f"lengths are skewed: the median is {median(lengths):.0f} tokens, one in a hundred has {longest} or more"
        )


def _repeats(tokens: Sequence[tuple[int, ...]], what: str, found: Findings) -> None:
    repeated = len(tokens) - len(set(tokens))
    if repeated:
        found.warnings.append(f"{repeated} of {len(tokens)} {what} are there more than once")


def _template(renderer: Renderer, prompt: object, found: Findings) -> None:
    if isinstance(prompt, str) and renderer.tokenizer.chat_template and not renderer.data.as_chat:
        found.warnings.append(
            "prompts are plain text, but the tokenizer has a chat template: set data.as_chat if the model is used as a chat model"
        )


def _echoes(example: Example) -> bool:
    """Whether the response begins with the whole prompt."""
    prompt = example.tokens[: example.start]
    return len(prompt) > 1 and example.tokens[example.start : 2 * example.start] == prompt


def _spread(lengths: Sequence[int]) -> str:
    return f"{min(lengths)}–{max(lengths)} tokens, median {median(lengths):.0f}"


def _sample(example: Example, renderer: Renderer) -> Text:
    """The example's text; the colour tells what is in the loss, brightness with what weight."""
    text = Text()
    decode = renderer.tokenizer.decode
    weights = [0.0] * example.start + list(example.weights)
    begin = 0
    for end in range(1, len(weights) + 1):
        if end == len(weights) or weights[end] != weights[begin]:
            weight = weights[begin]
            style = "dim" if weight == 0 else "green" if weight == 1 else "bold magenta"
            text.append(str(decode(list(example.tokens[begin:end]))), style)
            begin = end
    return text


def show(file: TrainFile, found: Findings, console: Console) -> None:
    """Print the findings."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in {"stage": file.document.data["stage"], "output": str(file.config.output), **found.facts}.items():
        table.add_row(name, Text(str(value)))
    console.print(table)
    if found.sample is not None:
        console.print(
            "\nthe first row, what is in the loss in green:"
            if isinstance(file.config, SftConfig)
            else "\nthe first prompt:"
        )
        console.print(found.sample, soft_wrap=True)
    for warning in found.warnings:
        console.print(Text(f"! {warning}", "yellow"), soft_wrap=True)
    if not found.warnings:
        console.print("nothing odd about the data", style="green")
