"""Programs of our own against each backend: none gets what it is after, none harms who reads its answer, honest ones pass."""

import json
import os
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sandbox_hostile as programs
from hypothesis import given
from hypothesis import strategies as st
from sandbox_support import BACKENDS, opened

from rewardkit_sandbox import (
    Call,
    Execution,
    Limits,
    Program,
    Stdin,
    Tests,
    same_output,
    same_value,
    show,
    split_assertion,
)
from rewardkit_sandbox.host import shared_process
from rewardkit_sandbox.box import codec
from rewardkit_sandbox.host.case_runner import returned

LIMITS = Limits(cpu_s=1, wall_s=3, memory_mb=256)


@pytest.fixture(scope="module", params=BACKENDS)
def box(request):
    """One box, so that the next program is where the hostile one was."""
    with opened(request.param, slots=1, limits=LIMITS) as sandbox:
        yield sandbox


def run(box, source, stdin="", limits=None):
    return box.run(Program(source), [Stdin(stdin)], limits).runs[0]


@pytest.fixture
def listener(monkeypatch):
    """An abstract socket and an environment variable of the host's."""
    monkeypatch.setenv("RK_HOSTILE", "1")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0rk_hostile")
        server.listen()
        yield


def test_nothing_is_got_and_nothing_is_left(box, listener):
    """Privilege, network, leaks and persistence: no program gets in, and the next one in its box sees nothing of it."""
    clean = run(box, programs.LOOK).text
    assert clean.startswith("[] [] 0.0 ")
    wrong = {}
    for name, source in programs.HOSTILE.items():
        done = run(box, source)
        after = run(box, programs.LOOK)
        if "IN" in done.text or after.text != clean:
            wrong[name] = (done, after)
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_does_not_end_is_ended(backend):
    """Memory, processes, CPU, floods and faults end the program, in time, with a verdict about it, and never a pass."""
    workers = 4
    boxes = [opened(backend, slots=1, limits=LIMITS) for _ in range(workers)]

    def share(number):
        wrong = {}
        for name, (status, source) in list(programs.ENDED.items())[number::workers]:
            start = time.monotonic()
            limits = Limits(cpu_s=5, wall_s=30, memory_mb=256) if status == "memory_limit" else LIMITS
            done = run(boxes[number], source, limits=limits)
            right = not done.ok if status == "any" else done.status == status
            if not right or time.monotonic() - start > 60:
                wrong[name] = (status, done)
            after = run(
                boxes[number],
                "import os\nprint(os.listdir('/tmp'), len([p for p in os.listdir('/proc') if p.isdigit()]) <= 2)",
            )
            if after.text != "[] True\n":
                wrong[name + ", after it"] = after
        return wrong

    try:
        with ThreadPoolExecutor(workers) as executor:
            wrong = {name: why for found in executor.map(share, range(workers)) for name, why in found.items()}
    finally:
        for sandbox in boxes:
            sandbox.close()
    assert not wrong


@pytest.mark.parametrize("way", ["fresh", "shared", "unit_tests"])
def test_what_is_expected_is_nowhere(box, way):
    """A secret that a function should return can't be found in memory, objects, frames, files or descriptors, nor faked."""
    won = []
    for name, source in programs.SEARCHES.items():
        secret = "RKSECRET" + secrets.token_hex(8)
        if way == "unit_tests":
            passed = box.run_tests(Program(source), Tests(f"assert f(1) == {secret!r}")).passed
        else:
            runs = box.run(Program(source), [Call("f", (1,)), Call("f", (2,))], isolation=way).runs
            passed = any(done.ok and same_value(done.value, secret) for done in runs)
        if passed:
            won.append(name)
    assert not won
    assert not os.path.exists("/tmp/rk_pickled")


def test_answers_that_harm_their_reader(box):
    """Any answer of a program becomes a builtin value or a failure with a printable reason."""
    for name, line in programs.LINES.items():
        source = f"import os\nd = memoryview({line!r} + b'\\n')\nwhile d: d = d[os.write(3, d):]\ndef f(): os._exit(0)"
        start = time.process_time()
        done = box.run(Program(source), [Call("f")]).runs[0]
        assert not (done.ok and same_value(done.value, 5)), name
        for text in (done.note, done.raised or "", show(done.value)):
            assert text.isprintable() or set(text) <= set("\n\t"), name
            text.encode()
        assert time.process_time() - start < 5, name


def test_lies_of_a_shared_process(box):
    """A process's own report about its cases' output is never believed."""
    for name, lines in programs.SPANS.items():
        source = f"import os, json\nfor i, e in {lines}:\n  os.write(3, json.dumps({{'l': [i, {{'l': e}} if type(e) is list else e, 'exited', 0]}}).encode() + b'\\n')\nos._exit(0)"
        runs = box.run(Program(source), [Stdin("a"), Stdin("b")], isolation="shared").runs
        assert [run.stdout for run in runs] == [b"", b""], name


def test_conditions_that_would_take_for_ever(box):
    """The host's work on an answer is linear in its length."""
    for name, (test, value) in programs.HOST_WORK.items():
        source = f"import os\nd = memoryview(b'{{\"l\":[\"returned\",' + {value!r} + b']}}\\n')\nwhile d: d = d[os.write(3, d):]\nos._exit(0)"
        assertion = split_assertion(test)
        runs = box.run(Program(source), assertion.calls).runs
        start = time.process_time()
        assert not assertion.holds(runs), name
        assert time.process_time() - start < 5, name


def test_output_that_is_nearly_a_number(box):
    """Comparing floats takes no longer than the output is long, however many digits it has."""
    done = run(box, "print('1' * 900_000 + 'x')")
    start = time.process_time()
    assert not same_output(done.stdout, "1.5", float_tolerance=1e-6)
    assert time.process_time() - start < 5


def test_honest_programs(box):
    """Ordinary Python programs work in the sandbox and print the same."""
    wrong = {}
    for name, case in programs.HONEST.items():
        source, _, expected = case.rpartition("|")
        done = run(box, source, "1\n2\n3\n", Limits(cpu_s=3, wall_s=20, memory_mb=256))
        if not done.ok or done.text.rstrip("\n") != expected:
            wrong[name] = done
    assert not wrong


def test_every_run_has_its_own_chance(box):
    """`random` is seeded anew for each program, and hashes are the same for all."""
    source = "import random\nprint(random.random(), hash('a'))"
    first, second = (run(box, source).text.split() for _ in range(2))
    assert first[0] != second[0]
    assert first[1] == second[1]


def test_messages_are_printable():
    """Text for people has no control characters and no lone surrogates; letters of any language stay."""
    assert codec.printable("\x1b[2J\ud800é\n名") == "\ufffd[2J\ufffdé\n名"


TAGS = st.sampled_from(["l", "t", "s", "z", "d", "i", "f", "b", "c", "n", "r", "x"])
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(["returned", "raised", "0x1", "nan", "Decimal", "1E99"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TAGS, inner | st.lists(inner, max_size=4), max_size=2),
    max_leaves=12,
)  # fmt: skip


@given(
    TREES
    | st.tuples(st.sampled_from(["returned", "raised", "unencodable"]), TREES).map(lambda pair: {"l": list(pair)}),
    st.booleans(),
)
def test_any_answer_is_taken(tree, ended_well):
    """Any JSON answer becomes an execution with a printable note, never an exception."""
    execution = Execution("ok", exit_code=0) if ended_well else Execution("error", exit_code=1, note="exit code 1")
    done = returned(execution, json.dumps(tree).encode() + b"\n")
    assert done.ok is (done.note == "")
    assert not done.ok or ended_well
    done.note.encode()
    show(done.value).encode()
    assert not same_value(done.value, object())


@given(st.lists(TREES.map(json.dumps) | st.text(max_size=20), max_size=5))
def test_any_lines_of_a_shared_process_are_taken(lines):
    """For any output of a shared process, each case has a successful execution or none."""
    files = (os.memfd_create("stdout"), os.memfd_create("stderr"))
    try:
        runs = shared_process._read(
            "\n".join(lines).encode("utf-8", "surrogatepass"), files, 3, Execution("ok"), LIMITS
        )
    finally:
        for file in files:
            os.close(file)
    assert len(runs) == 3
    assert all(run is None or run.ok for run in runs)
