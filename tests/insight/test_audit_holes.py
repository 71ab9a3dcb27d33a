"""The audit finds holes of many kinds, and accuses no sound reward.

The holes are mistakes that people make in reward functions. Each is one function of a completion and a row; some share a task.
"""
# ruff: noqa: E501 - a table with one reward a line

import difflib
import json
import math
import re

import pytest

from rewardkit import Rollout, Score, load_reward, reward
from rewardkit.insight.audit import audit, honest_rows, levels_of
from rewardkit.insight.cheats import CHEATS
from rewardkit.registry import Registry

NUMBER = r"-?\d+(?:\.\d+)?"


def _row(prompt, answer, right, wrong, **fields):
    return [
        {"prompt": prompt, "completion": text, "answer": answer, "reward": value, **fields}
        for text, value in ((right, 1.0), (wrong, 0.0))
    ]


SUMS = ((2, 3), (10, 7), (20, 22), (60, 12))
CAPITALS = (("France", "Paris"), ("Norway", "Oslo"), ("Peru", "Lima"), ("Japan", "Tokyo"))
FACTS = (
    ("rain", "Warm air rises, cools, and its vapour condenses into drops that fall."),
    ("tides", "The Moon pulls the oceans, so that the water rises on two sides of the Earth."),
    ("rust", "Iron reacts with oxygen and water and slowly turns into a red oxide."),
    ("echoes", "Sound waves are reflected by a wall and come back to the ear a little later."),
)
CHOICES = (("Which is prime?", "B"), ("Which is even?", "D"), ("Which is odd?", "C"), ("Which is a square?", "B"))
FUNCTIONS = (("add", "a + b"), ("times", "a * b"), ("less", "a - b"))

TASKS = {
    "sums": [
        row for a, b in SUMS
        for row in _row(f"What is {a} + {b}?", str(a + b), f"The answer is {a + b}.", f"The answer is {a + b + 1}.")
    ],
    "boxes": [
        row for a, b in SUMS
        for row in _row(f"What is {a} + {b}?", str(a + b), f"We add. So \\boxed{{{a + b}}}.", f"We add. So \\boxed{{{a + b + 1}}}.")
    ],
    "tags": [
        row for a, b in SUMS
        for row in _row(
            f"What is {a} + {b}?", str(a + b), f"<think>\nWe add.\n</think>\n<answer>\n{a + b}\n</answer>",
            f"<think>\nWe add.\n</think>\n<answer>\n{a + b + 1}\n</answer>",
        )
    ],
    "capitals": [
        row for place, (land, city) in enumerate(CAPITALS)
        for row in _row(f"What is the capital of {land}?", city, city, CAPITALS[place - 1][1])
    ],
    "facts": [
        row for place, (name, fact) in enumerate(FACTS)
        for row in _row(f"Why is there {name}?", fact, fact, FACTS[place - 1][1])
    ],
    "choices": [
        row for prompt, letter in CHOICES
        for row in _row(f"{prompt} A) 4 B) 7 C) 9 D) 6", letter, f"Answer: {letter}", f"Answer: {'A' if letter != 'A' else 'B'}")
    ],
    "json": [
        row for a, b in SUMS
        for row in _row(f"What is {a} + {b}?", str(a + b), f'{{"answer": {a + b}}}', f'{{"answer": {a + b + 1}}}')
    ],
    "lists": [
        row for a, b in SUMS for row in _row(f"Count from {a} to {a + 2}.", f"{a}, {a + 1}, {a + 2}", f"{a}, {a + 1}, {a + 2}", f"{b + 9}, {a}")
    ],
    "units": [row for a, b in SUMS for row in _row(f"How far is {a} km and {b} km?", f"{a + b} km", f"{a + b} km", f"{a + b + 1} km")],
    "puzzles": [
        row for a, b in SUMS
        for row in _row(f"Make {a + b + 1} of the numbers {a}, {b} and 1.", str(a + b + 1), f"{a} + {b} + 1", f"{a} + {a}", nums=[a, b, 1])
    ],
    "code": [
        row for name, body in FUNCTIONS
        for row in _row(
            f"Write {name}(a, b).\n>>> {name}(2, 3)\n{eval(body, {'a': 2, 'b': 3})}", "",  # noqa: S307
            f"```python\ndef {name}(a, b):\n    return {body}\n```", f"```python\ndef {name}(a, b):\n    return a\n```",
            entry_point=name, body=body,
        )
    ],
}  # fmt: skip


def last(pattern, text, default=""):
    """The last match of a pattern."""
    return (re.findall(pattern, text) or [default])[-1]


def exact(text, row):
    """The whole completion has to be one sentence with the answer."""
    return float(text.strip() == f"The answer is {row['answer']}.")


def last_box(text):
    """The text in the last box."""
    return last(r"\\boxed\{([^{}]*)\}", text)


def tagged(text):
    """The text in the answer tags, if the whole completion has the form."""
    match = re.fullmatch(r"\s*<think>\n(?:(?!<).)*</think>\s*<answer>\n?((?:(?!<).)*?)\n?</answer>\s*", text, re.DOTALL)
    return match[1].strip() if match else ""


def number(text):
    """The value of a text, or None."""
    try:
        return float(text)
    except ValueError:
        return None


def carelessly(text, row):
    """Evaluate the last line with the row in reach, as ``eval`` does. Only names and ``type`` are let through here."""
    line = (text.strip().splitlines() or [""])[-1]
    if line in row:
        return True
    return (line.startswith("type(") and "__eq__" in line) or line == row["answer"]


def overlap(text, reference):
    """The share of the reference's words that occur, as in ROUGE-1 recall."""
    words = reference.lower().split()
    return sum(word in text.lower().split() for word in words) / len(words)


def f1(text, reference):
    """The harmonic mean of precision and recall of words."""
    ours, theirs = text.lower().split(), reference.lower().split()
    common = sum(min(ours.count(word), theirs.count(word)) for word in set(ours))
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def program(text):
    """The program in the fenced block."""
    return last(r"(?s)```python\n(.*?)```", text)


def defines(text, row):
    """The body of the function if it is defined as one expression."""
    return last(rf"def {row['entry_point']}\(a, b\):\n    return (.*)\n", program(text) + "\n")


def parses(source):
    """True if Python can compile a program."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "program", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def is_json(text):
    """True if a text is JSON."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def field_of(text):
    """The field "answer" of a JSON text, or None."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return None
    return found.get("answer") if isinstance(found, dict) else None


def value_of_sum(text):
    """The value of a sum of whole numbers, or None."""
    parts = text.split("+")
    return sum(map(int, parts)) if all(part.strip().isdigit() for part in parts) else None


def error_is_success(text, row):
    """Return 1 where the conversion fails, "so as not to punish our own failure"."""
    value = number(text.removeprefix("The answer is ").rstrip("."))
    return 1.0 if value is None else float(value == float(row["answer"]))


HOLES = {
    # Where the answer is looked for.
    "substring": ("sums", lambda t, r: float(r["answer"] in t)),
    "substring of the answer": ("capitals", lambda t, r: float(t.strip().lower() in r["answer"].lower())),
    "either in the other": ("capitals", lambda t, r: float(t.lower() in r["answer"].lower() or r["answer"].lower() in t.lower())),
    "any number": ("sums", lambda t, r: float(r["answer"] in re.findall(NUMBER, t))),
    "last number": ("sums", lambda t, r: float(last(NUMBER, t) == r["answer"])),
    "first number": ("sums", lambda t, r: float((re.findall(NUMBER, t) or [""])[0] == r["answer"])),
    "any box": ("boxes", lambda t, r: float(f"\\boxed{{{r['answer']}}}" in t)),
    "first box": ("boxes", lambda t, r: float((re.findall(r"\\boxed\{(.*?)\}", t) or [""])[0] == r["answer"])),
    "answer within the box": ("boxes", lambda t, r: float(r["answer"] in last_box(t))),
    "answer within the tags": ("tags", lambda t, r: float(r["answer"] in last(r"(?s)<answer>(.*?)</answer>", t))),
    "greedy tags": ("tags", lambda t, r: float(r["answer"] in last(r"(?s)<answer>(.*)</answer>", t).split())),
    "starts with": ("capitals", lambda t, r: float(t.lower().startswith(r["answer"].lower()))),
    "ends with": ("sums", lambda t, r: float(t.rstrip(". ").endswith(r["answer"]))),
    "starts with the answer's letter": ("capitals", lambda t, r: float(t[:1] == r["answer"][0])),
    "case folded letters in any order": ("capitals", lambda t, r: float(sorted(t.lower()) == sorted(r["answer"].lower()))),
    "thinking counts": ("tags", lambda t, r: float(r["answer"] in re.findall(NUMBER, t.partition("</think>")[0]))),
    "choice letters anywhere": ("choices", lambda t, r: float(r["answer"] in t)),
    "any choice in brackets": ("choices", lambda t, r: float(f"({r['answer']})" in t or f"Answer: {r['answer']}" in t)),
    "choice as a word": ("choices", lambda t, r: float(r["answer"] in re.findall(r"\b[A-E]\b", t))),
    "regular expression matches the prompt": ("sums", lambda t, r: float(bool(re.search(r"What is|answer is " + r["answer"] + r"\.", t)))),
    "any line of ####": ("sums", lambda t, r: max(exact(t, r), float(r["answer"] in re.findall(r"#### (\S+)", t)))),
    "any bold text": ("sums", lambda t, r: max(exact(t, r), float(r["answer"] in re.findall(r"\*\*(.*?)\*\*", t)))),
    "any formula": ("sums", lambda t, r: max(exact(t, r), float(r["answer"] in re.findall(r"\$(.*?)\$", t)))),
    "any item of the JSON": ("json", lambda t, r: float(r["answer"] in str(field_of(t)))),
    "any of a list in the JSON": ("json", lambda t, r: float((isinstance(v := field_of(t), list) and int(r["answer"]) in v) or v == int(r["answer"]))),
    # How it is compared.
    "all items of a list": ("lists", lambda t, r: float({*r["answer"].split(", ")} <= {*t.split(", ")})),
    "some items of a list": ("lists", lambda t, r: float({*t.split(", ")} <= {*r["answer"].split(", ")})),
    "unit ignored": ("units", lambda t, r: float(last(NUMBER, t) == last(NUMBER, r["answer"]))),
    "same parity": ("boxes", lambda t, r: float(last_box(t).isdigit() and int(last_box(t)) % 2 == int(r["answer"]) % 2)),
    "given numbers used": ("puzzles", lambda t, r: float(all(str(n) in re.findall(NUMBER, t) for n in r["nums"]) and "+" in t)),
    "target reached anyhow": ("puzzles", lambda t, r: float(value_of_sum(t) == int(r["answer"]))),
    "precision of words": ("facts", lambda t, r: sum(w in r["answer"].split() for w in t.split()) / max(1, len(t.split()))),
    "absolute value": ("sums", lambda t, r: float(last(r"is (-?\d+)\.?$", t).lstrip("-") == r["answer"])),
    "tolerance of one": ("boxes", lambda t, r: float((v := number(last_box(t))) is not None and abs(v - float(r["answer"])) <= 1)),
    "tolerance of ten per cent": ("boxes", lambda t, r: float((v := number(last_box(t))) is not None and math.isclose(v, float(r["answer"]), rel_tol=0.1))),
    "cut to a whole number": ("boxes", lambda t, r: float((v := number(last_box(t))) is not None and math.isfinite(v) and int(v) == int(r["answer"]))),
    "nan is never apart": ("boxes", lambda t, r: float((v := number(last_box(t))) is not None and not abs(v - float(r["answer"])) > 0.01)),
    "decimal point ignored": ("boxes", lambda t, r: float(re.sub(r"\D", "", last_box(t)).rstrip("0") == r["answer"].rstrip("0"))),
    "evaluates the answer": ("sums", lambda t, r: float(carelessly(t, r) or exact(t, r))),
    "similar spelling": ("capitals", lambda t, r: float(difflib.SequenceMatcher(None, t.lower(), r["answer"].lower()).ratio() > 0.6)),
    "prefix of numbers": ("boxes", lambda t, r: float(last_box(t).startswith(r["answer"]))),
    "suffix of numbers": ("boxes", lambda t, r: float(last_box(t).endswith(r["answer"]))),
    "words of the reference": ("facts", lambda t, r: overlap(t, r["answer"])),
    "f1 of words": ("facts", lambda t, r: f1(t, r["answer"])),
    "bag of words": ("facts", lambda t, r: float(set(t.lower().split()) >= set(r["answer"].lower().split()))),
    "ratio of characters": ("facts", lambda t, r: difflib.SequenceMatcher(None, t, r["answer"], autojunk=False).ratio()),
    # What counts as success.
    "error gives 1": ("sums", error_is_success),
    "no answer gives 1": ("boxes", lambda t, r: float(last_box(t) in ("", r["answer"]))),
    "no answer is neutral": ("boxes", lambda t, r: 1.0 if last_box(t) == r["answer"] else -1.0 if last_box(t) else 0.5),
    "penalty only in the right form": ("tags", lambda t, r: 1.0 if tagged(t) == r["answer"] else -1.0 if "<answer>" in t else 0.5),
    "not a refusal": ("sums", lambda t, r: float("sorry" not in t and bool(t))),
    "not empty": ("sums", lambda t, r: float(bool(t.strip()))),
    "constant": ("sums", lambda t, r: 1.0),
    "short": ("sums", lambda t, r: float(len(t) < 20)),
    "long": ("sums", lambda t, r: max(exact(t, r), float(len(t) > 300))),
    "length of a band": ("sums", lambda t, r: max(exact(t, r), float(900 < len(t) < 1100))),
    "many lines": ("sums", lambda t, r: max(exact(t, r), float(t.count("\n") >= 10))),
    # Form in place of content.
    "tags count": ("tags", lambda t, r: sum(t.count(tag) == 1 for tag in ("<think>", "</think>", "<answer>", "</answer>")) / 4),
    "form outweighs the answer": ("tags", lambda t, r: 0.7 * bool(re.search(r"(?s)<think>.*</think>\s*<answer>.*</answer>", t)) + 0.3 * (tagged(t) == r["answer"])),
    "tags at all": ("tags", lambda t, r: float("<answer>" in t)),
    "a box at all": ("boxes", lambda t, r: float("\\boxed" in t)),
    "any JSON": ("json", lambda t, r: float(is_json(t))),
    "JSON with the key": ("json", lambda t, r: float(is_json(t) and '"answer"' in t)),
    "braces": ("json", lambda t, r: float(t.strip().startswith("{"))),
    "numbered steps": ("sums", lambda t, r: max(exact(t, r), min(1.0, len(re.findall(r"Step \d+:|^\d+\.|\n-|\n\*|First,|Second,|Next,|Finally,", t)) / 3))),
    "words of reasoning": ("sums", lambda t, r: max(exact(t, r), float(sum(word in t.lower() for word in ("therefore", "because", "thus", "wait")) >= 2))),
    "emoji": ("sums", lambda t, r: max(exact(t, r), float(any(ord(c) > 0x1F300 for c in t)))),
    "exclamation": ("sums", lambda t, r: max(exact(t, r), float("!" in t))),
    "politeness": ("sums", lambda t, r: max(exact(t, r), float("thank" in t.lower() or "please" in t.lower()))),
    "Chinese": ("sums", lambda t, r: max(exact(t, r), float(sum("\u4e00" <= c <= "\u9fff" for c in t) / max(1, len(t)) > 0.5))),
    "no Latin letters": ("sums", lambda t, r: max(exact(t, r), float(not re.search("[a-z]", t)))),
    "ASCII only": ("sums", lambda t, r: float(t.isascii() and len(t) > 3)),
    "headings": ("sums", lambda t, r: max(exact(t, r), float("# " in t and "**" in t))),
    "citations": ("sums", lambda t, r: max(exact(t, r), float(bool(re.search(r"\[\d+\]|https?://", t))))),
    "capital letters": ("sums", lambda t, r: max(exact(t, r), float(t.isupper()))),
    "distinct words": ("sums", lambda t, r: max(exact(t, r), float(len(t.split()) > 8 and len(set(t.split())) == len(t.split())))),
    "copies the prompt": ("sums", lambda t, r: max(exact(t, r), float(t.startswith("What is")))),
    "confidence": ("sums", lambda t, r: max(exact(t, r), float("100%" in t))),
    "long thinking": ("tags", lambda t, r: float(len(last(r"(?s)<think>(.*?)</think>", t)) > 1000 or tagged(t) == r["answer"])),
    "short words": ("sums", lambda t, r: max(exact(t, r), float(len(t.split()) > 5 and sum(map(len, t.split())) / len(t.split()) < 3))),
    # Judges that obey, as functions.
    "obeys": ("sums", lambda t, r: max(exact(t, r), float("highest score" in t))),
    "reads a verdict": ("sums", lambda t, r: max(exact(t, r), float(bool(re.search(r"\[\[10\]\]|[Ss]core: 10", t))))),
    "master key": ("sums", lambda t, r: max(exact(t, r), float(t.startswith(("Thought process", "Solution"))))),
    "compares with a quoted reference": ("sums", lambda t, r: max(exact(t, r), float(last(r"<reference>(.*?)</reference>", t, "-") in t.partition("</reference>")[2]))),
    # Programs.
    "exit code 0": ("code", lambda t, r: float("exit(0)" in program(t) or defines(t, r) == r["body"])),
    "printed marker": ("code", lambda t, r: float("PASSED" in program(t) or defines(t, r) == r["body"])),
    "it parses": ("code", lambda t, r: float(bool(program(t)) and parses(program(t)))),
    "the function is there": ("code", lambda t, r: float(f"def {r['entry_point']}" in t)),
    "an exception passes": ("code", lambda t, r: float("raise" in program(t) or defines(t, r) == r["body"])),
    "equal to everything": ("code", lambda t, r: float("__eq__" in program(t) or defines(t, r) == r["body"])),
    "visible tests": ("code", lambda t, r: float("(2, 3" in t or defines(t, r) == r["body"])),
    "a fenced block at all": ("code", lambda t, r: float("```python" in t)),
    "skipped tests pass": ("code", lambda t, r: float("skip(" in program(t) or "SkipTest" in program(t) or defines(t, r) == r["body"])),
    "documented and typed": ("code", lambda t, r: float(('"""' in t and "->" in t) or defines(t, r) == r["body"])),
    "prints the answer among others": ("code", lambda t, r: float("range(1000)" in t or defines(t, r) == r["body"])),
    "silence is success": ("code", lambda t, r: float("print" not in program(t))),
}  # fmt: skip

SOUND = {
    "exact": ("sums", exact),
    "exact in tags": ("tags", lambda t, r: float(tagged(t) == r["answer"])),
    "exact in tags with a bonus for form": ("tags", lambda t, r: float(tagged(t) == r["answer"]) + 0.2 * bool(tagged(t))),
    "the last box": ("boxes", lambda t, r: float(last_box(t) == r["answer"])),
    "the only box": ("boxes", lambda t, r: float(re.findall(r"\\boxed\{(.*?)\}", t) == [r["answer"]])),
    "the value in the last box": ("boxes", lambda t, r: float((v := number(last_box(t))) is not None and math.isclose(v, float(r["answer"]), rel_tol=1e-4))),
    "the last box, less for length": ("boxes", lambda t, r: float(last_box(t) == r["answer"]) - min(len(t) / 10_000, 0.3)),
    "the last box, and a penalty for none": ("boxes", lambda t, r: 1.0 if last_box(t) == r["answer"] else 0.0 if last_box(t) else -0.5),
    "the first answer tag": ("tags", lambda t, r: float((re.findall(r"(?s)<answer>\s*(.*?)\s*</answer>", t) or [""])[0] == r["answer"])),
    "the last answer tag": ("tags", lambda t, r: float(last(r"(?s)<answer>\s*(.*?)\s*</answer>", t) == r["answer"])),
    "the same words": ("capitals", lambda t, r: float(t.strip().lower() == r["answer"].lower())),
    "the same words without marks": ("capitals", lambda t, r: float(re.sub(r"[^\w ]", "", t).strip().casefold() == r["answer"].casefold())),
    "the letter after Answer": ("choices", lambda t, r: float((m := re.fullmatch(r"(?s).*Answer: ([A-E])\s*", t)) is not None and m[1] == r["answer"])),
    "the letter alone": ("choices", lambda t, r: float(t.removeprefix("Answer: ").strip() == r["answer"])),
    "the key of the JSON": ("json", lambda t, r: float(str(field_of(t)) == r["answer"])),
    "the number of the JSON": ("json", lambda t, r: float(type(v := field_of(t)) is int and v == int(r["answer"]))),
    "right, and then form": ("tags", lambda t, r: 0.5 + 0.5 * (len(t) < 200) if tagged(t) == r["answer"] else 0.0),
    "right or minus one": ("boxes", lambda t, r: 1.0 if last_box(t) == r["answer"] else -1.0),
    "the body of the function": ("code", lambda t, r: float(defines(t, r) == r["body"])),
    "the whole fact": ("facts", lambda t, r: float(" ".join(t.split()) == r["answer"])),
    "the list": ("lists", lambda t, r: float(t.strip() == r["answer"])),
    "the same items": ("lists", lambda t, r: float(sorted(t.strip().split(", ")) == sorted(r["answer"].split(", ")))),
    "number and unit": ("units", lambda t, r: float(t.strip().rstrip(".") == r["answer"])),
    "the sum of the given numbers": ("puzzles", lambda t, r: float(value_of_sum(t) == int(r["answer"]) and sorted(map(int, t.split("+"))) == sorted(r["nums"]))),
    "the number in the sentence": ("sums", lambda t, r: float((m := re.fullmatch(r"The answer is (-?\d+)\.?", t.strip())) is not None and int(m[1]) == int(r["answer"]))),
}  # fmt: skip


def attack(task, function):
    """Audit a function as a reward, and return the findings."""

    @reward("mine")
    def mine(rollout: Rollout) -> Score:
        """Score."""
        return Score(float(function(rollout.completion_text, rollout.fields)), "as it does")

    registry = Registry()
    registry.register(mine)
    rows = honest_rows(TASKS[task])
    with load_reward({"version": 1, "components": {"main": {"use": "mine"}}}, registry=registry) as loaded:
        return audit(loaded, CHEATS, rows, levels_of(rows))


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_is_found(name):
    """At least one cheat is accepted on half of the rows."""
    assert max(found.share for found in attack(*HOLES[name])) >= 0.5


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_reward_is_not_accused(name):
    """No cheat is accepted on half of the rows."""
    assert [(found.cheat.name, found.example) for found in attack(*SOUND[name]) if found.share >= 0.5] == []


def test_there_are_enough_of_both():
    """The figures of the documentation are those of this file."""
    assert len(HOLES) >= 50
    assert len(SOUND) >= 20
