"""Packages that the image lacks."""

import asyncio

import pytest
from rewardkit_code import CodeTests
from rewardkit_code.execution.packages import image_with, lacking_imports, lacks, missing_package

from rewardkit import Rollout, Unscored
from rewardkit.config.reading import parse_config
from rewardkit.registry import Registry

NUMPY = "import numpy as np\n\ndef add(a, b):\n    return int(np.add(a, b))\n"


def test_images():
    """Known images have the packages of their recipes; nothing is claimed about others."""
    assert image_with("numpy", "python") == "science"
    assert image_with("numpy", "science") is None
    assert image_with("numpy", "mine:latest") is None
    assert image_with("torch", "python") is None
    assert lacks("python", "torch")
    assert not lacks("python", "pytest")
    assert not lacks("science", "mpmath")  # a dependency of sympy
    assert not lacks("mine:latest", "torch")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import numpy as np\n", ["numpy"]),
        ("from scipy.stats import norm\n", ["scipy"]),
        ("import os, numpy\n", ["numpy"]),
        ("if 1:\n    import pandas.io\n", ["pandas"]),
        ("import torch\n", []),
        ("x = 'import numpy'\n", []),
    ],
)
def test_imports_of_a_program(source, names):
    """Only what another image has is told."""
    assert lacking_imports(source, "python") == names


def test_a_message_alone_proves_nothing():
    """A program that only raises the message of a missing module did not fail for the module."""
    message = "ModuleNotFoundError: No module named 'numpy'"
    assert missing_package(message, NUMPY, "python") == "numpy"
    assert missing_package(message, f"raise ModuleNotFoundError({message!r})", "python") is None
    assert missing_package("ZeroDivisionError", NUMPY, "python") is None


TESTS = {
    "calls": [{"call": "add", "args": [1, 2], "expected": 3}],
    "assertions": ["assert add(1, 2) == 3"],
    "test code": "from solution import add\ndef test_add():\n    assert add(1, 2) == 3\n",
    "outputs": [{"stdin": "", "expected": "3"}],
}


@pytest.mark.usefixtures("_needs_sandbox")
@pytest.mark.parametrize("policy", ["unscored", "score"])
def test_a_program_that_needs_another_image(policy):
    """A setting decides: unscored with the name of the image, or a failure that is counted in a metric."""
    reward = CodeTests(slots=2, missing_package=policy)
    rows = [Rollout("", f"```python\n{NUMPY}print(add(1, 2))\n```", {"tests": tests}) for tests in TESTS.values()]
    try:
        results = asyncio.run(reward(rows))
    finally:
        reward.close()
    for result in results:
        if policy == "unscored":
            assert isinstance(result, Unscored)
            assert "image: science" in result.message
        else:
            assert (result.value, result.metrics["missing_package"]) == (0.0, 1.0)
            assert "science" in result.reason


def test_check_counts_formats_and_missing_packages():
    """`rewardkit check` is told the format of each row, and the package that its program needs."""
    config = parse_config("version: 1\ncomponents:\n  a: {use: code.tests}\n", Registry.load())
    row = Rollout("", f"```python\n{NUMPY}```", {"tests": TESTS["calls"]})
    assert config.row_kinds(row) == [("a", "calls; the program imports numpy, which 'science' has")]
    assert config.row_kinds(Rollout("", "", {"tests": []})) == []
    tests = "import numpy as np\ndef test_a():\n    assert np.array(f(1))\n"
    ((_, problem),) = config.row_problems(Rollout("", "", {"tests": tests}))
    assert "image: science" in problem
