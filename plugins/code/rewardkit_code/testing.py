"""`code.tests`: whether a program does what its tests ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from rewardkit_sandbox import BadTests, Limits, Program, Sandbox

from rewardkit import FieldName, Rollout, Score, Unscored, reward
from rewardkit_code import plans
from rewardkit_code.boxes import Boxes, Options, image_for
from rewardkit_code.extract import Extraction, Language, program
from rewardkit_code.outcomes import TestOutcome, told
from rewardkit_code.plans import CodeTest, OutputTest, ReferenceFault, Test
from rewardkit_code.running import Plan, run_tests

_FUTURE = re.compile(r"^from __future__ import [^\n]*$", re.MULTILINE)


def _read(
    rollout: Rollout, field: str, entry_field: str | None, tolerance: float | None, language: Language
) -> list[Test]:
    if field not in rollout.fields:
        raise ReferenceFault(f"the row has no {field!r}")
    entry = rollout.fields.get(entry_field) if entry_field else None
    tests = plans.read(rollout.fields[field], entry_point=str(entry) if entry else None, float_tolerance=tolerance)
    if language != "python" and not all(isinstance(test, OutputTest) for test in tests):
        raise ReferenceFault(f"programs in {language} take tests with stdin only")
    return tests


def _check(params: Any, rollout: Rollout) -> str | None:
    """What is wrong with a row's tests, before anything is run."""
    try:
        _read(rollout, params.tests, params.entry_point, params.float_tolerance, params.language)
    except ReferenceFault as error:
        return str(error)
    return None


def _options(params: Any) -> Options:
    limits = Limits(cpu_s=params.cpu_s, wall_s=params.wall_s, memory_mb=params.memory_mb)
    return Options(params.backend, params.image or image_for(params.language), params.slots, limits)


def _content(params: Any, rollout: Rollout) -> list[Any]:
    """The program and its tests; the prompt only where tests build on it."""
    source = program(rollout.completion_text, params.language, params.extract)
    entry = rollout.fields.get(params.entry_point) if params.entry_point else None
    return [source, rollout.fields.get(params.tests), entry, rollout.prompt_text if entry else None]


@reward(
    "code.tests",
    deterministic=True,
    identity=lambda params: _options(params).identity(),
    content=_content,
    check=_check,
    example="correct: {use: code.tests, with: {tests: tests, score: all}}",
)
class CodeTests:
    r"""The share of tests that a program passes, run in a sandbox; what is expected never enters it.

    Tests are told apart by their shape: `{"stdin": "1 2\n", "expected": "3\n"}` (with `float_tolerance`, or a `checker`
    that defines `check(stdin, expected, output)`), `{"call": "add", "args": [1, 2], "expected": 3}`, `"assert add(1, 2) == 3"`,
    HumanEval's `check(candidate)` with an entry point, or a pytest file that imports `solution`. A row without tests is not scored.

    Args:
        tests: The column with the tests.
        entry_point: The column that names the function, for tests of HumanEval's kind.
        language: What the program is written in.
        extract: `fenced` takes the last fenced block of the language (or of the last `<answer>`), `whole` the completion as it is.
        score: `pass_rate`, `all` (1 only if every test passes), or `weighted` (by the tests' `weight`).
        float_tolerance: How far floats may be off, absolutely or relatively; integers never.
        isolation: `fresh` runs each test in a process of its own; `shared` all of a program in one, several times faster.
        max_timeouts: After so many tests that run out of time the others are not run, and count as failed. Without a limit a program
            that hangs takes its time for every test.
        cpu_s: CPU seconds of each test.
        wall_s: Wall-clock seconds of each test; by default three times `cpu_s`.
        memory_mb: Memory of the program (MiB).
        backend: Which sandbox: `auto` (Docker where an engine answers, else bubblewrap), `docker`, `bubblewrap`, or one that another
            distribution offers.
        image: What the program finds around it; by default what its language needs.
        slots: Programs at a time; by default twice the CPUs.
    """

    def __init__(
        self,
        *,
        tests: FieldName = "tests",
        entry_point: FieldName | None = None,
        language: Language = "python",
        extract: Extraction = "fenced",
        score: Literal["pass_rate", "all", "weighted"] = "pass_rate",
        float_tolerance: Annotated[float, Ge(0)] | None = None,
        isolation: Literal["fresh", "shared"] = "fresh",
        max_timeouts: Annotated[int, Ge(1)] | None = 3,
        cpu_s: Annotated[float, Gt(0)] = 5.0,
        wall_s: Annotated[float, Gt(0)] | None = None,
        memory_mb: Annotated[int, Gt(0)] = 512,
        backend: str = "auto",
        image: str | None = None,
        slots: Annotated[int, Ge(1)] | None = None,
    ) -> None:
        self._tests, self._entry_point, self._tolerance = tests, entry_point, float_tolerance
        self._language: Language = language
        self._extract, self._score = extract, score
        self._isolation, self._max_timeouts = isolation, max_timeouts
        limits = Limits(cpu_s=cpu_s, wall_s=wall_s, memory_mb=memory_mb)
        self._boxes = Boxes(Options(backend, image or image_for(language), slots, limits))

    async def __call__(self, rollouts: Sequence[Rollout], /) -> list[Score | Unscored]:
        """Score a batch."""
        return await self._boxes.score(rollouts, self._one)

    def close(self) -> None:
        """Ends the sandbox."""
        self._boxes.close()

    def _one(self, sandbox: Sandbox, rollout: Rollout) -> Score | Unscored:
        try:
            tests = _read(rollout, self._tests, self._entry_point, self._tolerance, self._language)
        except ReferenceFault as error:
            return Unscored("reference", str(error))
        source = program(rollout.completion_text, self._language, self._extract)
        if source is None:
            metrics = {"passed": 0.0, "tests": float(len(tests))}
            return Score(0.0, f"there is no {self._language} program in the completion", metrics)
        entry = next((test.entry_point for test in tests if isinstance(test, CodeTest) and test.entry_point), None)
        whole = joined(rollout.prompt_text, source, entry) if entry else Whole(source)
        plan = Plan(
            Program(whole.source, self._language),
            tests,
            whole.prelude,
            whole.lines_before,
            self._isolation,
            stop_at_first=self._score == "all",
            max_overruns=self._max_timeouts,
        )
        try:
            outcomes = run_tests(sandbox, plan)
        except (BadTests, ValueError) as error:  # the latter: a language that can't be tested this way
            return Unscored("reference", str(error))
        return self._total(tests, outcomes)

    def _total(self, tests: Sequence[Test], outcomes: Sequence[TestOutcome]) -> Score:
        passed = sum(outcome.passed for outcome in outcomes)
        weights = [test.weight if self._score == "weighted" else 1.0 for test in tests]
        value = sum(w for w, outcome in zip(weights, outcomes, strict=True) if outcome.passed) / sum(weights)
        if self._score == "all":
            value = float(passed == len(tests))
        reason = told(outcomes, is_code=isinstance(tests[0], CodeTest))
        metrics = {"passed": float(passed), "tests": float(len(tests))}
        repeatable = not any(outcome.overrun for outcome in outcomes)
        return Score(value, reason[:500], metrics, repeatable=repeatable)


@dataclass(frozen=True, slots=True)
class Whole:
    """A program with what the prompt gives it."""

    source: str
    prelude: str = ""
    """The prompt, where it is Python."""
    lines_before: int = 0


def joined(prompt: str, source: str, entry: str) -> Whole:
    """A completion of a function's head that is the prompt: continued by the source, or written out again by it.

    A source that begins indented, or does not define the function, continues the prompt. One that defines it still gets the
    prompt's imports and helpers before it. A prompt that is no Python stays out.
    """
    head = plans.parses(prompt)
    if not head and not plans.parses(f"{prompt}\n    pass\n"):
        return Whole(source)
    prelude = prompt if head else ""
    if source.lstrip("\n")[:1] in (" ", "\t") or not _defines(source, entry):
        return Whole(prompt + source, prelude, prompt.count("\n"))
    if not head:
        return Whole(source)
    future = "".join(f"{line}\n" for line in _FUTURE.findall(source))  # has to stand at the top
    before = f"{future}{prompt}\n"
    return Whole(before + _FUTURE.sub("", source), prelude, before.count("\n"))


def _defines(source: str, name: str) -> bool:
    """Whether the source's top level binds a name. It is not parsed: a completion may be anything."""
    first = re.escape(name.partition(".")[0])
    return (
        re.search(rf"^(?:(?:async[ \t]+def|def|class)[ \t]+{first}\b|{first}[ \t]*[:=])", source, re.MULTILINE)
        is not None
    )
