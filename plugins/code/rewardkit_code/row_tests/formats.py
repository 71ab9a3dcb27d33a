"""Recognizes the formats in which data sets store tests by their shape, and converts them into one form."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from rewardkit_sandbox import Assertion, Call, Stdin, split_assertion

from rewardkit_code.row_tests import packed
from rewardkit_code.row_tests.python_tests import TestCode, parse, read_code, syntax_fault
from rewardkit_code.row_tests.types import AssertTest, CallTest, CodeTest, OutputTest, RowTests, Test, UnusableTests

ENTRY_COLUMNS = ("entry_point", "fn_name", "func_name", "function_name")
"""Columns that name the function, where the row has them."""
SETUP_COLUMNS = ("test_imports", "test_setup_code", "setup_code", "import_prefix")
"""Columns (and keys) with lines that run before the tests."""
_HOLDERS = {
    "test_cases": "open-r1 test_cases",
    "assert_case": "verl assert_case",
    "asserts": "",
    "test_list": "",
    "unit_tests": "",
    "tests": "",
    "functional": "",
    "test_code": "",
    "test": "",
}
"""Keys under which an object holds its tests, beside others that describe them, with the format's name."""
_PARTS = ("public_test_cases", "public_tests", "private_test_cases", "private_tests", "generated_tests")
"""Keys that each hold some of the tests."""
_FUNCTIONAL = ("functional", "function_call", "call_based")
_BY_OUTPUT = ("stdin", "stdin_stdout", "standard_input")
_SIGNATURE = re.compile(r"class\s+Solution\b.*?\bdef\s+(?!__)(\w+)\s*\(\s*self", re.DOTALL)
_METHOD = re.compile(r"^[ \t]+(?:async[ \t]+)?def[ \t]+([A-Za-z]\w*)[ \t]*\([ \t\n]*self\b", re.MULTILINE)
_FUNCTION = re.compile(r"^(?:async[ \t]+)?def[ \t]+([A-Za-z]\w*)[ \t]*\(", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Context:
    """Details of a row's tests: function name, set-up code, and so on."""

    entry_point: str | None = None
    """The function under test."""
    setup: str = ""
    """Lines to run before the tests."""
    float_tolerance: float | None = None
    """The tolerance of tests without one of their own."""


def context(fields: Mapping[str, Any], entry_column: str | None, float_tolerance: float | None) -> Context:
    """Return what the other columns of a row say about its tests.

    Args:
        fields: The row.
        entry_column: The column that names the function; None looks for the usual names.
        float_tolerance: The tolerance of tests without one of their own.
    """
    columns = (entry_column,) if entry_column else ENTRY_COLUMNS
    entry = next((value for name in columns if isinstance(value := fields.get(name), str) and value.strip()), None)
    entry = entry or _function_name(fields) or _from_starter(fields.get("starter_code"))
    return Context(entry and entry.strip(), _setup(fields), float_tolerance)


def read_tests(tests: Any, given: Context) -> RowTests:
    """Return the tests of one row.

    Args:
        tests: The column: a list, an object, JSON or Python text, or LiveCodeBench's packed tests.
        given: What else the row says about them.

    Raises:
        UnusableTests: There are none, or one of them has no known shape; the message says which and what was found.
    """
    tests, given, name = _opened(_plain(tests), given)
    if isinstance(tests, str):
        code = read_code(tests, given.entry_point, given.setup)
        return RowTests([code], name or _format_of(code, {}))
    if not isinstance(tests, Sequence) or isinstance(tests, bytes):
        raise UnusableTests(f"tests must be a list, an object or text, not {type(tests).__name__}")
    if not tests:
        raise UnusableTests("there are no tests")
    read: list[Test] = []
    formats: list[str] = []
    setup = given.setup
    for number, raw in enumerate(tests, 1):
        if _is_setup(raw):
            setup = f"{setup}\n{raw}" if setup else raw
            continue
        read.append(_one(raw, f"test {number}", replace(given, setup=setup)))
        formats.append(_format_of(read[-1], raw))
    if not read:
        raise UnusableTests("the tests assert nothing")
    return RowTests(read, name or " and ".join(dict.fromkeys(formats)))


def _plain(tests: Any) -> Any:
    """The value of JSON, Python-literal or packed text; other text as it is."""
    if not isinstance(tests, str):
        return tests
    text = tests.strip()
    if not text:
        raise UnusableTests("the tests are empty")
    if packed.is_packed(text):
        return _plain(_unpacked(text))
    if text[0] in "[{":
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
        try:
            return ast.literal_eval(text)  # some data sets hold the repr of a Python object
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return tests
    if text[0] == '"':
        try:
            return _plain(json.loads(text))
        except (ValueError, RecursionError):
            return tests
    return tests


@lru_cache(maxsize=64)
def _unpacked(text: str) -> Any:
    return packed.unpack(text)


def _function_name(value: Mapping[str, Any]) -> str | None:
    """The function that an object or its metadata names."""
    for key in ("fn_name", "func_name", "function_name", "entry_point"):
        if isinstance(name := value.get(key), str) and name.strip():
            return name.strip()
    metadata = value.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError):
            return None
    return (
        _function_name({k: v for k, v in metadata.items() if k != "metadata"})
        if isinstance(metadata, Mapping)
        else None
    )


def _from_starter(code: Any) -> str | None:
    """The method of `class Solution` in starter code."""
    found = _SIGNATURE.search(code) if isinstance(code, str) else None
    return found[1] if found else None


def name_of_function(source: str, prompt: str) -> str | None:
    """Return the function that calls without a name mean: that of the starter code in the prompt, or the program's only one.

    Args:
        source: The program; it is not parsed, because a completion may be anything.
        prompt: The prompt.
    """
    if name := _from_starter(prompt):
        return name
    _, is_class, body = source.partition("class Solution")
    names = _METHOD.findall(body) if is_class else _FUNCTION.findall(source)
    public = [name for name in dict.fromkeys(names) if not name.startswith("_")]
    if is_class and len(public) > 1:  # helpers are called by the others, and the method under test usually is not
        public = [name for name in public if not re.search(rf"\bself\.{name}\b", body)] or public
    return public[0] if len(public) == 1 else None


def _setup(fields: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for key in SETUP_COLUMNS:
        value = fields.get(key)
        if isinstance(value, str) and value.strip():
            lines.append(value)
        elif isinstance(value, (list, tuple)):
            lines += [line for line in value if isinstance(line, str) and line.strip()]
    return "\n".join(lines)


def _opened(tests: Any, given: Context) -> tuple[Any, Context, str]:
    """Return the tests in an object, its settings for them, and the name of the format. Other values are returned unchanged."""
    if not isinstance(tests, Mapping):
        return tests, given, ""
    own = {name: value for name, value in tests.items() if value is not None}
    language = own.get("language")
    if isinstance(language, str) and language.lower().replace(" ", "") not in ("python", "py", "python3", "py3"):
        raise UnusableTests(f"the tests are for {language}, not for Python")
    setup = "\n".join(filter(None, (given.setup, _setup(own))))
    inner = replace(given, entry_point=_function_name(own) or given.entry_point, setup=setup)
    for key, name in _HOLDERS.items():
        if not (isinstance(held := own.get(key), str) or held):
            continue
        deeper, inner, found = _opened(_plain(held), inner)
        if isinstance(deeper, str) and key in ("assert_case", "asserts"):
            deeper = [deeper]
        return deeper, inner, name or found
    if parts := [own[key] for key in _PARTS if own.get(key)]:
        together: list[Any] = []
        found = ""
        for part in parts:
            deeper, inner, found = _opened(_plain(part), inner)
            together += deeper if isinstance(deeper, list) else [deeper]
        return together, inner, found
    for inputs, outputs in (("inputs", "outputs"), ("input", "output")):
        if _are_columns(own, inputs, outputs):
            items, name = _columns(own, inputs, outputs)
            return items, inner, name
    return [tests], given, ""


def _are_columns(tests: Mapping[str, Any], inputs: str, outputs: str) -> bool:
    if inputs not in tests or "call" in tests or _kind(tests) in _FUNCTIONAL:
        return False
    if inputs == "inputs":
        return True
    lists = (list, tuple)
    if not isinstance(tests[inputs], lists) or not isinstance(tests.get(outputs), lists):
        return False
    return _function_name(tests) is None or all(isinstance(each, (*lists, str)) for each in tests[inputs])


def _kind(test: Mapping[str, Any]) -> str:
    """Return whether a test compares output or calls a function."""
    return next((value for key in ("testtype", "type") if isinstance(value := test.get(key), str)), "")


def _columns(tests: Mapping[str, Any], inputs: str, outputs: str) -> tuple[list[Any], str]:
    """`{"inputs": […], "outputs": […], "fn_name": …}`, as APPS and TACO write it."""
    given, wanted = tests[inputs], tests.get(outputs)
    lists = (list, tuple)
    if not isinstance(given, lists) or not isinstance(wanted, lists) or len(given) != len(wanted):
        raise UnusableTests(f"{inputs} and {outputs} must be lists of the same length")
    name = _function_name(tests)
    if name or not all(_lines(each) is not None for each in given):
        calls = [
            {"type": "call_based", "fn_name": name, "input": each, "output": out}
            for each, out in zip(given, wanted, strict=True)
        ]
        return calls, "APPS/TACO columns of calls"
    rows = [{"stdin": _lines(each), "expected": _lines(out)} for each, out in zip(given, wanted, strict=True)]
    return rows, "APPS/TACO columns of outputs"


def _lines(value: Any) -> str | None:
    """The text that an input or output is: itself, or its lines joined; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return None


def _is_setup(test: Any) -> bool:
    """Return whether a text in a list of tests only sets up the others: it imports and assigns, and asserts nothing."""
    if not isinstance(test, str) or "assert" in test or syntax_fault(test):
        return False
    code = TestCode(parse(test))
    return not (code.asserts or code.has_tests or code.defines_check)


def _one(test: Any, where: str, given: Context) -> Test:
    if isinstance(test, str):
        return _assertion_or_code(test, where, given)
    if not isinstance(test, Mapping):
        raise UnusableTests(f"{where} must be an object or an assert, not {type(test).__name__}")
    # Parquet gives every test of a column the keys of all of them.
    test = {name: value for name, value in test.items() if value is not None or name in ("expected", "output")}
    weight = test.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
        raise UnusableTests(f"{where}: weight must be a number above 0, not {weight!r}")
    tolerance = test.get("float_tolerance", given.float_tolerance)
    if tolerance is not None and (
        isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or tolerance < 0
    ):
        raise UnusableTests(f"{where}: float_tolerance must be a number from 0 on, not {tolerance!r}")
    if "call" in test:
        return _call(test, where, tolerance, weight)
    if _kind(test) in _FUNCTIONAL or (_function_name(test) and _kind(test) not in _BY_OUTPUT and "stdin" not in test):
        return _functional(test, where, given, tolerance, weight)
    return _output(test, where, tolerance, weight)


def _assertion_or_code(source: str, where: str, given: Context) -> Test:
    try:
        if not source.lstrip().startswith("assert"):
            return read_code(source, given.entry_point, given.setup)
        assertion = _split(source)
        if assertion is not None and given.setup:
            code = TestCode(parse(given.setup))
            if code.bound & TestCode(parse(source.strip())).used:
                assertion = None
        if assertion is not None:
            return AssertTest(source, assertion, setup=given.setup)
        code_test = read_code(source.strip(), None, given.setup)
        return AssertTest(source, None, setup=given.setup, code=code_test)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UnusableTests(f"{where}: {error}") from error


@lru_cache(maxsize=4096)
def _split(source: str) -> Assertion | None:
    return split_assertion(source)


def _call(test: Mapping[str, Any], where: str, tolerance: float | None, weight: float) -> CallTest:
    name, args, kwargs = test["call"], test.get("args", []), test.get("kwargs", {})
    if not isinstance(name, str) or not name:
        raise UnusableTests(f'{where}: "call" must name a function, not {name!r}')
    if not isinstance(args, list) or not isinstance(kwargs, Mapping) or "expected" not in test:
        raise UnusableTests(f'{where} needs "args", a list, and "expected" beside "call"')
    return CallTest(Call(_dotted(name), tuple(args), dict(kwargs)), test["expected"], tolerance, weight)


def _dotted(name: str) -> str:
    """`Solution().total` as `Solution.total`."""
    return name.strip().replace("()", "")


def _functional(
    test: Mapping[str, Any], where: str, given: Context, tolerance: float | None, weight: float
) -> CallTest:
    """A call in the forms of LiveCodeBench (text, one argument a line), APPS and open-r1 (values)."""
    inputs = next((test[key] for key in ("input", "inputs", "args", "stdin") if key in test), None)
    outputs = [test[key] for key in ("output", "outputs", "expected") if key in test]
    if inputs is None or not outputs:
        raise UnusableTests(f'{where} calls a function, and needs "input" and "output"')
    expected = outputs[0]
    name = _dotted(_function_name(test) or given.entry_point or "")
    kwargs: dict[str, Any] = {}
    alternatives: list[Any] = []
    if isinstance(inputs, str):
        args = tuple(_value(line) for line in inputs.split("\n") if line.strip())
        expected = _value(expected) if isinstance(expected, str) else expected
    elif isinstance(inputs, Mapping):
        args, kwargs = (), dict(inputs)
    else:
        args = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
    if not isinstance(inputs, str) and isinstance(expected, (list, tuple)) and len(expected) == 1:
        alternatives.append(expected[0])
    return CallTest(Call(name, args, kwargs), expected, tolerance, weight, tuple(alternatives))


def _value(text: str) -> Any:
    """The value of a line of JSON, or else of a Python literal, or else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _output(test: Mapping[str, Any], where: str, tolerance: float | None, weight: float) -> OutputTest:
    stdin = _lines(test.get("stdin", test.get("input", "" if "expected" in test and "checker" in test else None)))
    expected = test.get("expected", test.get("output"))
    wanted = None if expected is None else _lines(expected)
    checker = test.get("checker")
    if checker is not None:
        _refuse_broken_checker(checker, where)
    if stdin is None or not (wanted is not None or (checker and expected is None)):
        keys = ", ".join(map(str, test)) or "nothing"
        raise UnusableTests(f'{where} needs "stdin" and "expected", both text, or "call", or "checker"; it has {keys}')
    return OutputTest(Stdin(stdin), wanted or "", tolerance, checker, weight)


@lru_cache(maxsize=1024)
def _checker_fault(checker: str) -> str:
    if fault := syntax_fault(checker):
        return f"the checker does not compile: {fault}"
    code = TestCode(parse(checker))
    if not code.defines_check and "check" not in code.bound:
        return "the checker must define check(stdin, expected, output)"
    if code.free:
        return f"the checker uses {code.free[0]}, which it does not define"
    return ""


def _refuse_broken_checker(checker: Any, where: str) -> None:
    if not isinstance(checker, str):
        raise UnusableTests(f"{where}: checker must be Python text, not {type(checker).__name__}")
    if fault := _checker_fault(checker):
        raise UnusableTests(f"{where}: {fault}")


def _format_of(test: Test, raw: Any) -> str:
    """The name of a test's format, for a person."""
    if isinstance(test, AssertTest):
        return "assertions"
    if isinstance(test, CodeTest):
        if test.kind == "pytest":
            return "unittest module" if "TestCase" in test.source else "pytest module"
        return "HumanEval check(candidate)" if "def check(" in test.source else "script of assertions"
    named = {"functional": "LiveCodeBench calls", "stdin": "LiveCodeBench outputs", "function_call": "open-r1 calls"}
    if isinstance(raw, Mapping) and (name := named.get(_kind(raw))):
        return name
    if isinstance(test, CallTest):
        return "calls"
    return "outputs with a checker" if test.checker else "outputs"
