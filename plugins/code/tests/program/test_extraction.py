"""The program in a completion, however a model writes it."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rewardkit_code.program.extraction import blocks, program

from rewardkit import Rollout
from rewardkit.testing import hostile_rollouts

LINES = st.lists(
    st.text(
        st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    )
    .filter(lambda line: line.lstrip("\t -*+0123456789.)")[:3] not in ("```", "~~~") and "<" not in line)
    .map(str.rstrip),
    min_size=1,
    max_size=6,
).filter(lambda lines: any(line.strip() for line in lines))
TAGS = st.sampled_from(["python", "py", "python3", "Python", "PY", "{.python}", "python title=a.py", "py3"])
FENCES = st.sampled_from(["```", "~~~", "````", "~~~~~"])
PROSE = st.sampled_from(["", "Here it is.", "Let me `think`.\n\nSo:", "1. First", "> quoted", "no ``` fence here"])


@given(LINES, TAGS, FENCES, PROSE, PROSE, st.booleans(), st.booleans())
def test_what_stands_in_a_block_comes_out(lines, tag, fence, before, after, crlf, spaced):
    """Code comes out unchanged, whatever the fence, the tag, the prose around it and the line ends."""
    end = "\r\n" if crlf else "\n"
    text = end.join([before, f"{fence}{' ' * spaced}{tag}", *lines, fence, after])
    assert program(text, "python", "last") == "\n".join(lines) + "\n"


@given(LINES, st.sampled_from(["  ", "\t", "    ", "- ", "1. ", "12) "]), st.booleans())
def test_indentation_of_the_fence_is_taken_off(lines, indent, closed):
    """A block in a list, or indented as a whole, gives the code without the indentation, whether closed or cut off."""
    width = " " * len(indent) if indent.strip() else indent
    text = "\n".join(
        [f"{indent}```python", *(f"{width}{line}" if line else "" for line in lines), *([f"{width}```"] * closed)]
    )
    assert program(text, "python", "last") == "\n".join(lines) + "\n" * closed


@given(LINES, PROSE)
def test_a_block_that_is_not_closed_reaches_to_the_end(lines, before):
    """A truncated completion gives the code up to its end."""
    assert program("\n".join([before, "```python", *lines]), "python", "last") == "\n".join(lines)


@given(st.lists(st.tuples(st.sampled_from(["python", "py", "", "text", "js", "output"]), LINES), max_size=5))
def test_the_last_block_of_the_language_counts(written):
    """The last block without a language counts if none names the language."""
    text = "\n\n".join("\n".join([f"```{tag}", *lines, "```"]) for tag, lines in written)
    own = [lines for tag, lines in written if tag in ("python", "py")] or [lines for tag, lines in written if tag == ""]
    assert program(text, "python", "last") == ("\n".join(own[-1]) + "\n" if own else None)


@given(LINES, LINES)
def test_the_answer_comes_before_what_was_thought(thought, said):
    """A block in `<answer>` or after `</think>` goes before any other, even one that was left open in the reasoning."""
    open_block = "\n".join(["<think>", "```python", *thought])
    for text in (
        "\n".join([open_block, "</think>", "```python", *said, "```"]),
        "\n".join(
            [
                open_block,
                "```",
                "</think>",
                "<answer>",
                "```py",
                *said,
                "```",
                "</answer>",
                "```python",
                *thought,
                "```",
            ]
        ),
        "\n".join([open_block, "```", "</think>", "<answer>", *said, "</answer>"]),
    ):
        assert program(text, "python", "last").strip("\n") == "\n".join(said).strip("\n")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```python\na\n```python\nb\n```", "b\n"),
        ("```python\na\n\n```python\nb", "b"),
        (
            '```python\ndef f():\n    """\n    ```\n    f()\n    ```\n    """\n```',
            'def f():\n    """\n    ```\n    f()\n    ```\n    """\n',
        ),
        (
            '```python\nd = """\n     ```python\n     x\n     ```\n"""\n```',
            'd = """\n     ```python\n     x\n     ```\n"""\n',
        ),
        ("```python\nx = '```'\n```", "x = '```'\n"),
        ("Use ```x``` here\n```python\na\n```", "a\n"),
        ("```x``` is inline\n```python\na\n```", "a\n"),
        ("~~~python\n```\na\n~~~", "```\na\n"),
        ("```python\na\n~~~", "a\n~~~"),
        ("```python\na\n````", "a\n"),
        ("````python\n```\na\n````", "```\na\n"),
        ("```\npython\n```", "python\n"),
        ("<answer>x = 1</answer> or <answer>x = 2", "x = 2"),
        ("<answer>\n    return 1\n</answer>", "    return 1"),
        ("<answer>see above</answer>", "see above"),
        ("```python\nprint('</think>')\n```", "print('</think>')\n"),
        ("<answer> \n</answer>\n```python\na\n```", "a\n"),
        ("<answer>```python\na\n```</answer>", "a\n"),
        ("</think>```python\na\n```", "a\n"),
        ("```python\n \n```", None),
        ("```python", None),
        ("```", None),
        ("", None),
    ],
)
def test_by_hand(text, found):
    """The program is the one that a person would take."""
    assert program(text, "python", "last") == found


@pytest.mark.parametrize(
    ("language", "tags"),
    [("cpp", ["cpp", "C++", "cc"]), ("c", ["c", "C"]), ("javascript", ["js", "javascript", "node"]), ("go", ["go", "golang"]),
     ("rust", ["rust", "rs"]), ("bash", ["bash", "sh", "shell"])],
)  # fmt: skip
def test_languages(language, tags):
    """Each language has its usual names, and none of another language."""
    for tag in tags:
        assert program(f"```{tag}\nx\n```", language, "last") == "x\n"
        assert program(f"```{tag}\nx\n```", "python", "last") is None


@given(st.text(alphabet="`~ \n\tpython<>/answerthink-1.", max_size=200))
def test_anything_can_be_read(text):
    """No text raises an exception, and no program is empty."""
    for mode in ("last", "whole"):
        found = program(text, "python", mode)
        assert found is None or found.strip()
    assert all("\n" not in tag for tag, _ in blocks(text))


def test_long_texts_take_no_long_time():
    """Work is linear: a megabyte of fences, of white space, of tags takes seconds, where a quadratic reader would take hours."""
    texts = [rollout.completion_text for _, rollout in hostile_rollouts(Rollout("", ""))]
    texts += [
        unit * (1_000_000 // len(unit))
        for unit in ("```\n", "```python\n", " ", "\t\n", "~", "`", "<answer>", "1. ", "- ```\n")
    ]
    began = time.process_time()
    for text, language in itertools.product(texts, ("python", "cpp")):
        program(text, language, "last")
    assert time.process_time() - began < 60


ADD = "def add(a, b):\n    return a + b\n"


def fenced(*codes):
    """A completion with these Python blocks."""
    return "".join(f"Some words.\n```python\n{code}```\n" for code in codes)


@pytest.mark.parametrize(
    ("codes", "names", "expected"),
    [
        ([ADD, "print(add(1, 2))\n"], ["add"], ADD),
        ([ADD, "add(1, 2)  # 3\n"], ["add"], ADD),
        ([ADD.replace("+", "-"), ADD], ["add"], ADD),
        (["class Solution:\n    def add(self): pass\n", "x = 1\n"], ["add"], "class Solution:\n    def add(self): pass\n"),
        (["add = lambda a, b: a + b\n", "x = 1\n"], ["add"], "add = lambda a, b: a + b\n"),
        (["class Solution:\n    def f(self): pass\n", "x = 1\n"], ["Solution.f"], "class Solution:\n    def f(self): pass\n"),
        (["x = 1\n", "y = 2\n"], ["add"], "y = 2\n"),
        (["x = 1\n", "y = 2\n"], [], "y = 2\n"),
        (["def h(x):\n    return x\n", "def f(x):\n    return h(x)\n"], ["f"], "def h(x):\n    return x\n\ndef f(x):\n    return h(x)\n"),
        (["import math\n", "def f(x):\n    return math.pi\n"], ["f"], "import math\n\ndef f(x):\n    return math.pi\n"),
        (["MOD = 7\n", "def f(x):\n    return x % MOD\n"], ["f"], "MOD = 7\n\ndef f(x):\n    return x % MOD\n"),
        (["def h(x):\n    return x\n", "def f(x):\n    return x.h(x)\n"], ["f"], "def f(x):\n    return x.h(x)\n"),
    ],
)  # fmt: skip
def test_the_block_that_defines_what_is_tested(codes, names, expected):
    """`defining` takes the last block that defines a tested name, after earlier blocks that define what it uses."""
    assert program(fenced(*codes), "python", "defining", names) == expected


def test_a_script_is_the_last_block_that_reads_input():
    """Without names, a block that only shows a result does not count, and neither does an earlier version of the same function."""
    reading = "def solve():\n    print(input())\nsolve()\n"
    assert program(fenced(reading, "print(3)\n"), "python", "defining", reads_input=True) == reading
    assert program(fenced("print(4)\n", "print(3)\n"), "python", "defining", reads_input=True) == "print(3)\n"
    assert program(fenced("def solve():\n    pass\n", reading), "python", "defining", reads_input=True) == reading


def test_first_and_last():
    """`first` and `last` take the block as it is, whatever it defines."""
    text = fenced("import math\n", ADD, "print(math.pi)\n")
    assert program(text, "python", "first", ["add"]) == "import math\n"
    assert program(text, "python", "last", ["add"]) == "print(math.pi)\n"


@pytest.mark.parametrize(
    "text",
    [
        f"<code>\n{ADD}</code>",
        f'<code language="python">\n{ADD}</code>',
        f"So:\n[PYTHON]\n{ADD}[/PYTHON]\nDone.",
        f"[BEGIN]\n{ADD}[DONE]",
        f"<answer><code>\n{ADD}</code></answer>",
    ],
)
def test_tags_instead_of_fences(text):
    """Code tags count where there are no fences."""
    assert program(text, "python", "last") == ADD


def test_a_completion_that_is_nothing_but_code():
    """Text without fences is a program if it begins with code and defines the tested name; prose and inline code are not."""
    assert program(ADD, "python", "defining", ["add"]) == ADD
    assert program(f"import math\n{ADD}", "python", "defining", ["add"]) == f"import math\n{ADD}"
    assert program(ADD, "python", "defining", ["sub"]) is None
    assert program(ADD, "python", "last", ["add"]) is None
    assert program(f"Simply write\n{ADD}", "python", "defining", ["add"]) is None
    assert program("`def add(a, b): return a + b`", "python", "defining", ["add"]) is None
