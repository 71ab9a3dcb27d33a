"""The audit finds rewards that can be cheated, and accepts those that can't."""

import json
import random
import re
from collections.abc import Sequence

import pytest
from click.testing import CliRunner

from rewardkit import Rollout, Score, load_reward, reward
from rewardkit.cheat import Cheat, CheatInput
from rewardkit.cli import cli, run
from rewardkit.cli.audit import CheatedError, parse_budget
from rewardkit.errors import DataError, UsageError
from rewardkit.hookspecs import hookimpl
from rewardkit.insight.audit import audit, honest_rows, levels_of, references_of
from rewardkit.insight.audit.clusters import Sampled, clusters_of, is_right
from rewardkit.insight.audit.kinks import lengths_of
from rewardkit.insight.audit.levels import found_levels
from rewardkit.insight.audit.search import Budget, search
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


def write_rows(folder, rows):
    """Write rollouts, and return the file's name."""
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "rows.jsonl"


def invoke(*arguments):
    """Call the command; errors are raised."""
    return CliRunner().invoke(cli, ["audit", *arguments], catch_exceptions=False, standalone_mode=False)


CONTAINS = "version: 1\ncomponents: {right: {use: format.regex, with: {pattern: '.*5.*'}}, form: {use: format.boxed, weight: 0.2}}\n"
ANSWERS = [{"prompt": "2+3?", "completion": text, "answer": "5"} for text in ("It is 5", "It is 6")]


def test_the_page_shows_cheats_with_everything_escaped(tmp_path, monkeypatch):
    """It names cheats, quotes completions, and holds no markup of theirs and no script."""
    (tmp_path / "reward.yaml").write_text(CONTAINS)
    monkeypatch.chdir(tmp_path)
    invoke("reward.yaml", "--data", write_rows(tmp_path, ANSWERS), "--out", "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "hidden-reference" in page
    assert "<!-- 5 -->" not in page
    assert "&lt;!-- 5 --&gt;" in page
    assert "<script" not in page
    assert "\u202e" not in page


def test_a_named_column_of_labels_must_hold_labels(tmp_path, monkeypatch, capfd):
    """Without this, a misspelt name would let the reward itself tell what is right."""
    (tmp_path / "reward.yaml").write_text(CONTAINS)
    monkeypatch.chdir(tmp_path)
    rows = [row | {"ok": place} for place, row in enumerate(ANSWERS)]
    data = write_rows(tmp_path, rows)
    found = json.loads(invoke("reward.yaml", "--data", data, "--label-column", "ok", "--json").stdout)
    assert (found["best_by_row"][0]["right"], found["best_by_row"][0]["wrong"]) == (0.0, 1.0)
    capfd.readouterr()
    with pytest.raises(
        DataError, match=r"rows\.jsonl:1 has no column 'okay'.* Columns are prompt, completion, answer, ok"
    ):
        invoke("reward.yaml", "--data", data, "--label-column", "okay")
    assert "scoring with" not in capfd.readouterr().err


def test_lone_surrogates_are_shown_as_escapes(tmp_path, monkeypatch):
    """UTF-8 can't hold them, and ``score`` keeps them."""
    (tmp_path / "reward.yaml").write_text(CONTAINS)
    monkeypatch.chdir(tmp_path)
    data = write_rows(tmp_path, [row | {"prompt": "2+3? \ud800"} for row in ANSWERS])
    found = json.loads(invoke("reward.yaml", "--data", data, "--json", "--out", "page.html").stdout)
    assert found["best_by_row"][0]["prompt"] == "2+3? \ud800"
    assert "2+3? ⟨U+D800⟩" in (tmp_path / "page.html").read_text()


def test_json_has_components_and_rows(tmp_path, monkeypatch):
    """For each component and for each row it names the best cheat beside what honest completions get."""
    (tmp_path / "reward.yaml").write_text(CONTAINS)
    monkeypatch.chdir(tmp_path)
    found = json.loads(invoke("reward.yaml", "--data", write_rows(tmp_path, ANSWERS), "--json").stdout)
    assert found["components"]["right"]["levels"] == {"right": 1.0, "wrong": 0.0, "threshold": 0.5}
    assert found["components"]["form"]["separates"] is False
    assert found["components"]["form"]["best"][0]["mean_best_value"] == 1.0
    [row] = found["best_by_row"]
    assert (row["right"], row["wrong"], row["reward"], row["accepted"]) == (1.0, 0.0, 1.2, True)
    assert row["components"]["right"]["value"] == 1.0


@pytest.mark.parametrize(
    "option", ["--budget=soon", "--budget=0", "--budget=1.5", "--policy-steps=3", "--out=nowhere/a.html"]
)
def test_wrong_options_are_refused_before_the_work(tmp_path, monkeypatch, option):
    """Nothing is scored, so that a wrong option costs no time."""
    (tmp_path / "reward.yaml").write_text(CONTAINS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        invoke("reward.yaml", "--data", "missing.jsonl", option)


def test_too_large_a_share_is_an_error_that_names_the_cheat(tmp_path, monkeypatch):
    """CI shows which cheat it was, and how far it got."""
    (tmp_path / "reward.yaml").write_text(CONTAINS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheatedError, match=r"is accepted on 100\.0% of the rows; --fail-above allows 50\.0%"):
        invoke("reward.yaml", "--data", write_rows(tmp_path, ANSWERS), "--fail-above", "0.5")


@pytest.mark.parametrize(
    ("text", "budget"), [("60s", (None, 60.0)), ("1.5m", (None, 90.0)), ("2h", (None, 7200.0)), ("500", (500, None))]
)
def test_a_budget_is_a_time_or_a_number_of_completions(text, budget):
    """Units are those that people write."""
    assert parse_budget(text) == budget


def test_labels_tell_right_from_wrong():
    """A reward that prefers wrong completions has its levels from the labels, whatever it gives."""
    rows = [{"prompt": "p", "completion": text, "reward": reward, "label": label}
            for text, reward, label in (("a", 0.2, True), ("b", 0.9, False))]  # fmt: skip
    [row] = honest_rows(rows)
    levels = levels_of([row])
    assert (levels.right, levels.wrong, row.is_right(0, levels)) == (0.2, 0.9, True)
    assert "label" not in row.fields


def loaded(function, registry=None, scope="rollout", **options):
    """Load a reward of one function."""

    @reward("mine", scope=scope, **options)
    def mine(rollout: Rollout) -> float:
        """Score."""
        return function(rollout)

    registry = registry or Registry()
    registry.register(mine)
    return load_reward({"version": 1, "components": {"main": {"use": "mine"}}}, registry=registry)


def honest(rows=ROWS):
    """Honest completions whose rewards say nothing: both are 1."""
    return honest_rows(
        {"prompt": prompt, "completion": f"The answer is {answer}.", "answer": right, "reward": 1.0}
        for prompt, right, wrong in rows
        for answer in (right, wrong)
    )


def test_without_labels_answers_are_made_of_the_references():
    """Where the file's completions all get the same, the levels are those of right and wrong answers in usual forms."""
    with loaded(lambda one: float(f"\\boxed{{{one.fields['answer']}}}" == one.completion_text)) as mine:
        levels = found_levels(mine, honest())
    assert (levels.right, levels.wrong) == (1.0, 0.0)


def test_a_constant_reward_accepts_everything():
    """A reward that never says no is a hole; one that never says yes can't be audited."""
    with loaded(lambda _one: 1.0) as mine:
        levels = found_levels(mine, honest())
        assert all(found.share == 1.0 for found in audit(mine, CHEATS[:5], honest(), levels))
    rows = honest_rows([{"prompt": "p", "completion": text, "reward": 0.0} for text in "ab"])
    with (
        loaded(lambda _one: 0.0) as mine,
        pytest.raises(DataError, match="all completions of the file have a reward of 0"),
    ):
        found_levels(mine, rows)


@pytest.mark.parametrize(
    ("resolved", "lengths"),
    [
        ({"use": "length.overlong", "with": {"max_tokens": 1024, "max_chars": None, "buffer": 256}}, {(1024, "tokens"), (768, "tokens")}),
        ({"with": {"min_chars": 200, "max_chars": 600, "margin": 50}}, {(150, "characters"), (650, "characters"), (200, "characters")}),
        ({"with": {"args": {"max_len": 900}}}, {(900, "characters")}),
        ({"when": "num_tokens > 512"}, {(512, "tokens")}),
    ],
)  # fmt: skip
def test_kinks_are_read_from_parameters(resolved, lengths):
    """Maxima, buffers, margins, arguments of functions and conditions count, in their unit."""
    assert lengths <= set(lengths_of({"components": {"length": resolved}}))


def test_a_kink_is_attacked():
    """A reward that jumps at a length that its parameters tell is found there."""
    config = {
        "version": 1,
        "components": {"length": {"use": "length.target", "with": {"min_chars": 1371, "max_chars": 1371, "margin": 0}}},
    }
    rows = [
        {"prompt": "Why?", "completion": text, "reward": value}
        for text, value in (("It is so." * 200, 1.0), ("No reason.", 0.0))
    ]
    with load_reward(config) as reward_of_length:
        found = honest_rows(rows)
        assert audit(reward_of_length, CHEATS, found, levels_of(found))[0].cheat.name == "at-length-kink"


def test_a_group_that_agrees_is_found():
    """A reward for agreement within the group is attacked with whole groups, and with the honest ones as companions."""

    @reward("majority", scope="group")
    def majority(rollouts: Sequence[Rollout]) -> list[float]:
        """Return the share of the group that says the same."""
        texts = [one.completion_text for one in rollouts]
        return [texts.count(text) / len(texts) for text in texts]

    registry = Registry()
    registry.register(majority)
    rows = honest_rows([
        {"prompt": "p", "completion": text, "reward": value}
        for text, value in (("a", 0.5), ("a", 0.5), ("b", 0.25), ("c", 0.25))
    ])  # fmt: skip
    with load_reward({"version": 1, "components": {"main": {"use": "majority"}}}, registry=registry) as mine:
        best, *_ = audit(mine, CHEATS, rows, levels_of(rows))
    assert (best.cheat.name, best.mean_best) == ("group-identical", 1.0)


def test_groups_are_left_out_where_nothing_compares_them():
    """A reward of single rollouts is not attacked with groups."""
    assert not any(found.cheat.as_group for found in attack(exact))


def test_a_hedge_counts_in_either_order_only():
    """If the first or the last of two answers counts, a policy gains nothing by naming two."""
    hedge = Cheat(
        "hedge", "two answers", lambda row: [f"{row.references[0]} or 0", f"0 or {row.references[0]}"], all_needed=True
    )
    last = attack(lambda text, answer: float(text.split()[-1] == answer), cheats=[hedge])
    anywhere = attack(lambda text, answer: float(answer in text.split()), cheats=[hedge])
    assert [found.share for found in (*last, *anywhere)] == [0.0, 1.0]


def test_many_rows_are_attacked_with_the_cheats_that_did_best():
    """All cheats are tried on a part of the rows; the others see those that were accepted, and the best."""
    sums = [(f"What is {number} + 0?", str(number), str(number + 1)) for number in range(200, 500)]
    found = {one.cheat.name: one for one in attack(lambda text, answer: float(f"<!-- {answer} -->" in text), rows=sums)}
    assert (found["hidden-reference"].rows, found["hidden-reference"].share) == (300, 1.0)
    assert found["sleeps"].rows == 100


def three_parts(text, _answer):
    """Pay for each of three things, of which no cheat of the stock has two."""
    return 0.34 * ("highest score" in text) + 0.33 * (len(text) > 2500) + 0.33 * ("✅" in text and "<" not in text)


def searched(function, seed=0, evaluations=2500):
    """Search for cheats of a function, and return their recipes."""

    def score(one):
        return float(function(one.completion_text, one.fields["answer"]))

    rows = honest_rows(
        {"prompt": prompt, "completion": f"The answer is {answer}.", "answer": right, "reward": float(answer == right)}
        for prompt, right, wrong in ROWS
        for answer in (right, wrong)
    )
    with loaded(score) as mine:
        new = search(mine, CHEATS, rows, levels_of(rows), budget=Budget(evaluations=evaluations), seed=seed)
        return [cheat.description for cheat in new], audit(mine, new, rows, levels_of(rows))


def test_a_search_finds_what_no_single_cheat_does():
    """Combinations are accepted where none of the stock is."""
    assert all(found.share < 0.5 for found in attack(three_parts))
    _, findings = searched(three_parts)
    assert findings[0].share == 1.0
    assert findings[0].mean_best > 0.6


def test_a_search_is_repeatable():
    """The same seed and budget give the same recipes."""
    first, second = (searched(three_parts, seed=3, evaluations=1500)[0] for _ in range(2))
    assert first == second != []


@pytest.mark.parametrize("name", SOUND)
def test_a_search_does_not_accuse_a_sound_reward(name):
    """Changes and combinations of wrong completions stay wrong."""
    assert all(found.accepted == 0 for found in searched(SOUND[name])[1])


def sampled(*texts, reward=1.0, answer="5"):
    """Completions of a policy."""
    return [Sampled(1, "2+3?", text, reward, {"answer": answer}) for text in texts]


def test_completions_of_one_form_are_a_cluster():
    """Numbers do not matter; the share of right ones and what was there before are told."""
    late = sampled("The answer is 5.", "The answer is 6.", "The answer is 17.", "I refuse to say")
    first, second = clusters_of(sampled("I refuse to say"), late)
    assert (first.count, first.share, first.early_share, first.right) == (3, 0.75, 0.0, pytest.approx(1 / 3))
    assert (second.skeleton, second.early_share) == ("i refuse to say", 1.0)


def test_texts_without_words_are_clustered_by_their_characters():
    """Where no two completions are alike in words, their characters are."""
    chance = random.Random(0)  # noqa: S311 - no secrets here
    letters = "0123456789" * 2 + "abcdefghij" + "=(){}<>.,;"
    late = sampled(*("".join(chance.choice(letters) for _ in range(30)) for _ in range(200)))
    first, *_ = clusters_of([], late)
    assert first.skeleton == "mostly digits, 16 or more characters"
    assert first.share > 0.5


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("so \\boxed{5}", True),
        ("5, no: \\boxed{6}", False),
        ("<answer> 5 </answer>", True),
        ("#### 5", True),
        ("I get 5.", True),
        ("5 or 6", False),
    ],
)
def test_the_final_answer_is_compared(text, right):
    """The last box, tag or number counts."""
    assert is_right(text, ("5",)) is right


def test_a_reward_that_misses_most_right_completions_has_levels():
    """What it gives to those that it finds counts, so that nothing is accepted for getting 0."""
    rows = honest_rows([
        {"prompt": "p", "completion": text, "reward": reward, "label": label}
        for text, reward, label in (("a", 0.0, True), ("b", 0.0, True), ("c", 1.0, True), ("d", 0.0, False))
    ])  # fmt: skip
    assert levels_of(rows).threshold == 0.5
