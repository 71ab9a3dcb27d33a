"""``rewardkit check`` tells what is wrong before anything costly runs."""

import json
import subprocess
import sys

import pytest

from rewardkit.cli import run

REWARD = """version: 1
components:
  format:  {use: format.tags, with: {tags: [think, answer]}, weight: 0.2}
  correct: {use: math, with: {reference: answer}, when: "format > 0"}
gate: "format >= 0"
clip: [-1, 1.5]
"""


@pytest.fixture
def reward(tmp_path):
    """A valid reward file."""
    pytest.importorskip("rewardkit_math")
    file = tmp_path / "reward.yaml"
    file.write_text(REWARD)
    return file


def rollouts(folder, *rows):
    """A file of rollouts with these fields on top of a prompt and a completion."""
    file = folder / "rollouts.jsonl"
    lines = [
        row if isinstance(row, str) else json.dumps({"prompt": "1+1?", "completion": r"\boxed{2}", **row})
        for row in rows
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_valid_file_is_shown_and_exits_with_0(reward, capsys):
    """Every component appears with its reward, its weight, what it reads and its condition."""
    assert run(["check", str(reward)]) == 0

    out = capsys.readouterr().out
    assert "format.tags" in out
    assert "0.2" in out
    assert "answer" in out
    assert "format > 0" in out
    assert "reward_id" in out


def test_a_mistake_is_told_with_its_place_and_exits_with_2(reward, capsys):
    """A misspelt key names file, line and column."""
    reward.write_text(REWARD.replace("weight", "wieght"))

    assert run(["check", str(reward)]) == 2
    assert f"{reward}:3:62: unknown key 'wieght'" in capsys.readouterr().err


def test_data_that_fit_are_counted(reward, tmp_path, capsys):
    """Rows, rollouts and prompts are told when nothing is wrong."""
    data = rollouts(tmp_path, {"answer": "2"}, {"answer": r"\frac{4}{2}"})

    assert run(["check", str(reward), "--data", str(data)]) == 0
    assert "2 rows, 2 rollouts in 1 group" in " ".join(capsys.readouterr().out.split())


def test_a_missing_value_and_a_broken_row_are_found_with_their_first_place(reward, tmp_path, capsys):
    """Problems of rows are counted by kind, each with the first row that has it."""
    data = rollouts(tmp_path, {"answer": "2"}, {}, "{broken", {})

    assert run(["check", str(reward), "--data", str(data), "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["data"]["problems"]
    missing = next(item for item in problems if item["component"] == "correct")
    assert missing["problem"] == "the row has no value in column 'answer'"
    assert missing["count"] == 2
    assert missing["first"].endswith("rollouts.jsonl:2")
    broken = next(item for item in problems if item["component"] is None)
    assert broken["first"].endswith("rollouts.jsonl:3")


def test_a_reference_that_cant_be_understood_is_found_without_scoring(reward, tmp_path, capsys):
    """The reward's own check looks at every reference."""
    data = rollouts(tmp_path, {"answer": r"\frac{1}{"})

    assert run(["check", str(reward), "--data", str(data), "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["data"]["problems"]
    assert problem["component"] == "correct"


def test_columns_can_be_renamed_as_in_scoring(reward, tmp_path):
    """--map works as it does for score."""
    data = rollouts(tmp_path, {"gt": "2"})

    assert run(["check", str(reward), "--data", str(data), "--map", "answer=gt"]) == 0


def test_a_row_without_a_route_is_found(tmp_path, capsys):
    """Routing is tried on every row."""
    file = tmp_path / "reward.yaml"
    file.write_text(
        "version: 1\n"
        "composites: {a: {components: {boxed: {use: format.boxed}}}}\n"
        "routes: [{match: {data_source: 'math*'}, composite: a}]\n"
    )
    data = rollouts(tmp_path, {"data_source": "math-500"}, {"data_source": "code"})

    assert run(["check", str(file), "--data", str(data), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)["data"]
    assert report["routed"] == {"a": 1}
    assert "no route matches a row with data_source='code'" in report["problems"][0]["problem"]


NESTED = {
    "answer": "2",
    "src": "math",
    "reward_model": {"ground_truth": "2"},
    "extra_info": {"source": "gsm8k", "level": 3},
}
ANSWER = "a: {use: math, with: {reference: answer}}"
ROUTED = "composites: {m: {components: {a: {use: format.boxed}}}, o: {components: {b: {use: format.boxed}}}}\n"


@pytest.mark.parametrize(
    ("body", "column", "place", "meant"),
    [
        ("components:\n  a: {use: math, with: {reference: anwser}}", "anwser", "3:12: component 'a'", "answer"),
        (
            "components:\n  a: {use: math, with: {reference: reward_model.groundtruth}}",
            "reward_model.groundtruth",
            "3:12: component 'a'",
            "reward_model.ground_truth",
        ),
        (
            f"components:\n  {ANSWER}\n  b: {{use: format.boxed, when: 'fields.levle > 2'}}",
            "levle",
            "4:12: component 'b'",
            "extra_info.level",
        ),
        (
            f"components:\n  {ANSWER}\n  b: {{use: format.boxed, when: 'fields.extra_info.levle > 2'}}",
            "extra_info.levle",
            "4:12: component 'b'",
            "extra_info.level",
        ),
        (
            f"components:\n  {ANSWER}\ngate: fields.extra_info.lvel > 2",
            "extra_info.lvel",
            "4:7: the gate",
            "extra_info.level",
        ),
        (ROUTED + "routes: [{match: {sorce: 'm*'}, composite: m}]", "sorce", "3:18: a route", "src"),
        (
            ROUTED + "routes: [{match: {extra_info.sorce: 'm*'}, composite: m}]",
            "extra_info.sorce",
            "3:18: a route",
            "extra_info.source",
        ),
    ],
)
@pytest.mark.parametrize("command", ["check", "score"])
def test_a_missing_column_is_named_with_its_reader_and_the_one_that_was_meant(
    command, body, column, place, meant, tmp_path, capsys
):
    """Check and score report a missing column of a component, condition, gate or route at its place, with the nearest column."""
    pytest.importorskip("rewardkit_math")
    file = tmp_path / "reward.yaml"
    file.write_text(f"version: 1\n{body}\n")
    data = rollouts(tmp_path, NESTED, NESTED)
    check = ["check", str(file), "--data", str(data), "--json"]
    score = ["score", str(data), "--reward", str(file), "--out", str(tmp_path / "out.jsonl"), "--no-cache"]

    assert run(check if command == "check" else score) == 2
    shown = capsys.readouterr()
    text = json.loads(shown.out)["data"]["hint"] if command == "check" else shown.err
    assert f"{file}:{place} reads column {column!r}, which {data} does not have." in text
    assert f"did you mean {meant!r}?" in text


@pytest.mark.parametrize(
    "body",
    [
        "components:\n  a: {use: math, with: {reference: reward_model.ground_truth}}",
        f"components:\n  {ANSWER}\n  b: {{use: format.boxed, when: fields.extra_info.level > 2}}",
        f"components:\n  {ANSWER}\ngate: fields.extra_info.level > 2",
        ROUTED + "routes: [{match: {extra_info.source: 'gsm*'}, composite: m}]",
    ],
)
@pytest.mark.parametrize("command", ["check", "score"])
def test_nested_columns_are_read_by_their_path(command, body, tmp_path):
    """A path into nested columns works as a parameter, in a condition, in the gate and in a route."""
    pytest.importorskip("rewardkit_math")
    file = tmp_path / "reward.yaml"
    file.write_text(f"version: 1\n{body}\n")
    data = rollouts(tmp_path, NESTED)
    check = ["check", str(file), "--data", str(data)]
    score = ["score", str(data), "--reward", str(file), "--out", str(tmp_path / "out.jsonl"), "--no-cache"]

    assert run(check if command == "check" else score) == 0


def test_all_missing_columns_are_named_at_once(tmp_path, capsys):
    """Two missing columns are reported together."""
    pytest.importorskip("rewardkit_math")
    file = tmp_path / "reward.yaml"
    file.write_text(
        "version: 1\ncomponents:\n  a: {use: math, with: {reference: one}}\n  b: {use: math, with: {reference: two}}\n"
    )

    assert run(["check", str(file), "--data", str(rollouts(tmp_path, {"answer": "2"})), "--json"]) == 2
    hint = json.loads(capsys.readouterr().out)["data"]["hint"]
    assert "component 'a' reads column 'one'" in hint
    assert "component 'b' reads column 'two'" in hint


def test_a_column_that_a_condition_excludes_is_not_missing(tmp_path, capsys):
    """A component whose condition is false for a row needs no column of that row, in check and in score."""
    pytest.importorskip("rewardkit_math")
    file = tmp_path / "reward.yaml"
    file.write_text(
        "version: 1\ncomponents:\n  b: {use: format.boxed}\n"
        "  a: {use: math, with: {reference: answer}, when: \"fields.src == 'math'\"}\n"
    )
    data = rollouts(tmp_path, *[{"src": "code"}] * 70, {"src": "math", "answer": "2"})
    score = ["score", str(data), "--reward", str(file), "--out", str(tmp_path / "out.jsonl"), "--no-cache"]

    assert run(["check", str(file), "--data", str(data)]) == 0
    assert run(score) == 0


def test_a_route_column_that_no_row_has_is_a_warning(tmp_path, capsys):
    """A misspelt column of a route sends all rows to the last route: check warns, and names the column that was meant."""
    file = tmp_path / "reward.yaml"
    file.write_text(
        f"version: 1\n{ROUTED}routes: [{{match: {{sorce: math}}, composite: m}}, {{match: {{}}, composite: o}}]\n"
    )

    assert run(["check", str(file), "--data", str(rollouts(tmp_path, NESTED)), "--json"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["data"]["warnings"]
    assert warning == f"{file}:3:18: no row has column 'sorce', so this route takes none; did you mean 'src'?"


def test_a_reversed_map_is_explained(tmp_path, capsys):
    """--map with the old name first says which comes first."""
    pytest.importorskip("rewardkit_math")
    file = tmp_path / "reward.yaml"
    file.write_text(f"version: 1\ncomponents:\n  {ANSWER}\n")

    assert (
        run(["check", str(file), "--data", str(rollouts(tmp_path, {"gt": "2"})), "--map", "gt=answer", "--json"]) == 2
    )
    assert "the new name comes first: --map answer=gt" in json.loads(capsys.readouterr().out)["data"]["hint"]


def test_problems_are_counted_by_rollouts_and_rows(reward, tmp_path, capsys):
    """The message counts each rollout once, however many problems it has, and unreadable rows apart."""
    data = rollouts(tmp_path, {"answer": "2"}, {}, "{broken", {"answer": r"\frac{1}{"})

    assert run(["check", str(reward), "--data", str(data)]) == 2
    assert "2 of 3 rollouts can't be scored, 1 of 4 rows can't be read" in capsys.readouterr().err


def test_a_users_file_is_imported_only_with_trust(tmp_path, capsys):
    """Without it, check says that it was not; with it, an import that fails has its place."""
    (tmp_path / "mine.py").write_text("open(__file__ + '.imported', 'w')\nimport no_such_module\ndef f(rollout): ...\n")
    file = tmp_path / "reward.yaml"
    file.write_text("version: 1\ncomponents:\n  c: {use: './mine.py:f'}\n")
    assert run(["check", str(file)]) == 0
    assert "mine.py:f was read and not imported" in capsys.readouterr().out
    assert not (tmp_path / "mine.py.imported").exists()
    assert run(["check", str(file), "--trust"]) == 2
    assert "reward.yaml:3:12: ./mine.py:f can't be imported: ModuleNotFoundError" in capsys.readouterr().err
    assert (tmp_path / "mine.py.imported").exists()


def test_an_empty_column_is_not_suggested_for_itself(reward, tmp_path, capsys):
    """The column exists, so the message says what is wrong with it."""
    data = rollouts(tmp_path, {"answer": []}, {"answer": None})
    assert run(["check", str(reward), "--data", str(data)]) == 2
    told = " ".join(capsys.readouterr().out.split())
    assert "reads column 'answer', which has no value in the first rows" in told
    assert "did you mean" not in told


def test_lone_surrogates_are_printed_as_escapes(tmp_path):
    """A terminal's encoding has none, and rows may hold them."""
    file = tmp_path / "reward.yaml"
    file.write_text("version: 1\ncomponents: {a: {use: format.boxed}}\n")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "q", "completion": "c", "label": true, "class": "\\ud800"}\n')
    command = [sys.executable, "-m", "rewardkit", "noise", str(file), "--labels", str(tmp_path / "rows.jsonl")]
    done = subprocess.run([*command, "--by", "class"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "\\ud800" in done.stdout
