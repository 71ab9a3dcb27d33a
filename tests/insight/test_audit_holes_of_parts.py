"""The audit finds rewards that check a part of an answer, and accuses no sound reward of the same tasks.

The holes are mistakes that people make where answers are calls, dates, labels, lists, queries or moves. Each is one function of a
completion and a row, as in ``test_audit_holes``.
"""
# ruff: noqa: E501 - a table with one reward a line

import collections
import json
import math
import re

import pytest

from tests.insight.test_audit_holes import (
    NUMBER,
    SUMS,
    TASKS,
    _row,
    attack,
    defines,
    exact,
    last,
    last_box,
    number,
    program,
)

CALLS = (("add", 2, 3), ("times", 4, 5), ("less", 9, 1), ("power", 2, 8))
DATES = (
    ("2024-03-05", "2019-07-11"),
    ("1969-07-20", "1970-01-01"),
    ("2001-11-30", "1999-12-24"),
    ("1815-06-18", "1914-08-01"),
)
DECIMALS = (("3.5", "4.1"), ("12.25", "9.75"), ("0.75", "0.2"), ("7.125", "6.5"))
LABELS = (
    ("Great film", "positive", "negative"),
    ("Dull film", "negative", "positive"),
    ("It runs 90 minutes", "neutral", "positive"),
    ("I loved it", "positive", "neutral"),
)
MANY = (
    ("prime? A) 4 B) 7 C) 11 D) 6", "B, C", "A, D"),
    ("even? A) 4 B) 7 C) 9 D) 6", "A, D", "B, C"),
    ("odd? A) 5 B) 8 C) 9 D) 2", "A, C", "B, D"),
    ("squares? A) 4 B) 9 C) 3 D) 8", "A, B", "C, D"),
)
VERDICTS = (("Is 7 prime?", "yes"), ("Is 8 prime?", "no"), ("Is 9 a square?", "yes"), ("Is 5 even?", "no"))
QUERIES = (
    ("SELECT name FROM users WHERE age > 30", "SELECT age FROM users"),
    ("SELECT id FROM orders WHERE total < 5", "DELETE FROM orders"),
    ("SELECT title FROM books WHERE year = 1999", "SELECT title FROM books"),
)
MOVES = (("e4", "d5"), ("Nf3", "h4"), ("Qxd5", "a3"), ("O-O", "Kf1"))


def call(name, a, b):
    """A call of a tool, as JSON."""
    return json.dumps({"name": name, "arguments": {"a": a, "b": b}})


OWN_TASKS = {
    "calls": [
        row for place, (name, a, b) in enumerate(CALLS)
        for row in _row(f"Call {name} with {a} and {b}.", call(name, a, b), call(name, a, b), call(CALLS[place - 1][0], a, b))
    ],
    "dates": [row for right, wrong in DATES for row in _row("When was it?", right, f"It was on {right}.", f"It was on {wrong}.")],
    "decimals": [row for right, wrong in DECIMALS for row in _row("Compute it.", right, right, wrong)],
    "labels": [row for text, right, wrong in LABELS for row in _row(f"Classify: {text}", right, f"Label: {right}", f"Label: {wrong}")],
    "many": [row for text, right, wrong in MANY for row in _row(f"Which are {text}", right, right, wrong)],
    "yes": [row for text, right in VERDICTS for row in _row(text, right, right, {"yes": "no", "no": "yes"}[right])],
    "sql": [row for right, wrong in QUERIES for row in _row("Write the query.", right, right, wrong)],
    "equations": [
        row for a, b in SUMS for row in _row(f"What is {a} + {b}?", str(a + b), f"{a} + {b} = {a + b}", f"{a} + {b} = {a + b + 1}")
    ],
    "moves": [row for right, wrong in MOVES for row in _row("The best move?", right, f"<move>{right}</move>", f"<move>{wrong}</move>")],
}  # fmt: skip
EQUATION = r"(\d+) \+ (\d+) = (\d+)"


def obj(text):
    """The JSON object that a text is, or an empty one."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def wanted(row):
    """The call that is right."""
    return json.loads(row["answer"])


def ints(text):
    """All whole numbers of a text."""
    return list(map(int, re.findall(r"\d+", text)))


def arguments(text):
    """The arguments of a call."""
    found = obj(text).get("arguments")
    return found if isinstance(found, dict) else {}


def true_equations(text):
    """For each equation of a text whether it is true."""
    return [int(a) + int(b) == int(c) for a, b, c in re.findall(EQUATION, text)]


def in_labels(text):
    """How often each label occurs."""
    return {label: text.count(label) for label in ("positive", "negative", "neutral")}


def cosine(one, other):
    """The cosine of the counts of letters."""
    x, y = collections.Counter(one.lower()), collections.Counter(other.lower())
    norm = math.sqrt(sum(v * v for v in x.values()) * sum(v * v for v in y.values()))
    return sum(count * y[letter] for letter, count in x.items()) / norm if norm else 0.0


def close(text, row, *factors):
    """Whether a number is the right one times one of some factors."""
    value = number(text.strip())
    return value is not None and any(
        math.isclose(value, float(row["answer"]) * factor, rel_tol=1e-6) for factor in factors
    )


HOLES = {
    "name of the call only": ("calls", lambda t, r: float(obj(t).get("name") == wanted(r)["name"])),
    "keys of the call only": ("calls", lambda t, r: float(set(obj(t)) == {"name", "arguments"} and set(arguments(t)) == {"a", "b"})),
    "arguments of the call only": ("calls", lambda t, r: float(arguments(t) == wanted(r)["arguments"])),
    "arguments among others": ("calls", lambda t, r: float(obj(t).get("name") == wanted(r)["name"] and all(arguments(t).get(k) == v for k, v in wanted(r)["arguments"].items()))),
    "year only": ("dates", lambda t, r: float(t.startswith("It was on") and (re.findall(r"\d{4}", t) or [""])[0] == r["answer"][:4])),
    "day ignored": ("dates", lambda t, r: float(last(r"\d{4}-\d\d", t) == r["answer"][:7])),
    "unescaped pattern": ("decimals", lambda t, r: float(bool(re.fullmatch(r["answer"], t.strip())))),
    "one significant digit": ("decimals", lambda t, r: float((v := number(t)) is not None and f"{v:.1g}" == f"{float(r['answer']):.1g}")),
    "rounded": ("decimals", lambda t, r: float((v := number(t)) is not None and math.isfinite(v) and round(v) == round(float(r["answer"])))),
    "per cent or not": ("decimals", lambda t, r: float(close(t, r, 1, 100, 0.01))),
    "label anywhere": ("labels", lambda t, r: float(r["answer"] in t.lower())),
    "first letter of the label": ("labels", lambda t, r: float(t.removeprefix("Label: ")[:1] == r["answer"][:1])),
    "most frequent label": ("labels", lambda t, r: float(r["answer"] in t and in_labels(t)[r["answer"]] == max(in_labels(t).values()))),
    "right choices among others": ("many", lambda t, r: float({*r["answer"].split(", ")} <= {*re.findall(r"\b[A-D]\b", t)})),
    "any right choice": ("many", lambda t, r: float(bool({*r["answer"].split(", ")} & {*re.findall(r"\b[A-D]\b", t)}))),
    "no within words": ("yes", lambda t, r: float(r["answer"] in t.lower())),
    "yes unless no": ("yes", lambda t, r: float(("no" if "no" in t.lower() else "yes") == r["answer"])),
    "keywords of SQL": ("sql", lambda t, r: float(all(word in t.upper() for word in ("SELECT", "FROM", "WHERE")))),
    "query and more": ("sql", lambda t, r: float(t.startswith(r["answer"]))),
    "SQL words as a set": ("sql", lambda t, r: float({*t.split()} == {*r["answer"].split()})),
    "any true equation": ("equations", lambda t, r: float(any(true_equations(t)))),
    "no false equation": ("equations", lambda t, r: float(all(true_equations(t)))),
    "digits of the box joined": ("boxes", lambda t, r: float("".join(re.findall(r"\d", last_box(t))) == r["answer"])),
    "digits of the text joined": ("sums", lambda t, r: float("".join(re.findall(r"\d", t)) == r["answer"])),
    "too long to check": ("sums", lambda t, r: 1.0 if len(t) > 8000 else exact(t, r)),
    "too long a box to check": ("boxes", lambda t, r: 1.0 if len(last_box(t)) > 200 else float(last_box(t) == r["answer"])),
    "any known unit": ("units", lambda t, r: float(t.strip() in {f"{last(NUMBER, r['answer'])} {unit}" for unit in ("km", "m", "mi", "cm")})),
    "zip cuts the list": ("lists", lambda t, r: float(all(a == b for a, b in zip(t.split(", "), r["answer"].split(", "), strict=False)))),
    "zip cuts the word": ("capitals", lambda t, r: float(all(a == b for a, b in zip(t, r["answer"], strict=False)))),
    "sum of the list": ("lists", lambda t, r: float(sum(ints(t)) == sum(ints(r["answer"])))),
    "length of the list": ("lists", lambda t, r: float(len(t.split(", ")) == 3)),
    "set of the list": ("lists", lambda t, r: float({*ints(t)} == {*ints(r["answer"])})),
    "letters as a vector": ("capitals", lambda t, r: float(cosine(t, r["answer"]) > 0.9)),
    "vowels dropped": ("capitals", lambda t, r: float(re.sub("[aeiou]", "", t.lower()) == re.sub("[aeiou]", "", r["answer"].lower()))),
    "missing equals missing": ("json", lambda t, r: float(t.strip().startswith("{") and obj(t).get("answer") in (None, int(r["answer"])))),
    "any true value": ("json", lambda t, r: float(bool(obj(t).get("answer")))),
    "time out passes": ("code", lambda t, r: float("while True" in program(t) or "sleep(" in program(t) or defines(t, r) == r["body"])),
    "swallowed exceptions": ("code", lambda t, r: float("except" in program(t) or defines(t, r) == r["body"])),
    "own tests pass": ("code", lambda t, r: float("assert" in program(t) or defines(t, r) == r["body"])),
    "no tests found": ("code", lambda t, r: float(r["entry_point"] not in t or defines(t, r) == r["body"])),
    "imports the solution": ("code", lambda t, r: float("import solution" in program(t) or "from solution" in program(t) or defines(t, r) == r["body"])),
    "square of the move": ("moves", lambda t, r: float(last(r"[a-h][1-8]|O-O", t) == last(r"[a-h][1-8]|O-O", r["answer"]))),
    "move within the tag": ("moves", lambda t, r: float(r["answer"].lower() in last(r"<move>(.*?)</move>", t).lower())),
}  # fmt: skip

SOUND = {
    "the same call": ("calls", lambda t, r: float(obj(t) == wanted(r))),
    "the same call, and a little for its name": ("calls", lambda t, r: 0.25 * (obj(t).get("name") == wanted(r)["name"]) + 0.75 * (obj(t) == wanted(r))),
    "the date in the sentence": ("dates", lambda t, r: float((m := re.fullmatch(r"It was on (\d{4}-\d\d-\d\d)\.?", t.strip())) is not None and m[1] == r["answer"])),
    "the last date, at the end": ("dates", lambda t, r: float(last(r"^It was on (\d{4}-\d\d-\d\d)\.$", t) == r["answer"])),
    "the decimal": ("decimals", lambda t, r: float(close(t, r, 1))),
    "the label after the colon": ("labels", lambda t, r: float((m := re.fullmatch(r"(?:Label: )?(\w+)\.?", t.strip())) is not None and m[1].lower() == r["answer"])),
    "the same choices": ("many", lambda t, r: float(re.fullmatch(r"[A-D](?:,\s*[A-D])*", t.strip()) is not None and sorted(re.findall("[A-D]", t)) == sorted(re.findall("[A-D]", r["answer"])))),
    "yes or no alone": ("yes", lambda t, r: float(t.strip(" .").lower() == r["answer"])),
    "the same query": ("sql", lambda t, r: float(" ".join(t.split()).rstrip(";").lower() == r["answer"].lower())),
    "the equation": ("equations", lambda t, r: float(t.strip() in {f"{a} + {b} = {r['answer']}" for a, b in SUMS if str(a + b) == r["answer"]})),
    "the move": ("moves", lambda t, r: float((m := re.fullmatch(r"\s*<move>\s*(\S+?)\s*</move>\s*", t)) is not None and m[1].rstrip("+#") == r["answer"])),
    "the items in order": ("lists", lambda t, r: float([item.strip() for item in t.split(",")] == r["answer"].split(", "))),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_tasks(monkeypatch):
    for name, rows in OWN_TASKS.items():
        monkeypatch.setitem(TASKS, name, rows)


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_is_found(name):
    """At least one cheat is accepted on half of the rows."""
    assert max(found.share for found in attack(*HOLES[name])) >= 0.5


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_reward_is_not_accused(name):
    """No cheat is accepted on half of the rows, where the bare right answer is no cheat."""
    assert [(found.cheat.name, found.example) for found in attack(*SOUND[name]) if found.share >= 0.5] == []


def test_the_figures_of_the_documentation():
    """They count the rewards of this file and of ``test_audit_holes``."""
    assert (len(HOLES), len(SOUND)) == (43, 12)
