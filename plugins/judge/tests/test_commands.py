"""``rewardkit judge try`` and ``calibrate`` show what a judge is asked, what it says, and how far it can be trusted."""

import json
import os
import signal

import pytest
from rewardkit_judge import kept_replies
from rewardkit_judge.endpoint import Usage
from rewardkit_judge.kept_replies import KeptReplies
from scripted_judge import FakeJudge, honest

from rewardkit.cli import run
from rewardkit.scoring import transform
from rewardkit.scoring.engines import local
from rewardkit.services import limits

ROWS = [{"prompt": f"q{n}", "completion": text, "label": text == "right"} for n in range(4) for text in ("right", "no")]


@pytest.fixture
def fake():
    """Start a server."""
    found = FakeJudge(honest)
    yield found
    found.close()
    limits._endpoints.clear()


@pytest.fixture
def files(fake, tmp_path, monkeypatch):
    """Write rows and reward files into the working folder, and return the folder."""
    shared = {"model": "m", "url": fake.url, "api_key": "", "tries": 1, "preflight": False}
    kinds = {
        "rubric": {"use": "judge.rubric", "with": {**shared, "criteria": {"clear": "C."}, "votes": 2}},
        "pairwise": {"use": "judge.pairwise", "with": shared},
    }
    for name, component in kinds.items():
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"version": 1, "components": {"it": component}}))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "groups.jsonl").write_text("".join(json.dumps({**row, "prompt": "q"}) + "\n" for row in ROWS[:2]))
    pairs = [{"prompt": f"q{n}", "chosen": f"right {n}", "rejected": "no"} for n in range(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_try_shows_every_message(files, capsys):
    """The request, the reply as it came, the verdict, the votes, tokens and cost."""
    assert run(["judge", "try", "rubric.yaml", "rows.jsonl:1"]) == 0
    told = capsys.readouterr().out
    for text in (
        "You are a careful, impartial judge",
        '- "clear": C.',
        '"reasoning": "by the rule"',
        "100 + 10 tokens",
    ):
        assert text in told
    assert "votes: 1, 1" in told
    assert "cost: calls 2" in told


def test_try_takes_a_row_and_a_group(files, fake, capsys):
    """A row may be JSON; a pairwise judge gets all rows of the group."""
    row = json.dumps({"prompt": "q", "completion": "right"})
    assert run(["judge", "try", "rubric.yaml", row, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["score"] for item in found["results"]] == [1.0]
    assert found["exchanges"][0]["request"]["messages"][0]["role"] == "system"
    assert run(["judge", "try", "pairwise.yaml", "groups.jsonl:2", "--json"]) == 0
    assert [item["score"] for item in json.loads(capsys.readouterr().out)["results"]] == [1.0, 0.0]


def test_try_without_a_score_fails(files, fake, capsys):
    """The reply is shown, with the reason why it is no verdict; the exit code is 3."""
    fake.answer = lambda _body: "Five out of five!"
    assert run(["judge", "try", "rubric.yaml", "rows.jsonl:1"]) == 3
    told = capsys.readouterr().out
    assert "Five out of five!" in told
    assert "no verdict: the judge's reply is not one JSON object" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rubric.yaml", "rows.jsonl"], "write FILE:NUMBER"),
        (["rubric.yaml", "rows.jsonl:99"], "rows.jsonl has 8 rows; there is no row 99"),
        (["rubric.yaml", "nowhere.jsonl:1"], "there is no file nowhere.jsonl"),
        (["rubric.yaml", "{broken"], "not a row as JSON"),
        (["rubric.yaml", "rows.jsonl:1", "--component", "x"], "no judge 'x'; its judges are it"),
    ],
)
def test_try_says_what_is_wrong(files, capsys, arguments, message):
    """Wrong rows and components are refused before anything is asked."""
    assert run(["judge", "try", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_calibrate_measures_a_judge(files, capsys):
    """Agreement, kappa, error rates, consistency and costs, as a table, as JSON and as a page without scripts."""
    command = ["judge", "calibrate", "rubric.yaml", "--data", "rows.jsonl", "--out", "v.jsonl"]
    assert run([*command, "--json", "--html", "page.html"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["agreement"]["count"], found["kappa"]["value"], found["consistency"]["share"]) == (8, 1.0, 1.0)
    assert found["costs"]["judge_calls"] == 16.0
    page = (files / "page.html").read_text()
    assert "<svg" in page
    assert "<script" not in page
    assert run(command) == 0
    assert "Cohen's κ" in capsys.readouterr().out


def test_calibrate_takes_labels_of_another_file(files, capsys):
    """In the order of rows, or by a key; numbers are labels with a threshold."""
    (files / "labels.jsonl").write_text("".join(json.dumps({"mark": 5 * row["label"]}) + "\n" for row in ROWS))
    labels = ["--labels", "labels.jsonl", "--label-column", "mark", "--label-threshold", "2.5", "--json"]
    assert run(["judge", "calibrate", "rubric.yaml", "--data", "rows.jsonl", "--out", "v.jsonl", *labels]) == 0
    assert json.loads(capsys.readouterr().out)["agreement"]["share"] == 1.0
    (files / "keyed.csv").write_text("completion,label\nno,false\nright,true\n")
    keyed = ["--labels", "keyed.csv", "--key", "completion", "--json"]
    assert run(["judge", "calibrate", "rubric.yaml", "--data", "rows.jsonl", "--out", "v.jsonl", *keyed]) == 0
    assert json.loads(capsys.readouterr().out)["agreement"]["share"] == 1.0


def test_calibrate_measures_a_judge_of_pairs(files, fake, capsys):
    """Both orders are asked, and a position bias is measured."""
    command = ["judge", "calibrate", "pairwise.yaml", "--data", "pairs.jsonl", "--out", "v.jsonl", "--json"]
    assert run(command) == 0
    right = json.loads(capsys.readouterr().out)
    assert (right["agreement"]["share"], right["first_shown"]["share"]) == (1.0, 0.5)
    fake.answer = lambda _body: json.dumps({"reasoning": "", "winner": "B"})
    assert run([*command, "--fresh"]) == 0
    biased = json.loads(capsys.readouterr().out)
    assert (biased["first_shown"]["share"], biased["orders_agree"]["share"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label-column", "truth"], "has no column 'truth'"),
        (["--labels", "pairs.jsonl"], "has no column 'label'"),
        (["--labels", "groups.jsonl"], "there are 2 labels for 8 rows"),
        (["--labels", "more.jsonl"], "there are 9 labels for 8 rows"),
        (
            ["--labels", "more.jsonl", "--key", "completion"],
            "more.jsonl:9: completion = 'right' has another label in more.jsonl:",
        ),
        (["--labels", "nan.jsonl", "--label-threshold", "0.5"], "nan.jsonl:1: the label nan is no number"),
        (["--html", "rows.jsonl"], "--html rows.jsonl is also an input"),
        (["--html", "none/page.html"], "the folder none does not exist"),
        (["--label-column", "completion"], "the label 'right' is not true, false, 1 or 0"),
    ],
)
def test_calibrate_says_what_is_wrong_with_labels(files, fake, capsys, arguments, message):
    """Nothing is asked before all labels are read and the page is known to fit."""
    more = [*ROWS, {"completion": "right", "label": "maybe"}]
    (files / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    (files / "nan.jsonl").write_text('{"label": NaN}\n' * len(ROWS))
    assert run(["judge", "calibrate", "rubric.yaml", "--data", "rows.jsonl", "--out", "v.jsonl", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert fake.requests == []


CALIBRATE = ["judge", "calibrate", "rubric.yaml", "--data", "rows.jsonl", "--out", "v.jsonl", "--json"]


@pytest.fixture
def small_chunks(monkeypatch):
    """Let a chunk hold one row, and work on one at a time, so that an interruption leaves some undone."""
    monkeypatch.setattr(transform, "CHUNK_ROWS", 1)
    monkeypatch.setattr(local, "THREADS", 1)


def interrupt_at(fake, count):
    """Send this process Ctrl-C with the reply to a request."""

    def answer(body):
        if len(fake.requests) == count:
            os.kill(os.getpid(), signal.SIGINT)
        return honest(body)

    fake.answer = answer


def kept_lines(files):
    """Return the number of replies that an interrupted run has kept."""
    return len((files / "v.jsonl.replies.part").read_bytes().splitlines())


@pytest.mark.usefixtures("small_chunks")
def test_calibrate_resumes(files, fake, capsys):
    """The same command asks only what is missing, measures all rows, and tells what both runs have cost."""
    interrupt_at(fake, 6)
    assert run(CALIBRATE) == 130
    assert "The same command resumes the run" in capsys.readouterr().err
    done = len((files / "v.jsonl.part").read_bytes().splitlines())
    assert 0 < done < len(ROWS)
    asked, kept = len(fake.requests), kept_lines(files)
    assert kept >= 2 * done
    fake.answer = honest
    assert run(CALIBRATE) == 0
    assert len(fake.requests) - asked == 2 * len(ROWS) - kept
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["agreement"]["share"], found["already_complete"]) == (8, 1.0, False)
    assert 16 <= found["costs"]["judge_calls"] <= len(fake.requests)


def test_no_question_is_paid_for_twice(files, fake, capsys):
    """What was answered for rows of an unfinished chunk is not asked again, and nothing is left of it in the end."""
    reward = json.loads((files / "rubric.yaml").read_text())
    reward["components"]["it"]["with"]["concurrency"] = 1
    (files / "rubric.yaml").write_text(json.dumps(reward))
    interrupt_at(fake, 6)
    assert run(CALIBRATE) == 130
    assert not (files / "v.jsonl.part").read_bytes()  # all eight rows are one chunk, which was not finished
    asked, kept = len(fake.requests), kept_lines(files)
    assert kept >= 5
    with (files / "v.jsonl.replies.part").open("ab") as file:
        file.write(b'["cut')
    fake.answer = honest
    assert run(CALIBRATE) == 0
    assert len(fake.requests) - asked == 16 - kept
    assert not list(files.glob("v.jsonl.replies*"))


def test_kept_replies_are_those_of_the_same_question(files, fake):
    """Another version of the model is asked again, and so is everything with --fresh."""
    interrupt_at(fake, 6)
    assert run(CALIBRATE) == 130
    fake.answer = honest
    kept = (files / "v.jsonl.replies.part").read_bytes()
    before = len(fake.requests)
    assert run([*CALIBRATE, "--fresh"]) == 0
    assert len(fake.requests) == before + 16
    (files / "w.jsonl.replies.part").write_bytes(kept)
    reward = json.loads((files / "rubric.yaml").read_text())
    reward["components"]["it"]["with"]["version"] = "2"
    (files / "rubric.yaml").write_text(json.dumps(reward))
    assert run([*CALIBRATE, "--out", "w.jsonl"]) == 0
    assert len(fake.requests) == before + 32


def test_kept_replies_stay_few(tmp_path, monkeypatch):
    """The file and the memory hold the newest ones."""
    monkeypatch.setattr(kept_replies, "MOST", 3)
    kept = KeptReplies(tmp_path / "o.jsonl")
    for number in range(20):
        kept.add(bytes([number]), {"n": number}, Usage(1, 2, 3))
    kept.close()
    assert len((tmp_path / "o.jsonl.replies.part").read_bytes().splitlines()) <= 7
    again = KeptReplies(tmp_path / "o.jsonl")
    assert (again.get(b"\x13"), again.get(b"\x00")) == (({"n": 19}, Usage(1, 2, 3)), None)


def test_a_finished_calibration_asks_nothing(files, fake, capsys):
    """Other labels and thresholds are measured on the verdicts that are there."""
    assert run(CALIBRATE) == 0
    before = len(fake.requests), json.loads(capsys.readouterr().out)["costs"]
    wrong = "".join(json.dumps({"label": not row["label"]}) + "\n" for row in ROWS)
    (files / "labels.jsonl").write_text(wrong)
    assert run([*CALIBRATE, "--labels", "labels.jsonl", "--threshold", "0.9"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["agreement"]["share"], found["already_complete"]) == (0.0, True)
    assert (len(fake.requests), found["costs"]) == before
    assert run([*CALIBRATE, "--fresh"]) == 0
    assert len(fake.requests) == 2 * before[0]


def test_calibrate_mixes_no_two_jobs(files, fake, capsys):
    """Verdicts about changed rows, or of a changed judge, are refused without a call; another address is the same judge."""
    assert run(CALIBRATE) == 0
    asked = len(fake.requests)
    reward = json.loads((files / "rubric.yaml").read_text())
    reward["components"]["it"]["with"] |= {"concurrency": 3, "tries": 2}
    (files / "rubric.yaml").write_text(json.dumps(reward))
    assert run(CALIBRATE) == 0
    reward["components"]["it"]["with"]["model"] = "other"
    (files / "rubric.yaml").write_text(json.dumps(reward))
    capsys.readouterr()
    assert run(CALIBRATE) == 2
    assert "model was m and is other" in capsys.readouterr().err
    reward["components"]["it"]["with"]["model"] = "m"
    (files / "rubric.yaml").write_text(json.dumps(reward))
    with (files / "rows.jsonl").open("a") as file:
        file.write(json.dumps({**ROWS[0], "prompt": "new"}) + "\n")
    assert run(CALIBRATE) == 2
    assert "rows.jsonl has changed since" in capsys.readouterr().err
    assert len(fake.requests) == asked


def test_rows_without_a_verdict_are_tried_again(files, fake, capsys):
    """They count as unscored, never as a verdict; `--retry` asks for them alone."""
    fake.answer = lambda body: (500, {}, {}) if "\nq1\n" in body["messages"][-1]["content"] else honest(body)
    assert run(CALIBRATE) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert (found["errors"]["unscored"]["count"], found["agreement"]["total"]) == (2, 6)
    assert "2 rows failed: see v.jsonl.rejected.jsonl; --retry unscored tries them again" in told.err
    fake.answer = honest
    asked = len(fake.requests)
    assert run([*CALIBRATE, "--retry", "unscored"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["errors"]["unscored"]["count"], found["agreement"]["count"]) == (0, 8)
    assert len(fake.requests) - asked == 4


def test_pairs_resume_too(files, fake, capsys):
    """A finished calibration of pairs is measured again from its output, in every format."""
    command = ["judge", "calibrate", "pairwise.yaml", "--data", "pairs.jsonl", "--out", "v.parquet", "--json"]
    assert run(command) == 0
    first = json.loads(capsys.readouterr().out)
    asked = len(fake.requests)
    assert run(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again.pop("already_complete"), first.pop("already_complete")) == (True, False)
    assert (again, len(fake.requests)) == (first, asked)


def test_calibrate_refuses_what_it_could_not_resume(files, fake, capsys):
    """Streams, and columns that verdicts would overwrite, are told before anything is asked."""
    assert run([*CALIBRATE[:3], "--data", "-", "--out", "v.jsonl"]) == 2
    assert "--data must be a file" in capsys.readouterr().err
    (files / "rows.jsonl").write_text(json.dumps({**ROWS[0], "judge_value": 1}) + "\n")
    assert run(CALIBRATE) == 2
    assert "rows.jsonl:1: column 'judge_value' would be overwritten" in capsys.readouterr().err
    assert fake.requests == []


def test_calibrate_without_any_score_fails(files, fake, capsys):
    """No row got a score: exit code 3, and the way to find out why."""
    fake.answer = lambda _body: (500, {}, {})
    assert run(["judge", "calibrate", "rubric.yaml", "--data", "rows.jsonl", "--out", "v.jsonl"]) == 3
    assert "rewardkit judge try" in capsys.readouterr().err


def test_a_run_tells_costs_and_asks_the_endpoint_first(files, fake, capsys):
    """`rewardkit score` adds up what judges cost, and refuses at the start an endpoint that is down."""
    command = ["score", "rows.jsonl", "--reward", "rubric.yaml", "--out", "scored.jsonl", "--no-cache", "--json"]
    assert run(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["components"]["it"]["costs"]["judge_calls"] == 16.0
    reward = json.loads((files / "rubric.yaml").read_text())
    reward["components"]["it"]["with"] |= {"preflight": True, "url": "http://127.0.0.1:1/v1"}
    (files / "rubric.yaml").write_text(json.dumps(reward))
    assert run([*command, "--fresh"]) == 2
    told = capsys.readouterr().err
    assert "rubric.yaml:1:45: judge.rubric" in told
    assert "http://127.0.0.1:1/v1/models can't be reached" in told


@pytest.mark.parametrize("name", ["scored.jsonl", "scored.parquet"])
def test_what_an_interrupted_scoring_spent_is_counted(files, fake, capsys, name):
    """Calls for rows that were not finished are in the summary of the run that finishes them."""
    command = ["score", "rows.jsonl", "--reward", "rubric.yaml", "--out", name, "--no-cache", "--json"]
    reward = json.loads((files / "rubric.yaml").read_text())
    reward["components"]["it"]["with"]["concurrency"] = 1
    (files / "rubric.yaml").write_text(json.dumps(reward))
    interrupt_at(fake, 6)
    assert run(command) == 130
    fake.answer = honest
    asked = len(fake.requests)
    capsys.readouterr()
    assert run(command) == 0
    calls = json.loads(capsys.readouterr().out)["components"]["it"]["costs"]["judge_calls"]
    assert len(fake.requests) - asked + 5 <= calls <= len(fake.requests)
