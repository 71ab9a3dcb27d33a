"""Files and folders are recognised, read as scored rows, and followed while they grow."""

import json
import struct
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewardkit.errors import DataError
from tests.view.conftest import scored_rows, write_parquet

SAMPLE = {"step": 1, "prompt": "1+1?", "completion": "2", "reward": 1.0, "finish_reason": "stop", "tokens": 3}


def lines(*rows):
    """Return rows as lines of JSON."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def make_run(folder, *samples):
    """Write the folder of a training run."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"config": {"stage": "grpo"}, "versions": {}, "data": {}}))
    (folder / "metrics.jsonl").write_text(lines({"step": 1, "kind": "train", "reward": 0.5, "kl": None}))
    (folder / "samples.jsonl").write_text(lines(*samples))
    return folder


def test_a_run_is_followed_while_it_goes_on(tmp_path, opened):
    """New rollouts and metrics appear with the next request; a line that is still being written does not."""
    run = make_run(tmp_path / "run", SAMPLE | {"components": {"correct": {"value": 1.0, "reason": "right"}}})
    ask = opened(run)
    first = ask("state")["sources"][0]
    assert (first["kind"], first["rows"], first["has_metrics"]) == ("training run", 1, True)
    with (run / "samples.jsonl").open("a") as stream:
        stream.write(
            lines(SAMPLE | {"step": 2, "components": {"new": {"value": None, "reason": "skipped"}}})
            + '{"step": 3, "pro'
        )
    second = ask("state")["sources"][0]
    assert (second["rows"], second["version"] > first["version"]) == (2, True)
    assert "component:new" in {column["id"] for column in second["columns"]}
    assert ask("0/rows", sort="-step")["rows"][0]["status:new"] == "no value"
    with (run / "samples.jsonl").open("a") as stream:
        stream.write('mpt": "2+2?", "completion": "4", "reward": null}\n')
    assert ask("state")["sources"][0]["rows"] == 3
    assert ask("0/rows", q="2+2")["rows"][0]["status"] == "unscored"
    before = ask("state")["sources"][0]["version"]
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write(lines({"step": 2, "kind": "train", "reward": 0.75}))
    assert ask("state")["sources"][0]["version"] == before + 1
    assert ask("0/metrics")["series"] == {"train": {"reward": [[1, 0.5], [2, 0.75]]}}


def test_a_run_that_goes_back_to_a_checkpoint_is_read_again(tmp_path, opened):
    """A resumed run cuts its files; rows that are gone are no longer shown."""
    run = make_run(tmp_path / "run", SAMPLE, SAMPLE | {"step": 2}, SAMPLE | {"step": 3})
    ask = opened(run)
    (run / "samples.jsonl").write_text(lines(SAMPLE, SAMPLE | {"step": 2, "completion": "another"}))
    assert ask("state")["sources"][0]["rows"] == 2
    assert [row["completion"] for row in ask("0/rows")["rows"]] == ["2", "another"]


def test_a_run_that_has_not_begun_to_save_rollouts_is_shown(tmp_path, opened):
    """A run without samples.jsonl, such as one of SFT, has its curves."""
    run = make_run(tmp_path / "run")
    (run / "samples.jsonl").unlink()
    ask = opened(run)
    assert ask("0/rows") == {"total": 0, "rows": []}
    assert ask("0/groups")["total"] == ask("0/rows", q="x")["total"] == 0
    assert ask("0/summary")["numbers"][0]["bins"] == []
    (run / "samples.jsonl").write_text(lines(SAMPLE))
    assert ask("state")["sources"][0]["rows"] == 1


def test_a_scored_file_that_is_written_again_is_read_again(tmp_path, opened):
    """The rows and columns of the new file are shown."""
    path = write_parquet(tmp_path / "s.parquet", scored_rows(4))
    ask = opened(path)
    (tmp_path / "new.parquet").write_bytes(b"")
    write_parquet(tmp_path / "new.parquet", [row | {"extra": 1.5} for row in scored_rows(8)])
    (tmp_path / "new.parquet").replace(path)
    source = ask("state")["sources"][0]
    assert source["rows"] == 8
    assert ask("0/rows", sort="-field:extra")["rows"][0]["field:extra"] == 1.5


def test_answers_of_an_evaluation_are_one_source_for_each_model(tmp_path, opened):
    """Two models are compared by prompt, since prompts are named by their number."""
    answer = {
        "prompt": 0,
        "place": -1,
        "right": True,
        "reward": 1.0,
        "components": {"correct": 1.0},
        "tokens": 5,
        "is_cut": False,
        "answer": "42",
        "text": "so 42",
    }
    (tmp_path / "answers-aa.jsonl").write_text(lines(answer, answer | {"place": 0, "reward": 0.0, "right": False}))
    (tmp_path / "answers-bb.jsonl").write_text(lines(answer | {"is_cut": True}))
    ask = opened(tmp_path)
    assert [source["kind"] for source in ask("state")["sources"]] == ["evaluation", "evaluation"]
    assert ask("compare/0/1")["prompts"][0]["difference"] == 0.5
    row = ask("0/row/0")
    assert row["completion"][0]["pieces"][-1] == {"text": "42", "components": ["correct"]}
    assert ask("1/rows", f='["field:finish_reason","=","length"]')["total"] == 1


NODES = [
    {"message": {"role": "system", "content": "Add."}},
    {"parent": 0, "message": {"role": "user", "content": "2+2?"}},
    {
        "parent": 1,
        "message": {"role": "assistant", "content": "", "tool_calls": [{"name": "add", "arguments": "{}"}]},
        "sampled": True,
    },
    {"parent": 2, "message": {"role": "tool", "content": "4"}},
    {"parent": 3, "message": {"role": "assistant", "content": "It is 4."}, "sampled": True},
]
EPISODE = {
    "env": {"id": "add"},
    "task": {"type": "T", "data": {"idx": 0, "prompt": "2+2?", "answer": "4"}, "key": "k1"},
    "traces": [
        {
            "task": {"type": "T", "data": {"answer": "4"}, "key": "k1"},
            "nodes": NODES,
            "ok": True,
            "rewards": {"right": {"score": 1.0, "weight": 0.5}, "style": {"score": 0.5, "weight": 1.0}},
            "metrics": {"turns": 2.0},
        },
        {
            "task": {"type": "T", "data": {}, "key": "k1"},
            "nodes": NODES[:2],
            "rewards": {"right": None, "style": {"score": 0.5, "weight": 1.0}},
            "errors": [{"type": "TaskError", "message": "no sandbox"}],
        },
    ],
}


def test_traces_of_verifiers_are_rows_with_their_rewards(tmp_path, opened):
    """The last branch is the completion, weights count, and a trace without a score is unscored."""
    (tmp_path / "traces.jsonl").write_text(lines(EPISODE))
    ask = opened(tmp_path / "traces.jsonl")
    assert ask("state")["sources"][0]["kind"] == "traces of verifiers"
    first, second = ask("0/rows")["rows"]
    assert (first["reward"], first["component:right"], first["field:turns"]) == (1.0, 1.0, 2.0)
    assert (second["reward"], second["status:right"]) == (None, "unscored (infra)")
    row = ask("0/row/0")
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert [message["role"] for message in row["completion"]] == ["assistant", "tool", "assistant"]
    assert row["completion"][0]["pieces"][0]["text"] == "[tool call add({})]"
    assert "no sandbox" in ask("0/row/1")["components"][0]["reason"]
    assert ask("0/groups")["groups"][0]["key"] == "k1"


def test_results_of_earlier_verifiers(tmp_path, opened):
    """Their metrics are components; a row with an error is unscored."""
    result = {
        "example_id": 3,
        "prompt": [{"role": "user", "content": "2+2?"}],
        "completion": [{"role": "assistant", "content": "4"}],
        "answer": "4",
        "reward": 1.0,
        "metrics": {"right": 1.0},
        "error": None,
        "info": {},
        "token_usage": {"output_tokens": 2.0},
    }
    (tmp_path / "results.jsonl").write_text(lines(result, result | {"error": "ModelError: down", "reward": 0.0}))
    ask = opened(tmp_path / "results.jsonl")
    first, second = ask("0/rows")["rows"]
    assert (first["reward"], first["component:right"], first["length"], first["group"]) == (1.0, 1.0, 2, "3")
    assert (second["reward"], second["status"]) == (None, "unscored")


def test_rollouts_of_nemo_gym(tmp_path, opened):
    """The answer's items are the completion; a rollout that could not be judged is unscored."""
    rollout = {
        "responses_create_params": {"input": [{"role": "user", "content": "2+2?"}]},
        "response": {
            "output": [{"role": "assistant", "type": "message", "content": [{"type": "output_text", "text": "4"}]}],
            "status": "completed",
            "usage": {"output_tokens": 7},
        },
        "expected_answer": "4",
        "reward": 1.0,
        "reward_components": {"right": 1.0},
        "_ng_task_index": 5,
    }
    (tmp_path / "r.jsonl").write_text(lines(rollout, rollout | {"reward": 0.0, "_ng_failure_class": "judge_failed"}))
    ask = opened(tmp_path / "r.jsonl")
    assert ask("state")["sources"][0]["kind"] == "rollouts of NeMo-Gym"
    first, second = ask("0/rows")["rows"]
    assert (first["completion"], first["length"], first["component:right"], first["group"]) == ("4", 7, 1.0, "task 5")
    assert (second["reward"], second["field:failure"]) == (None, "judge_failed")


def test_completions_of_trl(tmp_path, opened):
    """All files of the folder are one source; each numeric column is a reward, and a missing value does not apply."""
    for step in (1, 2):
        table = {
            "step": [step, step],
            "prompt": ["p", "p"],
            "completion": [f"a{step}", "b"],
            "right": [1.0, None],
            "style": [0.5, 0.25],
            "advantage": [0.7, -0.7],
        }
        pq.write_table(pa.table(table), tmp_path / f"completions_{step:05d}.parquet")
    ask = opened(tmp_path)
    assert ask("state")["sources"][0] | {"columns": 0, "path": ""} == {
        "title": tmp_path.name,
        "kind": "completions of TRL",
        "path": "",
        "rows": 4,
        "version": 1,
        "has_metrics": False,
        "columns": 0,
    }
    row = ask("0/rows", sort="-step")["rows"][1]
    assert (row["step"], row["reward"], row["status:right"], row["field:advantage"]) == (
        2,
        0.25,
        "not_applicable",
        -0.7,
    )
    pq.write_table(
        pa.table({"step": [3], "prompt": ["p"], "completion": ["c"], "right": [0.0], "advantage": [0.0]}),
        tmp_path / "completions_00003.parquet",
    )
    assert ask("state")["sources"][0]["rows"] == 5


INSPECT_SAMPLE = {
    "id": 1,
    "epoch": 1,
    "input": "2+2?",
    "target": "4",
    "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "It is 4"}],
    "output": {"completion": "It is 4", "usage": {"output_tokens": 4}},
    "metadata": {"topic": "sums"},
    "scores": {
        "match": {"value": "C", "answer": "4", "explanation": "equal"},
        "graded": {"value": None, "reason": "parse"},
    },
}


@pytest.mark.parametrize("form", ["json", "deflate", "zstd"])
def test_logs_of_inspect(tmp_path, opened, form):
    """Grades are values, an unscored one is none, and what the scorer read is marked."""
    if form == "json":
        path = tmp_path / "log.json"
        path.write_text(json.dumps({"eval": {}, "samples": [INSPECT_SAMPLE]}).replace("null", "NaN"))
    else:
        path = tmp_path / "log.eval"
        content = json.dumps(INSPECT_SAMPLE).encode()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.json", "{}")
            if form == "deflate":
                archive.writestr("samples/1_epoch_1.json", content)
        if form == "zstd":
            _write_zstd(path, "samples/1_epoch_1.json", content)
    ask = opened(path)
    row = ask("0/rows")["rows"][0]
    assert (row["reward"], row["component:match"], row["status:graded"]) == (1.0, 1.0, "unscored")
    assert (row["field:topic"], row["length"], row["group"]) == ("sums", 4, "sample 1")
    assert ask("0/row/0")["completion"][0]["pieces"][-1] == {"text": "4", "components": ["match"]}


def _write_zstd(path, name, content):
    """Add a member that is compressed with Zstandard, as Inspect writes it, to an empty archive."""
    with zipfile.ZipFile(path, "w") as archive:
        packed = pa.compress(content, "zstd", asbytes=True)
        info = zipfile.ZipInfo(name)
        archive.writestr(info, packed)
    data = bytearray(path.read_bytes())
    data[8:10] = struct.pack("<H", 93)
    place = data.rfind(b"PK\x01\x02")
    data[place + 10 : place + 12] = struct.pack("<H", 93)
    path.write_bytes(bytes(data))


def test_a_dump_of_verl_is_recognised(tmp_path, opened):
    """Its input, output and score are prompt, completion and reward."""
    (tmp_path / "1.jsonl").write_text(lines({"input": "p", "output": "c", "score": 0.5, "step": 1, "gts": "4"}))
    row = opened(tmp_path / "1.jsonl")("0/rows")["rows"][0]
    assert (row["prompt"], row["completion"], row["reward"], row["step"]) == ("p", "c", 0.5, 1)


def test_a_folder_shows_all_that_it_holds(tmp_path, opened):
    """Runs and files are found below the folder; other files are left out."""
    make_run(tmp_path / "a", SAMPLE)
    write_parquet(tmp_path / "s.parquet", scored_rows(4))
    (tmp_path / "data.jsonl").write_text(lines({"question": "?"}))
    (tmp_path / "notes.txt").write_text("x")
    assert [source["title"] for source in opened(tmp_path)("state")["sources"]] == ["a", "s.parquet"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.parquet", None, "does not exist"),
        ("text.parquet", b"nonsense", "can't be read"),
        ("empty.jsonl", b"", "has no rows"),
        ("data.jsonl", b'{"question": 1}\n', "has the keys question: prompt, completion and reward are needed"),
        (
            "broken.jsonl",
            b'{"prompt": "p", "completion": "c", "reward": 1}\n{"prom\n{}\n',
            "broken.jsonl:2 is not JSON",
        ),
        ("list.jsonl", b"[1]\n", "not a JSON object but list"),
        ("log.eval", b"nonsense", "can't be read as a log of Inspect"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_a_reason(tmp_path, opened, name, content, message):
    """The error names the file, what was found and what is needed."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(tmp_path / name)


def test_an_empty_folder_is_refused(tmp_path, opened):
    """A folder without anything to show says what could be."""
    with pytest.raises(DataError, match="holds nothing that can be shown"):
        opened(tmp_path)


def test_data_that_was_not_scored_is_refused(tmp_path, opened):
    """A Parquet file without a reward says how to score it."""
    pq.write_table(pa.table({"prompt": ["p"], "completion": ["c"]}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="rewardkit score"):
        opened(tmp_path / "d.parquet")


def test_the_temporary_folder_is_removed(tmp_path, opened):
    """Nothing stays on disk after the viewer."""
    ask = opened(write_parquet(tmp_path / "s.parquet", scored_rows(4)))
    folder = ask.sources.database.folder
    assert folder.is_dir()
    ask.sources.close()
    assert not folder.exists()
