"""`code.similarity`: how much of a program is copied from a solution that the prompt or the row gives."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge

from rewardkit import FieldName, Rollout, Score, Unscored, reward
from rewardkit_code.program.extraction import TextExtraction, program

MAX_CHARS = 200_000
"""Programs and references are compared up to this length."""
_WORD = re.compile(r"\w+|[^\w\s]")


def tokens(source: str) -> list[str]:
    """Return the tokens of a program without layout and comments, or the words of a text that is not Python."""
    try:
        found = tokenize.generate_tokens(io.StringIO(source).readline)
        left_out = (
            tokenize.COMMENT,
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
            tokenize.ENDMARKER,
        )
        return [token.string for token in found if token.type not in left_out]
    except (tokenize.TokenError, SyntaxError, ValueError):
        return _WORD.findall(source)


@reward(
    "code.similarity",
    deterministic=True,
    example="copied: {use: code.similarity, with: {reference: solution}, weight: -0.5}",
)
class Similarity:
    """The share of a program's token sequences that also occur in a reference, from 0 (nothing) to 1 (all copied).

    Give it a negative weight to punish copying. Layout and comments don't count. Only the first 200,000 characters of a text
    are compared.

    Args:
        reference: The column with the solution that should not be copied; by default the prompt.
        run: The number of tokens in a row that count as one piece.
        extract: `last` or `first` of the fenced blocks, or `whole`, the completion as it is.
    """

    def __init__(
        self, *, reference: FieldName | None = None, run: Annotated[int, Ge(1)] = 8, extract: TextExtraction = "last"
    ) -> None:
        self._reference, self._run, self._extract = reference, run, extract

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score | Unscored]:
        """Score a batch."""
        return [self._score_one(rollout) for rollout in rollouts]

    def _score_one(self, rollout: Rollout) -> Score | Unscored:
        reference = rollout.fields.get(self._reference) if self._reference else rollout.prompt_text
        if not isinstance(reference, str):
            return Unscored("reference", f"{self._reference!r} must be text, not {type(reference).__name__}")
        source = program(rollout.completion_text, "python", self._extract)
        if source is None:
            return Score(0.0, "there is no python program in the completion")
        ours = self._pieces(tokens(source[:MAX_CHARS]))
        theirs = set(self._pieces(tokens(reference[:MAX_CHARS])))
        if not ours:
            return Score(0.0, "the program is shorter than one piece")
        shared = sum(piece in theirs for piece in ours)
        return Score(shared / len(ours), f"{shared} of {len(ours)} pieces occur in the reference")

    def _pieces(self, sequence: list[str]) -> list[tuple[str, ...]]:
        return [tuple(sequence[at : at + self._run]) for at in range(len(sequence) - self._run + 1)]
