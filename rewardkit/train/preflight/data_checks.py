"""What is odd about data, whatever is learned from them: duplicates, lengths, leaks, endings, templates, lost characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from rewardkit.train.data.rows import Row
from rewardkit.train.data.tokenization import Example, Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SKEWED = 8
"""Lengths are called skewed where the longest hundredth is so many times the median."""
LOOKED_CLOSELY_AT = 200
"""Rows of which each character is followed."""
MOST_LOST = 0.02
"""Share of a text's characters that a tokenizer may drop, as accents or signs."""

Tokens = tuple[int, ...]


@dataclass(slots=True)
class Findings:
    """What was seen."""

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """What training would refuse."""
    warnings: list[str] = field(default_factory=list)
    """What it would not refuse, but is rarely meant."""
    title: str = ""
    """Of the sample."""
    sample: list[tuple[str, str]] = field(default_factory=list)
    """A rendered row in parts: (text, kind), where kind is context, loss, weighted, chosen or rejected."""


@dataclass(frozen=True, slots=True)
class DataChecks:
    """Looks for them, and writes them down."""

    tokenizer: PreTrainedTokenizerBase
    found: Findings

    def decoded(self, tokens: Sequence[int]) -> str:
        """Tokens as text."""
        return str(self.tokenizer.decode(list(tokens)))

    def lengths(
        self, lengths: Sequence[int], limit: int, fate: str, what: str = "rows", *, fatal: bool = False
    ) -> None:
        """What is too long and what then becomes of it, and whether a few are much longer than the rest."""
        long = sum(length > limit for length in lengths)
        if long:
            (self.found.problems if fatal else self.found.warnings).append(
                f"{long} of {len(lengths)} {what} are longer than {limit} tokens"
                f"{', their completions included,' if fatal else ''} and will be {fate}"
            )
        ordered = sorted(lengths)
        longest = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        if longest > SKEWED * median(lengths):
            self.found.warnings.append(
                f"lengths of {what} are skewed: the median is {median(lengths):.0f} tokens, one in a hundred has {longest} or more"
            )

    def repeats(self, tokens: Sequence[Tokens], what: str) -> None:
        """What is there more than once."""
        if repeated := len(tokens) - len(set(tokens)):
            self.found.warnings.append(f"{repeated} of {len(tokens)} {what} are there more than once")

    def leaks(self, tokens: Sequence[Tokens], held_out: set[Tokens], what: str) -> None:
        """What is trained on and held out."""
        if both := sum(item in held_out for item in tokens):
            self.found.warnings.append(f"{both} of {len(tokens)} training {what} are held-out ones, too")

    def says_anything(self, example: Example) -> bool:
        """Whether a response is more than its end."""
        return any(token != self.tokenizer.eos_token_id for token in example.tokens[example.start :])

    def endings(self, examples: Sequence[Example]) -> None:
        """Whether responses end."""
        if not any(item.tokens[-1] == self.tokenizer.eos_token_id for item in examples):
            self.found.warnings.append(
                "no example ends with the end-of-sequence token: the model will not learn to stop"
            )

    def template(self, rows: Sequence[Row], column: str, renderer: Renderer, *, samples: bool = True) -> None:
        """Whether training and sampling would see the prompt as the model's users will.

        Args:
            rows: Of the data.
            column: With the prompts.
            renderer: Of the prompts.
            samples: Whether anything will be sampled from the model.
        """
        warn = self.found.warnings.append
        prompt = rows[0].data.get(column)
        if isinstance(prompt, str) and self.tokenizer.chat_template and not renderer.data.as_chat:
            warn(
                "prompts are plain text, but the tokenizer has a chat template: set data.as_chat if the model is used as a chat model"
            )
        if prompt is None:
            return
        rendered = renderer.text(rows[0], column)
        if not isinstance(rendered, str):  # of a whole conversation, what stands before the first answer
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
                warn("the chat template has no generation prompt: nothing tells the model that it is its turn")
            bos = self.tokenizer.bos_token_id
            if bos is not None and tokens[:2] == (bos, bos):
                warn("prompts begin with two beginning-of-sequence tokens")
        if samples and self.tokenizer.padding_side == "right" and self.tokenizer.pad_token_id is not None:
            self.found.facts["padding side"] = "right (no matter here; transformers' generate() needs left for batches)"

    def unread(self, rows: Sequence[Row], column: str) -> None:
        """Text that the tokenizer has no tokens for."""
        texts = [value for row in rows[:LOOKED_CLOSELY_AT] if isinstance(value := row.data.get(column), str)]
        lost = [text for text in texts if self._read(text) < (1 - MOST_LOST) * len("".join(text.split()))]
        if lost:
            self.found.warnings.append(
                f"the tokenizer can't represent {len(lost)} of the first {len(texts)} texts in column {column!r}: characters are lost, "
                f"as in {lost[0][:60]!r}"
            )

    def _read(self, text: str) -> int:
        """How many characters come back, without spaces."""
        tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        known = [token for token in tokens if token != self.tokenizer.unk_token_id]
        return len("".join(self.decoded(known).split()))


def spread(lengths: Sequence[int]) -> str:
    """Shortest, longest and median."""
    return f"{min(lengths)}–{max(lengths)} tokens, median {median(lengths):.0f}"
