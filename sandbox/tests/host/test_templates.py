"""Several cases of one program come from a template: each is as in a process of its own, and none can touch another or a template."""

import pytest
import sandbox_hostile as programs
from sandbox_support import BACKENDS, opened

from rewardkit_sandbox import Call, Limits, Program, Stdin

LIMITS = Limits(cpu_s=1, wall_s=3, memory_mb=256)


@pytest.fixture(scope="module", params=BACKENDS)
def box(request):
    with opened(request.param, slots=1, limits=LIMITS) as sandbox:
        yield sandbox


def texts(box, source, inputs, limits=None):
    return [(run.status, run.text) for run in box.run(Program(source), [Stdin(text) for text in inputs], limits).runs]


def test_cases_of_a_template_find_a_fresh_process(box):
    """Globals, modules, files, descriptors, random numbers and hooks of one case are not seen by the next; its stdin starts at 0."""
    source = (
        "import os, sys, math, random, threading\n"
        "print(input(), hasattr(math, 'left'), os.listdir('/tmp'), len(os.listdir('/proc/self/fd')), 'left' in globals(),"
        " threading.main_thread().native_id == os.getpid(), os.getsid(0) == os.getpid(), sys.argv, __name__, os.getcwd())\n"
        "left = math.left = 1\nopen('left', 'w').write('x')\nos.open('/tmp', 0)\nprint(random.random(), file=sys.stderr)\n"
    )
    runs = box.run(Program(source), [Stdin(f"{i}\n") for i in range(6)]).runs
    first = "False [] 4 False True True ['solution.py'] __main__ /tmp\n"
    assert [run.text for run in runs] == [f"{i} {first}" for i in range(6)]
    assert len({run.stderr for run in runs}) == 6


def test_each_case_has_its_own_verdict(box):
    """Exit codes, exceptions, time limits, floods, deaths and children left behind are those of their case alone."""
    source = (
        "import os, sys, time, subprocess\nx = input()\n"
        "if x == 'exit': sys.exit(3)\nif x == 'raise': raise KeyError(x)\nif x == 'loop':\n  while True: pass\nif x == 'sleep': time.sleep(60)\n"
        "if x == 'flood':\n  while True: os.write(1, b'x' * 65536)\nif x == 'kill': os.kill(os.getpid(), 9)\n"
        "if x == 'child' and os.fork() == 0:\n  time.sleep(60)\n"
        "if x == 'all':\n  try: os.kill(-1, 9)\n  except (ProcessLookupError, PermissionError): pass\n"
        "if x == 'parent':\n  try: os.kill(os.getppid(), 9)\n  except PermissionError: pass\n"
        "print(x, len([p for p in os.listdir('/proc') if p.isdigit() and os.stat('/proc/' + p + '/stat').st_uid == os.getuid()]))\n"
    )
    expected = {
        "a": ("ok", "a 1\n"),
        "exit": ("error", ""),
        "raise": ("error", ""),
        "loop": ("time_limit", ""),
        "sleep": ("time_limit", ""),
        "kill": ("killed", ""),
        "child": ("ok", "child 2\n"),
        "all": ("ok", "all 1\n"),
        "parent": ("ok", "parent 1\n"),
    }
    inputs = [name for each in expected for name in (each, "a")]
    assert texts(box, source, inputs) == [expected[name] for name in inputs]
    flooded = texts(box, source, ["a", "flood", "a", "a"], Limits(cpu_s=1, memory_mb=256, output_bytes=1000))
    assert [status for status, _ in flooded] == ["ok", "output_limit", "ok", "ok"]


@pytest.mark.parametrize("number", [9, 15, 19])
def test_a_case_that_ends_or_stops_the_next_template_changes_nothing(box, number):
    """The case itself and those after it have their verdicts: where it can reach the next template, that is not used."""
    source = (
        "import os\nx = input()\nif x == 'attack':\n  for p in range(os.getpid() + 1, os.getpid() + 4):\n"
        f"    try: os.kill(p, {number})\n    except OSError: pass\nprint(x)\n"
    )
    inputs = ["a", "attack", "a", "a", "a"]
    assert texts(box, source, inputs) == [("ok", f"{text}\n") for text in inputs]


def test_a_case_can_not_reach_a_template(box):
    """Its memory, descriptors, limits and priority are out of reach, and a sibling that the case makes is found and ended."""
    source = (
        "import os, resource, ctypes\nl = ctypes.CDLL(None, use_errno=True)\nb = ctypes.create_string_buffer(64)\n"
        "others = [p for p in range(2, os.getpid() + 5) if p != os.getpid()]\n"
        "for p in others:\n"
        "  for name in ('mem', 'maps', 'environ', 'fd', 'fd/3', 'stack', 'syscall', 'auxv', 'cwd/.', 'root/etc'):\n"
        "    for flags in (os.O_RDONLY, os.O_RDWR):\n      try: os.open(f'/proc/{p}/{name}', flags); print('IN', name)\n      except OSError: pass\n"
        "  for number in (101, 310, 311, 312):\n    if l.syscall(number, 16 if number == 101 else p, p, 1, b, 1, 0) == 0: print('IN', number)\n"
        "  try: os.open(f'/proc/{p}/oom_score_adj', os.O_RDWR); print('IN oom')\n  except OSError: pass\n"
        "  for what in (lambda: resource.prlimit(p, resource.RLIMIT_CPU, (1, 1)), lambda: os.setpriority(0, p, 5), lambda: os.sched_setaffinity(p, [0]),"
        " lambda: os.setpgid(p, p)):\n    try: what(); print('IN')\n    except OSError: pass\n"
        "pid = l.syscall(56, 0x8000 | 17, 0, 0, 0, 0)\n"
        "if pid == 0:\n  import time\n  time.sleep(60)\n"
        "print(sum(os.stat('/proc/' + p + '/stat').st_uid == os.getuid() for p in os.listdir('/proc') if p.isdigit()))\n"
    )
    assert texts(box, source, [""] * 5) == [("ok", "2\n")] * 5


def test_nothing_is_got_and_nothing_is_left_among_cases(box):
    """Hostile programs get nothing where a template makes their processes, and the next case sees nothing of them."""
    wrong = {}
    for name, source in programs.HOSTILE.items():
        # The next template, if there is one, belongs to root in /proc.
        look = programs.LOOK.replace(
            " seen,", " len(seen) <= 1, [p for p in seen if os.stat(f'/proc/{p}/stat').st_uid],"
        )
        both = f"source = {source!r} if input() == 'attack' else {look!r}\nexec(source)\n"
        runs = texts(box, both, ["look", "attack", "look", "look"])
        seen = [text for _, text in (runs[0], *runs[2:])]
        if "IN" in runs[1][1] or len(set(seen)) != 1 or not seen[0].startswith("[] [] 0.0 "):
            wrong[name] = runs
    assert not wrong


def test_a_program_that_can_not_be_compiled_says_so_in_each_case(box):
    """A syntax error is each case's own error, with its line."""
    runs = box.run(Program("x = 1\ny = = 2\n"), [Stdin("")] * 4).runs
    assert all(run.exit_code == 1 and b"y = = 2" in run.stderr and b"SyntaxError" in run.stderr for run in runs)


def test_early_stop_of_a_template(box):
    """After `stop` says so, nothing more is run, and the box serves the next program."""
    program, replaced = Program("print(input())"), box.pool.replaced
    for at in range(4):
        runs = box.run(program, [Stdin(f"{i}\n") for i in range(6)], stop=lambda index, run, at=at: index == at).runs
        assert [run.text for run in runs] == [f"{i}\n" if i <= at else "" for i in range(6)]
        assert [run.status for run in runs[at + 1 :]] == ["not_run"] * (5 - at)
    assert box.pool.replaced == replaced


def test_calls_of_a_template(box):
    """Calls and scripts may be mixed; values come back by case."""
    program = Program(
        "def f(x):\n    if x == 3: exit(0)\n    return [x]\nif __name__ == '__main__': print(f(int(input())))"
    )
    cases = [Call("f", (1,)), Stdin("2\n"), Call("f", (3,)), Call("f", (4,)), Call("g", ())]
    runs = box.run(program, cases).runs
    assert [run.status for run in runs] == ["ok", "ok", "error", "ok", "error"]
    assert (runs[0].value, runs[1].text, runs[3].value, runs[4].raised) == ([1], "[2]\n", [4], "NameError")


def test_without_templates_the_outcomes_are_the_same(box, monkeypatch):
    """Where the kernel lists no children, each case's process comes from the server, and its outcome is the same."""
    source = "x = int(input())\nprint(10 // x)"
    inputs = ["1", "0", "5", "2"]
    expected = texts(box, source, inputs)
    for each in box.pool._boxes:
        monkeypatch.setattr(each, "can_have_template", False)
    assert texts(box, source, inputs) == expected == [("ok", "10\n"), ("error", ""), ("ok", "2\n"), ("ok", "5\n")]
