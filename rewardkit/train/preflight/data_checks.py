"""Checks of training data that every stage shares: duplicates, lengths, leaks, endings, templates, lost characters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from rewardkit.train.data.rows import Row
from rewardkit.train.data.tokenization import Example, Renderer
from rewardkit.train.data.turn_end import endless_response_problem
from rewardkit.train.preflight.memory_estimate import RowLengths

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SKEWED = 8
"""Lengths are skewed if the 99th percentile exceeds this many times the median."""
TEXTS_READ_BACK = 200
"""Number of texts that are tokenized and decoded to find lost characters."""
MOST_LOST = 0.02
"""Largest share of a text's characters that a tokenizer may drop without a warning."""

Tokens = tuple[int, ...]


@dataclass(slots=True)
class Findings:
    """The result of the checks."""

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """Faults that training would refuse."""
    warnings: list[str] = field(default_factory=list)
    """Things that training accepts but that are rarely intended."""
    title: str = ""
    """The title of the sample."""
    sample: list[tuple[str, str]] = field(default_factory=list)
    """A rendered row as (text, kind) parts. The kinds are context, loss, weighted, chosen and rejected."""
    lengths: RowLengths | None = None
    """The lengths of the rows that training does not leave out, for the estimate of memory."""


@dataclass(frozen=True, slots=True)
class DataChecks:
    """Checks data, and adds what it finds to ``found``."""

    tokenizer: PreTrainedTokenizerBase
    found: Findings

    def decoded(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return str(self.tokenizer.decode(list(tokens)))

    def lengths(self, lengths: Sequence[int], limit: int, fate: str, what: str = "rows") -> None:
        """Find rows that are too long, and skewed lengths.

        Args:
            lengths: Number of tokens of each row.
            limit: Largest number of tokens.
            fate: What happens to rows that are too long.
            what: What the rows are called.
        """
        long = sum(length > limit for length in lengths)
        if long:
            self.found.warnings.append(
                f"{long} of {len(lengths)} {what} are longer than {limit} tokens and will be {fate}"
            )
        ordered = sorted(lengths)
        longest = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        if longest > SKEWED * median(lengths):
            self.found.warnings.append(
                f"lengths of {what} are skewed: the median is {median(lengths):.0f} tokens, the 99th percentile {longest}"
            )

    def repeats(self, tokens: Sequence[Tokens], what: str) -> None:
        """Find duplicates."""
        if repeated := len(tokens) - len(set(tokens)):
            self.found.warnings.append(f"{repeated} of {len(tokens)} {what} are duplicates")

    def leaks(self, tokens: Sequence[Tokens], held_out: set[Tokens], what: str) -> None:
        """Find training rows that are also held out."""
        if both := sum(item in held_out for item in tokens):
            self.found.warnings.append(f"{both} of {len(tokens)} training {what} are also held out")

    def says_anything(self, example: Example) -> bool:
        """Return whether a response has more than the end-of-sequence token."""
        return any(token != self.tokenizer.eos_token_id for token in example.tokens[example.start :])

    def endings(self, examples: Sequence[Example], end_ids: Collection[int]) -> None:
        """Find out whether the model would learn to end its responses.

        Args:
            examples: The examples.
            end_ids: The tokens that end a completion.
        """
        self.found.problems += filter(None, [endless_response_problem(examples, self.tokenizer, end_ids)])

    def template(self, rows: Sequence[Row], column: str, renderer: Renderer, *, samples: bool = True) -> None:
        """Find out whether prompts are rendered as the model's users will render them.

        Args:
            rows: The rows.
            column: The column of the prompts.
            renderer: Renders the prompts.
            samples: Whether the model will generate text.
        """
        warn = self.found.warnings.append
        prompt = rows[0].find(column)
        if isinstance(prompt, str) and self.tokenizer.chat_template and not renderer.data.as_chat:
            warn(
                "prompts are plain text, but the tokenizer has a chat template: set data.as_chat if the model is used as a chat model"
            )
        if prompt is None:
            return
        rendered = renderer.text(rows[0], column)
        if not isinstance(rendered, str):  # the part of a conversation before the first answer
            turns = [index for index, message in enumerate(rendered) if message.get("role") == "assistant"]
            rendered = rendered[: turns[0]] if turns else rendered
            if not rendered:
                return
        tokens = renderer.prompt_tokens(rendered, rows[0])
        if tokens[-1] == self.tokenizer.eos_token_id and isinstance(rendered, str):
            warn(
                "the tokenizer ends prompts with the end-of-sequence token, so completions begin after the end of the text"
            )
        if not isinstance(rendered, str):
            if tokens == renderer.chat(rendered, rows[0], prompt=False):
                warn("the chat template has no generation prompt, which marks the start of the answer")
            bos = self.tokenizer.bos_token_id
            if bos is not None and tokens[:2] == (bos, bos):
                warn("prompts begin with two beginning-of-sequence tokens")
        if samples and self.tokenizer.padding_side == "right" and self.tokenizer.pad_token_id is not None:
            self.found.facts["padding side"] = (
                "right (fine for training; generate() of transformers needs left for batches)"
            )

    def lost_characters(self, rows: Sequence[Row], column: str) -> None:
        """Find texts with characters that the tokenizer drops."""
        texts = [value for row in rows[:TEXTS_READ_BACK] if isinstance(value := row.find(column), str)]
        lost = [text for text in texts if self._surviving(text) < (1 - MOST_LOST) * len("".join(text.split()))]
        if lost:
            self.found.warnings.append(
                f"the tokenizer can't represent {len(lost)} of the first {len(texts)} texts in column {column!r}: characters are lost, "
                f"as in {lost[0][:60]!r}"
            )

    def _surviving(self, text: str) -> int:
        """Return how many characters, without spaces, survive tokenization."""
        tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        known = [token for token in tokens if token != self.tokenizer.unk_token_id]
        return len("".join(self.decoded(known).split()))


def length_range(lengths: Sequence[int]) -> str:
    """Return the shortest, longest and median length as text."""
    return f"{min(lengths)}–{max(lengths)} tokens, median {median(lengths):.0f}"
