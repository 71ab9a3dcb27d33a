"""The formats of tests, told apart by their shape."""

import json

import pytest
from rewardkit_code.row_tests.formats import Context, context, name_of_function, read_tests
from rewardkit_code.row_tests.types import AssertTest, CallTest, OutputTest, UnusableTests
from rewardkit_sandbox import Call

LCB = {"input": "[1, 2]\n3", "output": "9", "testtype": "functional"}


@pytest.mark.parametrize(
    ("tests", "name"),
    [
        ([{"stdin": "1", "expected": "2"}], "outputs"),
        ([{"stdin": "1", "checker": "def check(a, b, c):\n    return True"}], "outputs with a checker"),
        ([{"call": "f", "args": [], "expected": 1}], "calls"),
        (["assert f(1) == 2"], "assertions"),
        ([LCB], "LiveCodeBench calls"),
        ([{"input": "1", "output": "2", "testtype": "stdin"}], "LiveCodeBench outputs"),
        ({"inputs": ["1"], "outputs": ["2"]}, "APPS/TACO columns of outputs"),
        ({"inputs": [[1]], "outputs": [2], "fn_name": "f"}, "APPS/TACO columns of calls"),
        ({"language": "python", "test_cases": [{"input": "1", "output": "2", "type": "stdin_stdout"}]}, "open-r1 test_cases"),
        ({"assert_case": ["assert f(1) == 2"]}, "verl assert_case"),
        ("def check(candidate):\n    assert candidate(1)\n", "HumanEval check(candidate)"),
        ("def test_a():\n    assert f(1)\n", "pytest module"),
        ("import unittest\nclass A(unittest.TestCase):\n    def test(self):\n        self.fail(f)\n", "unittest module"),
        ("x = f(1)\nassert x\n", "script of assertions"),
        (["assert f(1) == 2", {"stdin": "1", "expected": "2"}], "assertions and outputs"),
    ],
)  # fmt: skip
def test_names_of_formats(tests, name):
    """Each format has a name, the same from JSON text as from values."""
    given = Context(entry_point="f")
    assert read_tests(tests, given).format == name
    if not isinstance(tests, str):
        assert read_tests(json.dumps(tests), given) == read_tests(tests, given)
        assert read_tests(repr(tests), given) == read_tests(tests, given)


@pytest.mark.parametrize(
    ("tests", "args", "expected", "alternatives"),
    [
        ([LCB], ([1, 2], 3), 9, ()),
        ([{**LCB, "input": '"a"\n"b"', "output": '"ab"'}], ("a", "b"), "ab", ()),
        ([{**LCB, "input": "True\n'a'", "output": "None"}], (True, "a"), None, ()),
        ([{**LCB, "input": "not json", "output": "[5]"}], ("not json",), [5], ()),
        ({"fn_name": "f", "inputs": [["1", "2"]], "outputs": ["12"]}, ("1", "2"), "12", ()),
        ({"fn_name": "f", "inputs": ["1\n2"], "outputs": ["3"]}, (1, 2), 3, ()),
        ({"fn_name": "f", "inputs": [[5]], "outputs": [[5]]}, (5,), [5], (5,)),
        ({"fn_name": "f", "inputs": [[5]], "outputs": [[5, 6]]}, (5,), [5, 6], ()),
        ([{"fn_name": "f", "type": "function_call", "input": [1, 2], "output": 3}], (1, 2), 3, ()),
        ([{"fn_name": "f", "type": "function_call", "input": [1, 2], "output": [3]}], (1, 2), [3], (3,)),
    ],
)
def test_arguments_and_values(tests, args, expected, alternatives):
    """Text holds one JSON value a line; values stay as they are; only APPS's lists of one element stand for the element, too."""
    (test,) = read_tests(tests, Context(entry_point="f")).tests
    assert isinstance(test, CallTest)
    assert (test.case, test.expected, tuple(test.alternatives)) == (Call("f", args), expected, alternatives)


@pytest.mark.parametrize(
    "fields",
    [
        {"entry_point": "Solution().total"},
        {"fn_name": "total"},
        {"metadata": {"func_name": "total"}},
        {"metadata": '{"func_name": "total"}'},
        {"starter_code": "class Solution:\n    def total(self, nums: List[int]) -> int:\n        "},
    ],
)
def test_columns_that_name_the_function(fields):
    """The function under test is found in any of the usual columns."""
    (test,) = read_tests([LCB], context(fields, None, None)).tests
    assert test.case.name in ("total", "Solution.total")


def test_a_named_column_goes_first():
    """The parameter `entry_point` decides, whatever other columns say."""
    assert context({"fn": "a", "entry_point": "b"}, "fn", None).entry_point == "a"


@pytest.mark.parametrize(
    ("source", "prompt", "name"),
    [
        ("class Solution:\n    def total(self, n):\n        pass\n", "", "total"),
        ("class Solution:\n    def help(self, n): pass\n    def total(self, n): return self.help(n)\n", "", "total"),
        ("class Solution:\n    def a(self): pass\n    def b(self): pass\n", "", None),
        ("class Solution:\n    def a(self): pass\n    def b(self): pass\n", "class Solution:\n    def b(self):", "b"),
        ("def total(n): pass\n", "", "total"),
        ("def a(): pass\ndef b(): pass\n", "", None),
        ("print(1)", "", None),
    ],
)
def test_calls_without_a_name(source, prompt, name):
    """Calls without a name mean the starter code's function, or the program's only function that no other calls."""
    assert name_of_function(source, prompt) == name


def test_set_up_lines():
    """Lines that assert nothing run before the assertions behind them; an assertion that does not need them is split all the same."""
    found = read_tests(["root = Node(1)", "assert height(root) == 1", "assert f(1) == 2"], Context()).tests
    assert [type(test) for test in found] == [AssertTest, AssertTest]
    assert found[0].assertion is None
    assert found[0].code.source == "root = Node(1)\nassert height(root) == 1"
    assert found[0].code.names == ("Node", "height")
    assert found[1].assertion is not None


def test_parquet_rows():
    """Keys that are null, because other rows have them, count as absent."""
    row = {"input": "1", "output": "2", "testtype": None, "fn_name": None, "call": None, "args": None, "checker": None}
    (test,) = read_tests([row], Context()).tests
    assert isinstance(test, OutputTest)
    assert read_tests({"inputs": ["1"], "outputs": ["2"], "fn_name": None, "assert_case": None}, Context()).tests


@pytest.mark.parametrize(
    ("tests", "says"),
    [
        ({"inputs": [1], "outputs": []}, "same length"),
        ({"language": "cpp", "test_cases": [{"input": "", "output": ""}]}, "for cpp"),
        ([{**LCB, "output": None, "input": None}], "needs"),
        (["import math"], "assert nothing"),
        ([{"stdin": "", "checker": "def check(a, b, c)\n    pass"}], "the checker does not compile"),
        ([{"stdin": "", "checker": "def verify(a, b, c):\n    pass"}], "must define check"),
        ([{"stdin": "", "checker": "def check(a, b, c):\n    return nope(c)"}], "uses nope"),
    ],
)
def test_unusable_tests(tests, says):
    """The message says what was found."""
    with pytest.raises(UnusableTests, match=says):
        read_tests(tests, Context())
