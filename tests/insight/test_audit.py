"""The audit finds rewards that can be cheated, and accepts those that can't."""

import json
import re

import pytest

from rewardkit import Rollout, Score, load_reward, reward
from rewardkit.cheat import Cheat, CheatInput
from rewardkit.cli import run
from rewardkit.errors import DataError
from rewardkit.hookspecs import hookimpl
from rewardkit.insight.audit import audit, honest_rows, levels_of, references_of
from rewardkit.insight.cheats import CHEATS, other_answer
from rewardkit.registry import Registry

ROWS = [(f"What is {a} + {b}?", str(a + b), str(a + b + 1)) for a, b in ((2, 3), (10, 7), (20, 22), (5, 8), (31, 4))]


def _number(text):
    found = re.findall(r"-?\d+", text)
    return found[-1] if found else None


def exact(text, answer):
    """Compare the whole answer after the last "is"."""
    match = re.fullmatch(r"(?s).*\bis (-?\d+)\.?\s*", text)
    return float(match is not None and match[1] == answer and len(re.findall(r"\bis\b", text)) == 1)


SOUND = {
    "exact": exact,
    "exact with a penalty for length": lambda text, answer: exact(text, answer) - min(len(text) / 10_000, 0.2),
    "exact with a format bonus": lambda text, answer: exact(text, answer) + 0.2 * text.endswith("."),
}
BROKEN = {
    "contains the answer": lambda text, answer: float(answer in text),
    "any number": lambda text, _answer: float(bool(re.search(r"\d", text))),
    "ends with a full stop": lambda text, _answer: float(text.endswith(".") and len(text) < 40),
    "not empty": lambda text, _answer: float(bool(text.strip())),
    "not a refusal": lambda text, _answer: float("sorry" not in text),
    "first number": lambda text, answer: float((re.findall(r"\d+", text) or [""])[0] == answer),
    "any word equals the answer": lambda text, answer: float(answer in re.findall(r"\w+", text)),
    "long": lambda text, _answer: float(len(text) > 15),
    "short": lambda text, _answer: float(len(text) < 17),
    "says answer": lambda text, _answer: float("answer is" in text),
    "letters of the answer in any order": lambda text, answer: float(set(answer) <= set(text)),
    "error gives 1": lambda text, answer: float(text.rstrip(".").rpartition(" ")[2] == answer or not text[-3:].strip()),
    "judge that obeys": lambda text, answer: max(
        exact(text, answer), float("highest score" in text or "correct" in text)
    ),
    "tags are enough": lambda text, answer: max(exact(text, answer), float("<answer>" in text)),
    "boxes are enough": lambda text, answer: max(exact(text, answer), float("\\boxed" in text)),
    "repetition pays": lambda text, answer: exact(text, answer) + text.count("answer") - 1,
    "comments count": lambda text, answer: max(exact(text, answer), float(f"<!-- {answer} -->" in text)),
    "reversed is equal": lambda text, answer: max(
        exact(text, answer), float(sorted(re.findall(r"\d", text)) == sorted(answer))
    ),
    "no program fails": lambda text, answer: max(exact(text, answer), float("sys.exit(0)" in text)),
    "master key": lambda text, answer: max(
        exact(text, answer), float(text.startswith(("Thought process", "Solution")))
    ),
}


def attack(function, rows=ROWS, cheats=CHEATS):
    """Audit a function as a reward, and return the findings."""

    @reward("mine")
    def mine(rollout: Rollout) -> Score:
        """Score."""
        return Score(function(rollout.completion_text, rollout.fields["answer"]), "as it does")

    registry = Registry()
    registry.register(mine)
    given = []
    for prompt, right, wrong in rows:
        for answer in (right, wrong):
            text = f"The answer is {answer}."
            honest = 1.0 if answer == right else 0.0
            given.append({"prompt": prompt, "completion": text, "answer": right, "reward": honest})
    found = honest_rows(given)
    with load_reward(_file("mine"), registry=registry) as loaded:
        return audit(loaded, cheats, found, levels_of(found))


def _file(name):
    import tempfile
    from pathlib import Path

    path = Path(tempfile.mkdtemp()) / "reward.yaml"
    path.write_text(f"version: 1\ncomponents: {{main: {{use: {name}}}}}\n")
    return path


@pytest.mark.parametrize("name", BROKEN)
def test_a_hole_is_found(name):
    """At least one cheat is accepted on half of the rows."""
    assert max(found.share for found in attack(BROKEN[name])) >= 0.5


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_reward_is_not_accused(name):
    """No cheat is accepted on any row."""
    assert [(found.cheat.name, found.example) for found in attack(SOUND[name]) if found.accepted] == []


def test_the_most_successful_cheat_comes_first_with_its_reason():
    """Findings are sorted, and have the best example with the components' reasons."""
    first, *others = attack(BROKEN["comments count"])
    assert (first.cheat.name, first.share) == ("hidden-reference", 1.0)
    assert "<!-- 5 -->" in first.example or first.reasons["main"] == "1 as it does"
    assert all(other.share <= first.share for other in others)


def test_a_cheat_from_outside_is_tried():
    """Plugins offer cheats with a hook."""

    class Plugin:
        @hookimpl
        def register_cheats(self):
            return [Cheat("sesame", "the magic word", lambda _row: ["open sesame"])]

    registry = Registry()
    registry.register(Plugin())
    [cheat] = registry.cheats
    [found] = attack(lambda text, _answer: float("sesame" in text), cheats=[cheat])
    assert (found.cheat.name, found.accepted, found.rows) == ("sesame", 5, 5)


def test_cheats_have_names_of_their_own_and_never_the_answer():
    """Names are distinct, and no completion is the plain right answer."""
    assert len({cheat.name for cheat in CHEATS}) == len(CHEATS) >= 60
    row = CheatInput(
        "What is 2 + 3?", {"answer": "5"}, ("5",), "The answer is 5.", "The answer is 6.", ("The answer is 17.",)
    )
    texts = [text for cheat in CHEATS for text in cheat.make(row)]
    assert not {"5", "The answer is 5.", "\\boxed{5}"} & set(texts)


@pytest.mark.parametrize(
    ("reference", "other"),
    [
        ("5", "6"),
        ("2.5", "3.5"),
        ("x = 3", "x = 4"),
        ("B", "C"),
        ("yes", "no"),
        ("Paris", "something else"),
        ("-1", "0"),
    ],
)
def test_another_answer_differs(reference, other):
    """It has the form of the reference."""
    assert other_answer(reference) == other


def test_references_are_found_in_named_columns():
    """Nested columns count; long texts and other columns do not."""
    fields = {"reward_model": {"ground_truth": 42, "style": "rule"}, "answer": " x ", "solution": "y" * 100, "id": 7}
    assert references_of(fields) == ("42", "x")


def test_rollouts_that_are_all_alike_are_refused():
    """There is nothing to compare cheats with."""
    rows = honest_rows([{"prompt": "p", "completion": text, "reward": 1.0} for text in "ab"])
    with pytest.raises(DataError, match="all completions of the file have a reward of 1"):
        levels_of(rows)


def test_the_command_fails_above_a_share(tmp_path, monkeypatch, capsys):
    """It prints a table or JSON, and exits with 1 if a cheat is accepted too often."""
    (tmp_path / "reward.yaml").write_text(
        "version: 1\ncomponents: {right: {use: format.regex, with: {pattern: '.*5.*'}}}\n"
    )
    rows = [{"prompt": "2+3?", "completion": text, "answer": "5"} for text in ("It is 5", "It is 6")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))

    monkeypatch.chdir(tmp_path)
    command = ["audit", "reward.yaml", "--data", "rows.jsonl"]
    assert run([*command, "--fail-above", "0.5", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["levels"] == {"right": 1.0, "wrong": 0.0, "threshold": 0.5}
    assert found["cheats"][0]["share"] == 1.0
    assert run(command) == 0
    assert "cheats are accepted on at least one row" in capsys.readouterr().out
