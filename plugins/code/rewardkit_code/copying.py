"""`code.similarity`: how much of a program stands in a solution that the prompt or the row already gives."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge

from rewardkit import FieldName, Rollout, Score, Unscored, reward
from rewardkit_code.program.extraction import Extraction, program

MAX_CHARS = 200_000
"""Of longer programs and references so much is compared."""
_WORD = re.compile(r"\w+|[^\w\s]")


def tokens(source: str) -> list[str]:
    """The program's tokens without layout, comments and docstring quotes; any text's words where it is no Python."""
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
    """The share of a program's runs of tokens that also stand in a reference, from 0 (nothing) to 1 (all copied).

    Give it a negative weight to punish copying. Layout and comments don't count. Of texts longer than 200,000 characters so
    much is compared.

    Args:
        reference: The column with the solution that should not be copied; without one, the prompt.
        run: How many tokens in a row count as one piece.
        extract: `last` takes the last fenced block, `whole` the completion as it is.
    """

    def __init__(
        self, *, reference: FieldName | None = None, run: Annotated[int, Ge(1)] = 8, extract: Extraction = "last"
    ) -> None:
        self._reference, self._run, self._extract = reference, run, extract

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score | Unscored]:
        """Score a batch."""
        return [self._one(rollout) for rollout in rollouts]

    def _one(self, rollout: Rollout) -> Score | Unscored:
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
        return Score(shared / len(ours), f"{shared} of {len(ours)} pieces stand in the reference")

    def _pieces(self, sequence: list[str]) -> list[tuple[str, ...]]:
        return [tuple(sequence[at : at + self._run]) for at in range(len(sequence) - self._run + 1)]
