"""The service against its own OpenAPI document."""

import os

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis, of the extra dev")

from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi import checks

EXAMPLES = int(os.environ.get("REWARDKIT_EXAMPLES", "10"))
"""For each route."""
PATHS = ["/score", "/get_reward", "/slime", "/verify", "/seed_session", "/aggregate_metrics", "/health", "/ready"]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_documented(serving, path: str) -> None:
    """Whatever a request holds, its answer has a documented status, type and schema, and is never 500."""
    client = serving("version: 1\ncomponents: {size: {use: toy.size}}\n", hosts=["*"], retry_for_s=0)
    document = client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    operation = schema[path]["GET" if path in {"/health", "/ready"} else "POST"]
    statuses = set()
    if (
        "post" in document["paths"][path]
    ):  # what is drawn depends on the modules of the process, and may hold no right request
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        statuses.add(client.post(path, json=example).status_code)

    @given(operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case) -> None:
        parts = case.as_transport_kwargs(base_url="http://localhost")
        parts.pop("cookies", None)
        headers = dict(parts.pop("headers"))
        answer = client.request(headers=headers, content=parts.pop("data", None), **parts)
        statuses.add(answer.status_code)
        assert answer.status_code != 500
        case.validate_response(
            answer,
            checks=[
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ],
        )

    send()
    assert 200 in statuses or path == "/verify"


def test_all_routes_are_fuzzed(serving) -> None:
    """No route is left out here."""
    assert set(PATHS) | {"/metrics"} == set(serving().get("/openapi.json").json()["paths"])
