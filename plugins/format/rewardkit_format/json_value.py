"""``format.json``: JSON that satisfies a schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jsonschema_rs
import orjson
from annotated_types import Ge, Le

from rewardkit import Rollout, Score, reward
from rewardkit_format.fences import fenced_blocks
from rewardkit_format.tags import check_tag_name
from rewardkit_format.verdicts import excerpt, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

_REASON_CHARS = 160


@reward(
    "format.json",
    example="call: {use: format.json, with: {source: fence, schema: {type: object, required: [name]}}, weight: 0.5}",
)
class JsonValue:
    """1 if the completion has JSON (RFC 8259) that satisfies a JSON Schema, ``parsed`` for other JSON, else 0.

    ``NaN``, comments, trailing commas, lone surrogates and more than 1,024 levels of nesting are not JSON.

    Args:
        schema: A JSON Schema (draft 2020-12, or the one that its ``$schema`` names). By default, any JSON satisfies.
            References must point inside the schema.
        source: Where the JSON is: ``whole`` is the whole completion, ``fence`` the last fenced block (of language json or
            without a name), ``tag`` the last section in ``tag``. White space around it does not matter.
        tag: The name of the tag for ``source: tag``, without brackets.
        parsed: The value of JSON that does not satisfy the schema.
    """

    def __init__(
        self,
        *,
        schema: dict[str, Any] | None = None,
        source: Literal["whole", "fence", "tag"] = "whole",
        tag: str = "answer",
        parsed: Annotated[float, Ge(0), Le(1)] = 0.0,
    ) -> None:
        check_tag_name(tag)
        if not 0 <= parsed <= 1:
            raise ValueError(f"parsed must be from 0 to 1, not {parsed}")
        try:
            # In drafts before 2019-09, `format` is an assertion; here it never is, so that drafts agree.
            self._validator = jsonschema_rs.validator_for(
                schema or {}, retriever=_refuse_reference, mask="the value", validate_formats=False
            )
        except ValueError as error:
            problem = getattr(error, "message", None) or str(error)
            raise ValueError(f"schema is not a JSON Schema: {problem}") from error
        self._source, self._parsed = source, parsed
        self._opening, self._closing = f"<{tag}>", f"</{tag}>"
        self._marks = f"{self._opening}...{self._closing}" if source == "tag" else None

    def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score]:
        """Score a batch."""
        return [self._score_one(rollout.completion_text) for rollout in rollouts]

    def _score_one(self, text: str) -> Score:
        candidate = self._candidate(text)
        if isinstance(candidate, Score):
            return candidate
        extracted = self._marks
        if self._source == "fence" and (bare := candidate.strip()) in text:  # without its indentation it may not be
            extracted = excerpt(bare)

        def score(value: float, reason: str) -> Score:
            # Scores with the text itself differ between rollouts, so they are not kept for another one.
            return (
                Score(value, reason, extracted=extracted)
                if self._source == "fence"
                else verdict(value, reason, extracted)
            )

        try:
            value = orjson.loads(candidate)
        except json.JSONDecodeError as error:
            return score(0.0, f"not JSON: {error.msg}")
        try:
            fault = next(self._validator.iter_errors(value), None)
        except ValueError as error:  # deeper than the validator can follow
            return score(self._parsed, f"can't be checked against the schema: {error}"[:_REASON_CHARS])
        if fault is None:
            return score(1.0, "the JSON satisfies the schema")
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault.instance_path)
        reason = f"${path}: {fault.message}"
        short = reason if len(reason) <= _REASON_CHARS else reason[: _REASON_CHARS - 1] + "…"
        return Score(self._parsed, short, extracted=extracted)

    def _candidate(self, text: str) -> str | Score:
        """Return the text that should be JSON, or a score with the reason if there is none."""
        if self._source == "whole":
            return text
        if self._source == "tag":
            end = text.rfind(self._closing)
            start = text.rfind(self._opening, 0, max(end, 0))
            if start < 0:
                return verdict(0.0, f"there is no section {self._opening}…{self._closing}")
            return text[start + len(self._opening) : end]
        last = None
        for block in fenced_blocks(text):
            if block.language in ("json", ""):
                last = block
        if last is None or not last.closed:
            return verdict(0.0, "there is no JSON block" if last is None else "the JSON block is not closed")
        return last.content(text)


def _refuse_reference(uri: str) -> Any:
    raise ValueError(f"$ref {uri!r} points outside the schema; move its target under $defs")
