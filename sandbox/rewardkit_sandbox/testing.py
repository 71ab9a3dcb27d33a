"""The contract of every sandbox backend, as tests to inherit.

    class TestMine(SandboxContract):
        @pytest.fixture(scope="class")
        @classmethod
        def sandbox(cls):
            with open_mine() as sandbox:
                yield sandbox

A backend without calls or test code (`remote` speaks an API that has only stdin) sets `runs_test_code` to False.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rewardkit_sandbox import Call, Execution, Limits, Opaque, Program, Stdin, Tests
from rewardkit_sandbox.errors import BadTests

ADD = "a, b = map(int, input().split())\nprint(a + b)\n"


def run(sandbox: Any, source: str, stdin: str = "", limits: Limits | None = None) -> Execution:
    """One Python program on one input."""
    result: Execution = sandbox.run(Program(source), [Stdin(stdin)], limits).runs[0]
    return result


class SandboxContract:
    """One claim per test; the docstring is the claim."""

    runs_test_code = True
    is_local = True

    def test_output_and_exit_code(self, sandbox: Any) -> None:
        """Stdout, stderr and the exit code come back as they were."""
        done = run(sandbox, "import sys\nprint(input()[::-1])\nprint('no', file=sys.stderr)\nsys.exit(3)", "abc\n")
        assert (done.status, done.exit_code, done.text) == ("error", 3, "cba\n")
        assert b"no" in done.stderr

    def test_each_case_has_its_run(self, sandbox: Any) -> None:
        """Cases come back in their order, one run each."""
        runs = sandbox.run(Program(ADD), [Stdin(f"{i} {i}\n") for i in range(7)]).runs
        assert [run.text for run in runs] == [f"{2 * i}\n" for i in range(7)]

    def test_early_stop(self, sandbox: Any) -> None:
        """After `stop` says so, the rest is not run."""
        runs = sandbox.run(Program(ADD), [Stdin("1 2\n")] * 3, stop=lambda index, run: index == 1).runs
        assert [run.status for run in runs] == ["ok", "ok", "not_run"]

    def test_an_exception_is_the_programs(self, sandbox: Any) -> None:
        """A traceback goes to stderr and the exit code is 1, as in a plain Python."""
        done = run(sandbox, "def f():\n    raise KeyError('gone')\nf()")
        assert done.exit_code == 1
        assert done.stderr.rstrip().endswith(b"KeyError: 'gone'")

    def test_an_endless_loop_times_out(self, sandbox: Any) -> None:
        """CPU time is bounded."""
        done = run(sandbox, "while True: pass", limits=Limits(cpu_s=1, wall_s=3))
        assert done.status == "time_limit"

    def test_waiting_times_out(self, sandbox: Any) -> None:
        """Wall-clock time is limited, even if the program ignores signals."""
        source = "import signal, time\nfor s in range(1, 32):\n  try: signal.signal(s, signal.SIG_IGN)\n  except Exception: pass\ntime.sleep(60)"
        done = run(sandbox, source, limits=Limits(cpu_s=1, wall_s=1))
        assert done.status == "time_limit"

    def test_memory_is_bounded(self, sandbox: Any) -> None:
        """A program can't have more memory than its limit."""
        done = run(sandbox, "x = bytearray(900 << 20)\nprint(len(x))", limits=Limits(memory_mb=256))
        assert not done.ok
        assert done.text == ""

    def test_output_is_bounded(self, sandbox: Any) -> None:
        """A flood on stdout ends the run; a flood on stderr is dropped and does no harm."""
        flood = run(sandbox, "import os\nwhile True: os.write(1, b'x' * 65536)", limits=Limits(output_bytes=100_000))
        assert flood.status == "output_limit"
        assert len(flood.stdout) <= 100_000
        quiet = run(
            sandbox, "import sys\nsys.stderr.write('e' * (5 << 20))\nprint(3)", limits=Limits(output_bytes=100_000)
        )
        assert quiet.text == "3\n"

    def test_no_network(self, sandbox: Any) -> None:
        """No internet socket can be made."""
        assert run(sandbox, "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)").exit_code == 1

    def test_nothing_is_left_for_the_next_program(self, sandbox: Any) -> None:
        """Files, shared memory and processes are gone when the next program starts."""
        leave = "import os, time\nfor d in ('.', '/tmp', '/dev/shm'):\n  open(d + '/left', 'w').write('x')\nif os.fork() == 0:\n  os.setsid()\n  time.sleep(60)\nprint('done')"
        look = "import os\nprint(os.listdir('/tmp'), os.listdir('/dev/shm'), len([p for p in os.listdir('/proc') if p.isdigit() and p != '1']))"
        for _ in range(getattr(getattr(sandbox, "pool", None), "size", 4)):
            assert run(sandbox, leave).text == "done\n"
        for _ in range(4):
            assert run(sandbox, look).text == "[] [] 1\n"

    def test_the_root_is_read_only(self, sandbox: Any) -> None:
        """A program can write only to /tmp and /dev/shm."""
        source = "import os\nfor d in ('/', '/etc', '/usr', '/var', '/root', '/dev', '/run', '/proc', '/sys', '/home'):\n  try: open(d + '/rk', 'w'); print(d)\n  except OSError: pass"
        assert run(sandbox, source).text == ""

    def test_no_privilege(self, sandbox: Any) -> None:
        """No capability, not even in the bounding set; no way to gain one; a filter on system calls; not uid 0."""
        source = "import os\nt = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)\nprint(*[t[k].lstrip('0') or 0 for k in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')], t['NoNewPrivs'], t['Seccomp'], os.getuid() > 0)"
        assert run(sandbox, source).text == "0 0 0 0 0 1 2 True\n"

    def test_many_callers(self, sandbox: Any) -> None:
        """More callers than boxes wait their turn, and each gets its own result."""
        with ThreadPoolExecutor(8) as executor:
            texts = list(executor.map(lambda i: run(sandbox, ADD, f"{i} 1\n").text, range(40)))
        assert texts == [f"{i + 1}\n" for i in range(40)]

    def test_async_callers(self, sandbox: Any) -> None:
        """Async callers are served too, without blocking their loop."""

        async def main() -> list[str]:
            results = await asyncio.gather(*(sandbox.arun(Program(ADD), [Stdin(f"{i} 1\n")]) for i in range(20)))
            return [result.runs[0].text for result in results]

        assert asyncio.run(main()) == [f"{i + 1}\n" for i in range(20)]

    def test_calls(self, sandbox: Any) -> None:
        """A function's value comes back with its exact builtin types."""
        source = "def f(x, *, y=0):\n    return {'a': (x, [y, None]), 2: {1.5, 'é'}, (1,): 2**70}"
        done = sandbox.run(Program(source), [Call("f", (True,), {"y": b"\0"})]).runs[0]
        assert done.value == {"a": (True, [b"\0", None]), 2: {1.5, "é"}, (1,): 2**70}
        assert type(done.value["a"][0]) is bool

    def test_methods_of_solution(self, sandbox: Any) -> None:
        """A function that is no global is looked for in the class Solution."""
        done = sandbox.run(
            Program("class Solution:\n    def add(self, a, b): return a + b"), [Call("add", (1, 2))]
        ).runs[0]
        assert (done.status, done.value) == ("ok", 3)

    def test_a_call_that_raises(self, sandbox: Any) -> None:
        """The exception's name comes back, and it is no success."""
        done = sandbox.run(Program("def f(): return 1 / 0"), [Call("f")]).runs[0]
        assert (done.status, done.raised) == ("error", "ZeroDivisionError")

    def test_objects_equal_nothing(self, sandbox: Any) -> None:
        """A value of the program's own type is opaque, and one of a builtin's subclass is its plain content."""
        source = "class S(str):\n    __eq__ = lambda s, o: True\n    __hash__ = str.__hash__\nclass E:\n    __eq__ = lambda s, o: True\ndef f(i): return S('x') if i else E()"
        plain, opaque = (done.value for done in sandbox.run(Program(source), [Call("f", (1,)), Call("f", (0,))]).runs)
        assert type(plain) is str and plain == "x" and plain != "y"
        assert isinstance(opaque, Opaque) and opaque != opaque

    def test_ending_early_is_no_value(self, sandbox: Any) -> None:
        """Leaving in the middle of a call, with whatever exit code, returns nothing."""
        for way in ("os._exit(0)", "os.kill(os.getpid(), 9)", "exit(0)", "os.abort()"):
            done = sandbox.run(Program(f"import os\ndef f(): {way}"), [Call("f")]).runs[0]
            assert not done.ok, way

    def test_a_shared_process_gives_the_same_answers(self, sandbox: Any) -> None:
        """All cases in one process give what each would give on its own, also where one ends the process."""
        source = "import os\nx = int(input())\nif x == 2: os._exit(0)\nif x == 3: raise ValueError\nif x == 4: exit()\nprint('got', x)"
        cases = [Stdin(f"{i}\n") for i in range(6)]
        alone, together = (sandbox.run(Program(source), cases, isolation=way).runs for way in ("fresh", "shared"))
        assert [(run.status, run.stdout) for run in alone] == [(run.status, run.stdout) for run in together]

    def test_unit_tests(self, sandbox: Any) -> None:
        """Test code runs where the program can't reach it, and sees values, exceptions and changed arguments."""
        if not self.runs_test_code:
            pytest.skip("this backend runs no test code")
        program = Program("def f(x):\n    x.append(1)\n    if len(x) > 2: raise ValueError('long')\n    return x")
        tests = "a = []\nassert f(a) == [1] and a == [1]\ntry: f([1, 2])\nexcept ValueError as e: assert str(e) == 'long'\nelse: assert False"
        assert sandbox.run_tests(program, Tests(tests)).passed
        assert not sandbox.run_tests(program, Tests(tests + "\nassert f([]) == [2]")).passed
        assert not sandbox.run_tests(program, Tests("assert g() == 1")).passed

    def test_unit_tests_can_not_be_forged(self, sandbox: Any) -> None:
        """Ending the process, patching what compares, or lending names to the tests does not pass."""
        if not self.runs_test_code:
            pytest.skip("this backend runs no test code")
        evil = "class Y:\n    def __getattr__(s, n): return lambda *a, **k: True\n    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = lambda s, o: True\n    __sub__ = __rsub__ = __add__ = __radd__ = lambda s, o: 0\n    __abs__ = lambda s: 0\n    __bool__ = lambda s: True\n    __len__ = lambda s: 3\n    __iter__ = lambda s: iter([7])\n    __hash__ = lambda s: 1\n"
        compares = [
            "assert f(1) == 7",
            "assert abs(f(1) - 7) < 1e-6",
            "import math\nassert math.isclose(f(1), 7)",
            "assert 7.5 in f(1)",
            "assert f(1) < 7 < f(2)",
        ]
        patches = "import builtins\nbuiltins.abs = lambda x: 0\nabs = builtins.abs\nmath = isclose = None\nAssertionError = ValueError\ndef f(x): return 0"
        forgeries = [
            *((evil + "def f(x): return Y()", test) for test in compares),
            *((patches, test) for test in compares[:3]),
            ("import os\ndef f(x): os._exit(0)", compares[0]),
            ("def f(x): raise SystemExit(0)", compares[0]),
            ('import os\nos.write(3, b\'["passed","",{}]\\n\' * 9)\ndef f(x): return 1', compares[0]),
        ]
        for program, test in forgeries:
            verdict = sandbox.run_tests(Program(program), Tests(test + "\nassert f(2) == 'k'"))
            assert not verdict.passed, (program, test)

    def test_bad_tests_are_not_the_programs_fault(self, sandbox: Any) -> None:
        """Test code that does not compile raises `BadTests`."""
        if not self.runs_test_code:
            pytest.skip("this backend runs no test code")
        with pytest.raises(BadTests, match="compile"):
            sandbox.run_tests(Program("def f(): pass"), Tests("assert f( == 1"))

    def test_unknown_languages(self, sandbox: Any) -> None:
        """Unknown languages are refused by name, and the message lists the known ones."""
        with pytest.raises(ValueError, match="unknown language 'cobol'.*python"):
            sandbox.run(Program("", "cobol"), [Stdin("")])

    def test_the_interpreter_is_warm(self, sandbox: Any) -> None:
        """A small program is no new interpreter: its process costs less CPU than starting one does."""
        if self.is_local:
            assert min(run(sandbox, ADD, "1 2\n").cpu_s for _ in range(20)) < 0.012

    def test_clock(self, sandbox: Any) -> None:
        """The clock is the host's and can't be set."""
        done = run(
            sandbox,
            "import time\nprint(time.time())\ntry: time.clock_settime(time.CLOCK_REALTIME, 0)\nexcept OSError: print('no')",
        )
        now, refused = done.text.split()
        assert abs(float(now) - time.time()) < 60 and refused == "no"
