"""`code.runs`: whether a program runs to its end without an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Gt
from rewardkit_sandbox import Limits, Program, Sandbox, Stdin

from rewardkit import FieldName, Rollout, Score, Unscored, reward
from rewardkit_code.boxes import Backend, Boxes, Options
from rewardkit_code.extract import Extraction, program


@reward("code.runs", example="runs: {use: code.runs, weight: 0.1}")
class Runs:
    """1 where the program of a completion compiles and ends by itself without an error, else 0.

    Args:
        language: What it is written in.
        stdin: The column with its input; without one it gets none.
        extract: `fenced` takes the last fenced block of the language, `whole` the completion as it is.
        cpu_s: CPU seconds.
        memory_mb: Memory (MiB).
        backend: Which sandbox.
    """

    def __init__(
        self,
        *,
        language: str = "python",
        stdin: FieldName | None = None,
        extract: Extraction = "fenced",
        cpu_s: Annotated[float, Gt(0)] = 5.0,
        memory_mb: Annotated[int, Gt(0)] = 512,
        backend: Backend = "auto",
    ) -> None:
        from rewardkit_sandbox.languages import find  # noqa: PLC0415

        self._language, self._stdin, self._extract = find(language).name, stdin, extract
        image = "python" if self._language == "python" else "all" if self._language in ("rust", "go") else "languages"
        self._boxes = Boxes(Options(backend, image, None, Limits(cpu_s=cpu_s, memory_mb=memory_mb)))

    async def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score | Unscored]:
        """Score a batch."""
        return await self._boxes.score(rollouts, self._one)

    def close(self) -> None:
        """Ends the sandbox."""
        self._boxes.close()

    def _one(self, sandbox: Sandbox, rollout: Rollout) -> Score | Unscored:
        source = program(rollout.completion_text, self._language, self._extract)
        if source is None:
            return Score(0.0, f"there is no {self._language} program in the completion")
        given = rollout.fields.get(self._stdin, "") if self._stdin else ""
        if not isinstance(given, str):
            return Unscored("input", f"{self._stdin!r} must be text, not {type(given).__name__}")
        run = sandbox.run(Program(source, self._language), [Stdin(given)]).runs[0]
        lines = run.stderr.decode("utf-8", "replace").strip().splitlines()
        return Score(float(run.ok), "runs" if run.ok else f"{run.note}: {lines[-1][:200]}" if lines else run.note)
