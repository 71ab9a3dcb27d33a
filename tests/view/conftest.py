"""A scored file, and the viewer's application without a socket."""

import contextlib

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("duckdb", reason="needs rewardkit[view]")
pytest.importorskip("starlette", reason="needs rewardkit[view]")

from starlette.testclient import TestClient

from rewardkit.view.app import application
from rewardkit.view.sources import Sources

TOKEN = "token-for-tests"


def scored_rows(count=12, *, better=0.0):
    """Rows in groups of four; the third of each group is unscored, the first of every other group has reward 1."""
    rows = []
    for index in range(count):
        group, place = divmod(index, 4)
        right = place == 0 and group % 2 == 0
        unscored = place == 2
        value = None if unscored else float(right) + better
        rows.append(
            {
                "prompt": f"What is {group} + {group}?",
                "completion": f"I think it is {2 * group + (not right)}. It's 'so' {index}",
                "group": f"g{group}",
                "answer": str(2 * group),
                "reward": value,
                "reward_status": "unscored" if unscored else "scored",
                "reward_id": "abc",
                "components": {
                    "cor'rect\"": {
                        "value": value,
                        "weight": 1.0,
                        "contribution": value,
                        "status": "unscored" if unscored else "scored",
                        "reason": "the service was down" if unscored else f"prediction '{2 * group}' (bare)",
                        "kind": "infra" if unscored else None,
                    },
                    "length": {
                        "value": float(index),
                        "weight": 0.0,
                        "contribution": 0.0,
                        "status": "scored",
                        "reason": "",
                        "kind": None,
                    },
                },
            }
        )
    return rows


def write_parquet(path, rows):
    """Write rows as a Parquet file, as `rewardkit score` does."""
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@contextlib.contextmanager
def opening():
    """Yield a function that opens paths and returns a function which asks the viewer for an address."""
    with contextlib.ExitStack() as stack:

        def open_paths(*paths):
            sources = Sources(paths)
            stack.callback(sources.close)
            client = TestClient(application(sources, TOKEN), base_url="http://127.0.0.1:8078")

            def ask(path, status=200, **parameters):
                response = client.get(f"/{TOKEN}/api/{path}", params=parameters)
                assert response.status_code == status, response.text
                return response.json()

            ask.client = client
            ask.sources = sources
            return ask

        yield open_paths


@pytest.fixture
def opened():
    """A function that opens paths and returns a function which asks the viewer for an address."""
    with opening() as function:
        yield function


@pytest.fixture(scope="module", params=["parquet", "jsonl"])
def scored(request, tmp_path_factory):
    """The viewer of a scored file, in both ways in which rows are kept."""
    folder = tmp_path_factory.mktemp("scored")
    path = folder / f"s.{request.param}"
    if request.param == "parquet":
        write_parquet(path, scored_rows())
    else:
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in scored_rows()))
    with opening() as function:
        yield function(path)
