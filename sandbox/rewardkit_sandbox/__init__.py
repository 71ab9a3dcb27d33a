r"""Runs untrusted programs fast and safely: takes a program, its inputs and limits, and returns what happened.

    from rewardkit_sandbox import Program, Stdin, open_sandbox, same_output

    with open_sandbox() as sandbox:
        result = sandbox.run(Program("print(sum(map(int, input().split())))"), [Stdin("1 2\n")])
        assert same_output(result.runs[0].stdout, "3\n")

Expected outputs never enter a box: compare what comes out with `same_output` and `same_value`.
"""

from rewardkit_sandbox.box.codec import Opaque
from rewardkit_sandbox.errors import BadTests, BoxDied, Closed, SandboxError, Unavailable
from rewardkit_sandbox.languages import LANGUAGES
from rewardkit_sandbox.opening import identify, open_sandbox
from rewardkit_sandbox.protocol import Sandbox, SandboxBackend, SandboxOptions
from rewardkit_sandbox.sandbox import PooledSandbox
from rewardkit_sandbox.types import (
    Call,
    Case,
    Execution,
    Isolation,
    Limits,
    Program,
    Property,
    Result,
    Stdin,
    Tests,
    Verdict,
)
from rewardkit_sandbox.verdicts.assertion_calls import Assertion, split_assertion
from rewardkit_sandbox.verdicts.output_comparison import same_output, same_value, show

__all__ = [
    "LANGUAGES",
    "Assertion",
    "BadTests",
    "BoxDied",
    "Call",
    "Case",
    "Closed",
    "Execution",
    "Isolation",
    "Limits",
    "Opaque",
    "PooledSandbox",
    "Program",
    "Property",
    "Result",
    "Sandbox",
    "SandboxBackend",
    "SandboxError",
    "SandboxOptions",
    "Stdin",
    "Tests",
    "Unavailable",
    "Verdict",
    "identify",
    "open_sandbox",
    "same_output",
    "same_value",
    "show",
    "split_assertion",
]
from rewardkit_sandbox.version import __version__ as __version__
