"""The schemas and examples of each route in the OpenAPI document. Bodies are read elsewhere, without these models."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_CHAT = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "object", "properties": {"role": _TEXT}, "required": ["role"]},
}
_TEXT_OR_CHAT = {"oneOf": [_TEXT, _CHAT]}
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_ROW = {
    "type": "object",
    "description": "A prompt and a completion; every other key is a column that rewards may read.",
    "properties": {
        "prompt": _TEXT_OR_CHAT,
        "completion": _TEXT_OR_CHAT,
        "group": {"type": ["string", "integer", "null"]},
        "num_tokens": {"type": ["integer", "null"]},
        "finish_reason": {"type": ["string", "null"]},
    },
    "required": ["prompt", "completion"],
}
_COMPONENT = {
    "type": "object",
    "properties": {
        "value": _NUMBER_OR_NULL,
        "weight": {"type": "number"},
        "contribution": _NUMBER_OR_NULL,
        "status": {"enum": ["scored", "unscored", "not_applicable", "skipped"]},
        "reason": _TEXT,
        "kind": _TEXT,
        "metrics": {"type": "object"},
    },
    "required": ["value", "weight", "contribution", "status", "reason"],
}
_RESULT = {
    "type": "object",
    "properties": {
        "reward": _NUMBER_OR_NULL,
        "reward_status": {"enum": ["scored", "unscored"]},
        "unscored": {
            "type": ["object", "null"],
            "properties": {"kind": {"enum": ["infra", "timeout", "reference", "input", "plugin"]}, "message": _TEXT},
        },
        "components": {"type": "object", "additionalProperties": _COMPONENT},
    },
    "required": ["reward", "reward_status", "unscored", "components"],
}
_ERROR = {
    "type": "object",
    "properties": {
        "error": _TEXT,
        "kind": {"type": "string", "description": "The kind of failure of an unscored rollout."},
        "rows": {
            "type": "array",
            "items": {"type": "object", "properties": {"row": {"type": "integer"}, "reason": _TEXT}},
        },
    },
    "required": ["error"],
}
_ERRORS = {
    400: "The body is not JSON.",
    401: "The token is missing or wrong.",
    403: "The request names an unknown host.",
    409: "This protocol can't serve this reward; the message says why.",
    413: "The body is too large, or holds more rollouts than may be in flight.",
    415: "The Content-Type is not JSON.",
    422: "The body, a row or a parameter can't be used. Nothing was scored.",
    429: "Too many rollouts are in flight. Try again after Retry-After seconds.",
    503: "The service is stopping or too many bytes are in flight, or a rollout could not be scored and the protocol has no word for that.",
}
_EXAMPLE_ROW = {"prompt": "What is 2+3?", "completion": "It is \\boxed{5}.", "answer": "5"}
_EXAMPLE_RESULT = {
    "reward": 1.0,
    "reward_status": "scored",
    "unscored": None,
    "components": {
        "correct": {"value": 1.0, "weight": 1.0, "contribution": 1.0, "status": "scored", "reason": "5 equals 5"}
    },
}
_REWARDS = {"type": "array", "items": {"type": "number"}}


def _json(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


STEP = {
    "parameters": [
        {
            "name": "step",
            "in": "query",
            "description": "The training step for weight schedules.",
            "schema": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1, "default": 0},
        }
    ]
}
SCORE_BODY = {
    **_json(_object({"rows": {"type": "array", "items": _ROW}}), {"rows": [_EXAMPLE_ROW]}),
    "application/x-ndjson": {
        "schema": _TEXT,
        "example": '{"prompt": "2+3?", "completion": "\\\\boxed{5}", "answer": "5"}\n',
    },
}
SCORE_ANSWER = {
    **_json(
        _object({"reward_id": _TEXT, "results": {"type": "array", "items": _RESULT}}),
        {"reward_id": "1a2b3c4d5e6f", "results": [_EXAMPLE_RESULT]},
    ),
    "application/x-ndjson": {"schema": _TEXT},
}
OPENRLHF_BODY = _json(
    _object(
        {"query": {"type": "array", "items": _TEXT}, "prompts": {"type": "array", "items": _TEXT}},
        {"labels": {"type": "array"}},
    ),
    {"query": ["What is 2+3?It is \\boxed{5}."], "prompts": ["What is 2+3?"], "labels": ["5"]},
)
OPENRLHF_ANSWER = _json(
    _object(
        {"rewards": _REWARDS, "scores": _REWARDS, "extra_logs": {"type": "object", "additionalProperties": _REWARDS}}
    ),
    {"rewards": [1.0], "scores": [1.0], "extra_logs": {"correct": [1.0]}},
)
SLIME_BODY = _json(
    _object({"prompt": _TEXT_OR_CHAT, "response": _TEXT}, {"label": {}}),
    {"prompt": "What is 2+3?", "response": "It is \\boxed{5}.", "label": "5"},
)
SLIME_ANSWER = _json({"type": "number"}, 1.0)
_EXAMPLE_VERIFY = {
    "responses_create_params": {"input": [{"role": "user", "content": "What is 2+3?"}]},
    "response": {
        "status": "completed",
        "output": [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It is \\boxed{5}."}]}
        ],
    },
    "answer": "5",
}
GYM_BODY = _json(
    _object(
        {
            "responses_create_params": _object({"input": _TEXT_OR_CHAT}),
            "response": _object({"output": {"type": "array", "items": {"type": "object"}}}),
        }
    ),
    _EXAMPLE_VERIFY,
)
GYM_ANSWER = _json(
    _object({"reward": {"type": "number"}, "mask_sample": {"type": "boolean"}}),
    {**_EXAMPLE_VERIFY, "reward": 1.0, "mask_sample": False, "correct": 1.0, "reward_components": {"correct": 1.0}},
)
SEED_BODY = _json({"type": "object"}, {})
SEED_ANSWER = _json({"type": "object"}, {})
AGGREGATE_BODY = _json(
    _object({"verify_responses": {"type": "array", "items": {"type": "object"}}}),
    {"verify_responses": [{"_ng_task_index": 0, "reward": 1.0}, {"_ng_task_index": 0, "reward": 0.0}]},
)
AGGREGATE_ANSWER = _json(
    _object(
        {
            "group_level_metrics": {"type": "array", "items": {"type": "object"}},
            "agent_metrics": {"type": "object"},
            "key_metrics": {"type": "object"},
        }
    ),
    {
        "group_level_metrics": [{"_ng_task_index": 0, "mean/reward": 0.5}],
        "agent_metrics": {"mean/reward": 0.5, "masked": 0, "scored": 2},
        "key_metrics": {"mean/reward": 0.5},
    },
)


def responses(answer: dict[str, Any] | None, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route: 200 with the content given, and errors."""
    found: dict[int | str, dict[str, Any]] = {
        200: {"description": "The answer.", **({"content": answer} if answer else {})}
    }
    for status in statuses:
        found[status] = {"description": _ERRORS[status], "content": {"application/json": {"schema": _ERROR}}}
    return found


def body(content: dict[str, Any]) -> dict[str, Any]:
    """Return a route's request body."""
    return {"requestBody": {"required": True, "content": content}}
