"""Previews a run's data before it starts: what is in the loss, what the prompts are, and what looks wrong.

It loads the tokenizer but not the model, and runs no reward.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rewardkit.config import RewardConfig
from rewardkit.errors import DataError
from rewardkit.rollout_engine import Completion
from rewardkit.train.config import RlConfig, SftConfig, paths
from rewardkit.train.config.preference import DpoConfig, PreferenceConfig, RewardModelConfig
from rewardkit.train.config.training_file import TrainFile
from rewardkit.train.data.input_check import missing_columns, nested_paths
from rewardkit.train.data.mixture import describe_sources
from rewardkit.train.data.preference_pairs import AnswerRenderer, DialogueRenderer, read_pairs
from rewardkit.train.data.rows import Row, read_rows
from rewardkit.train.data.step_labels import LabelledSteps, StepRenderer, read_step_rows
from rewardkit.train.data.tokenization import Example, Prompt, Renderer
from rewardkit.train.data.turn_end import endless_prompt_problem
from rewardkit.train.data.weight_functions import span_weighters
from rewardkit.train.evaluation.correctness import correct_condition, evaluation_warning
from rewardkit.train.evaluation.statistics import wilson
from rewardkit.train.models.loading import configured_end_token_ids, load_tokenizer, model_context, stop_token_ids
from rewardkit.train.preflight.data_checks import DataChecks, Findings, Tokens, length_range
from rewardkit.train.preflight.memory_estimate import RowLengths
from rewardkit.train.rollout.generate import rollout
from rewardkit.types import Rollout

LENGTH_PREDICTS = 0.6
"""Length predicts the preference if, by the lower end of the interval, the preferred answer is longer (or shorter) in a larger share."""
MOST_ROW_PROBLEMS = 5


def preview(file: TrainFile, most_rows: int | None = None) -> Findings:
    """Check the data of a configuration.

    Args:
        file: The configuration.
        most_rows: Largest number of rows to check; None checks all.

    Returns:
        The findings. For a stage that is not built in they are empty.

    Raises:
        ConfigError: The model does not exist.
        DataError: A row can't be used.
    """
    config = file.config
    found = Findings()
    checks = Preview(load_tokenizer(config.model, file.where("model", "path")), found, file, most_rows)
    if isinstance(config, SftConfig):
        checks.check_examples(config)
    elif isinstance(config, RlConfig):
        checks.check_prompts(config)
    elif isinstance(config, RewardModelConfig) and config.level == "step":
        checks.check_steps(config)
    elif isinstance(config, PreferenceConfig):
        checks.check_pairs(config)
    return found


@dataclass(frozen=True, slots=True)
class Preview(DataChecks):
    """Checks the data of one configuration."""

    file: TrainFile
    most_rows: int | None

    def check_examples(self, config: SftConfig) -> None:
        """Check the examples of SFT."""
        found = self.found
        renderer = Renderer(self.tokenizer, config.data)
        rows = self.rows(config.data.train)
        weighters = span_weighters(self.file)
        examples = [item for row in rows for item in renderer.examples(row, weighters)]
        context = model_context(config.model)
        limit = min(config.max_tokens or context, context)
        lengths = [len(item.tokens) for item in examples]
        in_loss = sum(weight > 0 for item in examples for weight in item.weights)
        found.facts |= {
            "rows": f"{len(rows):,}" if len(examples) == len(rows) else f"{len(rows):,} ({len(examples):,} examples)",
            "tokens": f"{sum(lengths):,}, {in_loss / sum(lengths):.0%} of them in the loss",
            "length": length_range(lengths),
        }
        self.run_length(config.steps, config.epochs, config.batch_size, len(examples), "examples")
        found.title = "the first row; ⟦marked⟧ text is in the loss"
        found.sample = self.parts(examples[0])
        self.lengths(lengths, limit, "left out")
        found.lengths = _row_lengths(lengths, limit, max(len(item.weights) for item in examples))
        self.learnable(examples, limit, "rows")
        self.repeats([item.tokens for item in examples], "examples")
        if config.data.eval is not None:
            held_out = [
                item for row in self.rows(config.data.eval, count=False) for item in renderer.examples(row, weighters)
            ]
            self.learnable(held_out, limit, "held-out rows")
            self.leaks([item.tokens for item in examples], {item.tokens for item in held_out}, "examples")
        if echoes := sum(map(_echoes, examples)):
            found.warnings.append(
                f"{echoes} of {len(examples)} responses start with their own prompt, so that prompt tokens are in the loss"
            )
        self.endings(examples, configured_end_token_ids(config.model, self.tokenizer))
        if empty := sum(not self.says_anything(item) for item in examples):
            found.warnings.append(
                f"{empty} of {len(examples)} responses are empty: the model would learn to answer nothing"
            )
        for weighter in weighters:
            if all(renderer.examples(row, [weighter]) == renderer.examples(row) for row in rows):
                found.warnings.append(f"{weighter.name} of loss.weights changes the weight of no token")
        if config.data.messages is None:
            self.template(rows, config.data.prompt, renderer)
            self.lost_characters(rows, config.data.completion)
        else:
            self.template(rows, config.data.messages, renderer)

    def check_prompts(self, config: RlConfig) -> None:
        """Check the prompts of GRPO and PPO, and compute the cost of a step."""
        found = self.found
        if self.file.reward is not None:
            found.warnings += filter(None, [evaluation_warning(config, self.file.reward)])
            place = self.file.where("evaluate", "correct")
            correct_condition(config.evaluate.correct, self.file.reward.component_names, place)
        renderer = Renderer(self.tokenizer, config.data, nested_paths(config, self.file.reward, self.file.gold))
        rows = self.rows(config.data.train)
        prompts = [renderer.prompt(row) for row in rows]
        lengths = [len(item.tokens) for item in prompts]
        rollout_ = config.rollout
        rollouts = rollout_.prompts_per_step * rollout_.group_size
        tokens = rollouts * (median(lengths) + rollout_.max_new_tokens)
        found.facts |= {
            "prompts": f"{len(prompts):,}, {length_range(lengths)}",
            "a step": f"{rollout_.prompts_per_step} prompts × {rollout_.group_size} = {rollouts:,} rollouts, at most "
            f"{rollouts * rollout_.max_new_tokens:,} sampled tokens ({tokens:,.0f} with prompts)",
            "the run": f"{config.steps:,} steps, {config.steps * rollouts:,} rollouts, "
            f"{config.steps * rollout_.prompts_per_step / len(prompts):.2g} epochs of the prompts",
        }
        found.title = "the first prompt"
        found.sample = [(str(self.tokenizer.decode(list(prompts[0].tokens))), "context")]
        context = model_context(config.model)
        whole_lengths = [length + rollout_.max_new_tokens for length in lengths]
        found.lengths = _row_lengths(whole_lengths, context, rollout_.max_new_tokens)
        self.fitting(whole_lengths, context, "rows")
        end_ids = configured_end_token_ids(config.model, self.tokenizer) | stop_token_ids(self.tokenizer, rollout_.stop)
        found.problems += filter(None, [endless_prompt_problem(prompts, self.tokenizer, end_ids, rollout_.stop)])
        self.repeats([item.tokens for item in prompts], "prompts")
        held_out = (
            [renderer.prompt(row) for row in self.rows(config.data.eval, count=False)] if config.data.eval else []
        )
        self.leaks([item.tokens for item in prompts], {item.tokens for item in held_out}, "prompts")
        self.template(rows, config.data.prompt, renderer)
        self.lost_characters(rows, config.data.prompt)
        if len(prompts) < rollout_.prompts_per_step:
            found.warnings.append(
                f"a step takes {rollout_.prompts_per_step} prompts but there are only {len(prompts)}: some of them occur twice in a step"
            )
        self.columns(prompts, "data.train")
        if held_out:
            whole = [len(item.tokens) + rollout_.max_new_tokens for item in held_out]
            self.fitting(whole, context, "held-out rows")
            self.columns(held_out, "data.eval")
            if self.file.gold is not None:
                self.missing_columns(self.file.gold, held_out, "data.eval")

    def check_pairs(self, config: PreferenceConfig) -> None:
        """Check the preference pairs of a reward model or DPO."""
        found = self.found
        train, held_out = read_pairs(config.data)
        self.sources([*train, *(held_out if config.data.eval is None else [])])
        train, held_out = train[: self.most_rows], held_out[: self.most_rows]
        chosen, rejected, lengths = self._dialogues(config, train, "pairs")
        limit = 2 * config.token_limit(model_context(config.model))
        whole = [2 * max(pair) for pair in lengths]
        cut = isinstance(config, RewardModelConfig)
        found.lengths = _row_lengths([min(length, limit) for length in whole] if cut else whole, limit, max(whole))
        found.facts |= {
            "pairs": f"{len(train):,} to train on, {len(held_out):,} held out",
            "length": f"{length_range([length for pair in lengths for length in pair])} (of both answers)",
        }
        self.run_length(config.steps, config.epochs, config.batch_size, len(train), "pairs")
        pairs = list(zip(chosen, rejected, strict=True))
        self.repeats([(*one, -1, *two) for one, two in pairs], "pairs")
        known = set(pairs)
        if both_ways := sum((two, one) in known for one, two in pairs if one != two):
            found.warnings.append(f"{both_ways} of {len(pairs)} pairs also occur with the opposite preference")
        same = [row.place for row, (one, two) in zip(train, pairs, strict=True) if one == two]
        if same:
            refused = isinstance(config, RewardModelConfig)
            (found.problems if refused else found.warnings).append(
                f"{len(same)} of {len(pairs)} pairs have two equal answers once rendered"
                f"{' and cut' if refused else ''} (the first: {same[0]}): they have no training signal"
            )
        self._length_bias(lengths)
        held = self._dialogues(config, held_out, "held-out pairs") if held_out else ([], [], [])
        self.leaks(
            [(*one, -1, *two) for one, two in pairs], {(*a, -1, *b) for a, b, _ in zip(*held, strict=True)}, "pairs"
        )
        if not held_out:
            found.warnings.append("no pairs are held out: the trained model can't be evaluated")
        self._show_pair(chosen[0], rejected[0])
        self.template(
            train,
            config.data.prompt,
            Renderer(self.tokenizer, config.data),
            samples=not isinstance(config, RewardModelConfig),
        )
        self.lost_characters(train, config.data.chosen)

    def check_steps(self, config: RewardModelConfig) -> None:
        """Check the completions and step labels of a process reward model."""
        found = self.found
        train, held_out = read_step_rows(config.data)
        self.sources([*train, *(held_out if config.data.eval is None else [])])
        train, held_out = train[: self.most_rows], held_out[: self.most_rows]
        context = model_context(config.model)
        limit = min(config.max_tokens or context, context, self.tokenizer.model_max_length)
        whole = StepRenderer(self.tokenizer, config.data, 1 << 30)
        examples = [whole.steps(row) for row in train]
        lengths = [len(item.tokens) for item in examples]
        labels = [label for item in examples for label in item.labels]
        right = sum(label >= 0.5 for label in labels)
        found.facts |= {
            "completions": f"{len(train):,} to train on, {len(held_out):,} held out",
            "steps": f"{len(labels):,} with a label, {right / len(labels):.0%} of them right",
            "length": length_range(lengths),
        }
        self.run_length(config.steps, config.epochs, config.batch_size, len(train), "completions")
        self.lengths(lengths, limit, "cut at their beginning", "completions")
        found.lengths = _row_lengths([min(length, limit) for length in lengths], limit, 1)
        self.repeats([item.tokens for item in examples], "completions")
        held = [whole.steps(row) for row in held_out]
        self.leaks([item.tokens for item in examples], {item.tokens for item in held}, "completions")
        if right in (0, len(labels)):
            found.warnings.append(
                f"all {len(labels)} labels are {'right' if right else 'wrong'}: nothing tells steps apart"
            )
        if not held:
            found.warnings.append("no completions are held out: the trained model can't be evaluated")
        found.title = "the first completion; ⟦+right⟧ and ⟦-wrong⟧ steps are marked"
        found.sample = self._steps_shown(examples[0])
        self.template(train, config.data.prompt, Renderer(self.tokenizer, config.data), samples=False)

    def _steps_shown(self, example: LabelledSteps) -> list[tuple[str, str]]:
        """Return the text of a completion, marked at the last token of each labelled step."""
        parts, begin = [], 0
        for end, label in zip(example.ends, example.labels, strict=True):
            parts.append((self.decoded(example.tokens[begin:end]), "context"))
            parts.append((self.decoded(example.tokens[end : end + 1]), "chosen" if label >= 0.5 else "rejected"))
            begin = end + 1
        return [*parts, (self.decoded(example.tokens[begin:]), "context")]

    def _dialogues(
        self, config: PreferenceConfig, rows: Sequence[Row], what: str
    ) -> tuple[list[Tokens], list[Tokens], list[tuple[int, int]]]:
        """Return the tokens of both answers of each pair as the stage gets them, and their lengths before truncation."""
        context = model_context(config.model)
        if isinstance(config, RewardModelConfig):
            limit = min(config.max_tokens or context, context, self.tokenizer.model_max_length)
            whole = DialogueRenderer(self.tokenizer, config.data, 1 << 30)
            found = [whole.pair(row, config.loss.margin) for row in rows]
            lengths = [(len(pair.chosen.tokens), len(pair.rejected.tokens)) for pair in found]
            cut = DialogueRenderer(self.tokenizer, config.data, limit)
            kept = [cut.pair(row, config.loss.margin) for row in rows] if max(map(max, lengths)) > limit else found
            self.lengths([max(pair) for pair in lengths], limit, "cut at their beginning", what)
            self.cut_apart(
                sum(
                    one.chosen.tokens != one.rejected.tokens and two.chosen.tokens == two.rejected.tokens
                    for one, two in zip(found, kept, strict=True)
                )
            )
            return [pair.chosen.tokens for pair in kept], [pair.rejected.tokens for pair in kept], lengths
        assert isinstance(config, DpoConfig)  # noqa: S101 - there are no others
        limit = min(config.max_tokens or context, context)
        renderer = AnswerRenderer(self.tokenizer, config.data)
        answers = [renderer.pair(row) for row in rows]
        lengths = [(len(pair.chosen.tokens), len(pair.rejected.tokens)) for pair in answers]
        self.lengths([max(pair) for pair in lengths], limit, "left out", what)
        if min(map(max, lengths)) > limit:
            self.found.problems.append(f"none of {len(rows)} {what} fits into {limit} tokens; see max_tokens")
        both = [answer for pair in answers for answer in (pair.chosen, pair.rejected)]
        self.endings(both, configured_end_token_ids(config.model, self.tokenizer))
        return [pair.chosen.tokens for pair in answers], [pair.rejected.tokens for pair in answers], lengths

    def fitting(self, lengths: Sequence[int], context: int, what: str) -> None:
        """Find prompts that exceed the model's context together with their completion.

        Args:
            lengths: Number of tokens of each prompt with its completion.
            context: The model's context length.
            what: What the rows are called.
        """
        what += ", with their completions,"
        self.lengths(lengths, context, "left out", what)
        if min(lengths) > context:
            self.found.problems.append(
                f"none of {len(lengths)} {what} fits into the model's context of {context} tokens; lower rollout.max_new_tokens"
            )

    def learnable(self, examples: Sequence[Example], limit: int, what: str) -> None:
        """Find out whether SFT keeps any example."""
        if not any(len(item.tokens) <= limit and any(item.weights) for item in examples):
            self.found.problems.append(f"none of {len(examples)} {what} has weight and fits into {limit} tokens")

    def cut_apart(self, lost: int) -> None:
        """Report pairs that only differ in what is cut off."""
        if lost:
            self.found.warnings.append(
                f"{lost} pairs only differ in what max_tokens cuts off, so that both answers are equal: raise it"
            )

    def _length_bias(self, lengths: Sequence[tuple[int, int]]) -> None:
        """Find out whether length alone predicts the preference."""
        longer, shorter = (sum(one > two for one, two in lengths), sum(one < two for one, two in lengths))
        self.found.facts["preferred is longer"] = (
            f"{longer / len(lengths):.0%} of the pairs, shorter {shorter / len(lengths):.0%}"
        )
        for word, count in (("longer", longer), ("shorter", shorter)):
            if wilson(count, len(lengths)).low > LENGTH_PREDICTS:
                self.found.warnings.append(
                    f"the preferred answer is the {word} one in {count / len(lengths):.0%} of the pairs: length alone predicts the "
                    "preference, and the model may learn only that"
                )

    def _show_pair(self, chosen: Tokens, rejected: Tokens) -> None:
        shared = next(
            (index for index, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b),
            min(len(chosen), len(rejected)),
        )
        self.found.title = "the first pair; ⟦+preferred⟧ and ⟦-rejected⟧ are marked"
        self.found.sample = [
            (self.decoded(tokens), kind)
            for tokens, kind in (
                (chosen[:shared], "context"),
                (chosen[shared:], "chosen"),
                (rejected[shared:], "rejected"),
            )
        ]
        self.found.sample.insert(2, ("\n", "context"))

    def rows(self, files: Any, *, count: bool = True) -> list[Row]:
        """Return the rows to check; with ``count``, the facts get the number of rows of each source."""
        rows = read_rows(paths(files))
        if count:
            self.sources(rows)
        return rows[: self.most_rows]

    def sources(self, rows: Sequence[Row]) -> None:
        """Add the number of rows of each source of data.train to the facts, if there are several."""
        if (text := describe_sources(self.file.config.data, rows)) is not None:
            self.found.facts["sources"] = text

    def parts(self, example: Example) -> list[tuple[str, str]]:
        """Return the example's text in parts by their weight in the loss."""
        weights = [0.0] * example.start + list(example.weights)
        found = []
        begin = 0
        for end in range(1, len(weights) + 1):
            if end == len(weights) or weights[end] != weights[begin]:
                kind = {0.0: "context", 1.0: "loss"}.get(weights[begin], "weighted")
                found.append((self.decoded(example.tokens[begin:end]), kind))
                begin = end
        return found

    def run_length(self, steps: int | None, epochs: float | None, batch: int, rows: int, what: str) -> None:
        """Add the length of the run to the facts."""
        count = steps if steps is not None else -(-int((epochs or 1) * rows) // batch)
        self.found.facts["the run"] = f"{count:,} steps of {batch} {what}, {count * batch / rows:.2g} epochs"

    def columns(self, prompts: Sequence[Prompt], name: str) -> None:
        """Find columns and values that the reward lacks, by the reward's own check."""
        if self.file.reward is None:
            return
        if not self.missing_columns(self.file.reward, prompts, name):
            return
        problems: Counter[str] = Counter()
        first: dict[str, str] = {}
        nothing = Completion((), (), "stop")
        for index, prompt in enumerate(prompts):
            for component, problem in self.file.reward.row_problems(rollout(prompt, index, nothing, _no_text)):
                text = f"{component}: {problem}"
                problems[text] += 1
                first.setdefault(text, prompt.place)
        for text, count in problems.most_common(MOST_ROW_PROBLEMS):
            self.found.warnings.append(f"{count} of {len(prompts)} rows: {text} (the first: {first[text]})")

    def missing_columns(self, reward: RewardConfig, prompts: Sequence[Prompt], name: str) -> bool:
        """Find columns that a reward reads and no row has. Return False if a row has no route."""
        try:
            missing = missing_columns(
                [(prompt.place, Rollout(prompt.text, "", prompt.fields)) for prompt in prompts], reward
            )
        except DataError as error:
            self.found.problems.append(str(error))
            return False
        for column, reader in missing.items():
            self.found.problems.append(f"{reader} reads column {column!r}, which no row of {name} has")
        return True


_no_text: Callable[[Sequence[int]], str] = lambda _tokens: ""  # noqa: E731


def _echoes(example: Example) -> bool:
    """Return whether the response starts with the whole prompt."""
    prompt = example.tokens[: example.start]
    return len(prompt) > 1 and example.tokens[example.start : 2 * example.start] == prompt


def _row_lengths(lengths: Sequence[int], limit: int, scored: int) -> RowLengths | None:
    """Return the lengths of the rows that are not left out, or None if there are none."""
    kept = [length for length in lengths if length <= limit]
    return RowLengths(kept, min(scored, max(kept))) if kept else None
