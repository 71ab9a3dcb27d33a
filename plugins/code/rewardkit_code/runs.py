"""`code.runs`: whether a program runs to its end without an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Gt
from rewardkit_sandbox import Limits, Program, Sandbox, Stdin

from rewardkit import FieldName, Rollout, Score, Unscored, reward
from rewardkit_code.execution.outcomes import describe_failure, printed
from rewardkit_code.program.extraction import Language, TextExtraction, program
from rewardkit_code.sandboxes import OVERRUN, SandboxClient, SandboxOptions, image_for


def _options(params: Any) -> SandboxOptions:
    limits = Limits(cpu_s=params.cpu_s, memory_mb=params.memory_mb)
    return SandboxOptions(params.backend, params.image or image_for(params.language), params.slots, limits, params.url)


def _content(params: Any, rollout: Rollout) -> list[Any]:
    given = rollout.fields.get(params.stdin) if params.stdin else None
    return [program(rollout.completion_text, params.language, params.extract), given]


@reward(
    "code.runs",
    may_be_empty=["stdin"],
    deterministic=True,
    identity=lambda params: _options(params).identity(),
    content=_content,
    example="runs: {use: code.runs, weight: 0.1}",
)
class Runs:
    """1 if the program of a completion compiles and ends by itself without an error, else 0.

    Args:
        language: The language of the programs.
        stdin: The column with the input; by default the input is empty.
        extract: `last` or `first` of the fenced blocks of the language, or `whole`, the completion as it is.
        cpu_s: CPU seconds of the program.
        memory_mb: Memory of the program (MiB).
        backend: The sandbox: `auto` (Docker where an engine answers, else bubblewrap), `docker`, `bubblewrap`, `remote` (a service
            at `url`), or one that another distribution offers.
        image: What is installed around the program; by default the smallest image with its language.
        slots: The number of programs that run at a time; by default twice the CPUs.
        url: The address of a service with SandboxFusion's API, for `backend: remote`; its token is REWARDKIT_SANDBOX_TOKEN.
    """

    def __init__(
        self,
        *,
        language: Language = "python",
        stdin: FieldName | None = None,
        extract: TextExtraction = "last",
        cpu_s: Annotated[float, Gt(0)] = 5.0,
        memory_mb: Annotated[int, Gt(0)] = 512,
        backend: str = "auto",
        image: str | None = None,
        slots: Annotated[int, Gt(0)] | None = None,
        url: str | None = None,
    ) -> None:
        self._language, self._stdin, self._extract = language, stdin, extract
        limits = Limits(cpu_s=cpu_s, memory_mb=memory_mb)
        self._sandbox = SandboxClient(SandboxOptions(backend, image or image_for(language), slots, limits, url))

    async def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score | Unscored]:
        """Score a batch."""
        return await self._sandbox.score(rollouts, self._score_one)

    def close(self) -> None:
        """Leave the sandbox."""
        self._sandbox.close()

    def _score_one(self, sandbox: Sandbox, rollout: Rollout) -> Score | Unscored:
        source = program(rollout.completion_text, self._language, self._extract)
        if source is None:
            return Score(0.0, f"there is no {self._language} program in the completion")
        given = rollout.fields.get(self._stdin, "") if self._stdin else ""
        if not isinstance(given, str):
            return Unscored("input", f"{self._stdin!r} must be text, not {type(given).__name__}")
        run = sandbox.run(Program(source, self._language), [Stdin(given)]).runs[0]
        return Score(
            float(run.ok),
            "runs" if run.ok else describe_failure(run)[:500],
            repeatable=run.status not in OVERRUN,
            extracted=source,
            output=printed(run) or None,
        )
