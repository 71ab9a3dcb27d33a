"""Traces and results of verifiers: episodes of its version 1 (``traces.jsonl``), rows of earlier ones (``results.jsonl``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def is_episode(row: Mapping[str, Any]) -> bool:
    """Return whether a row is an episode of version 1."""
    return isinstance(row.get("traces"), list) and "task" in row


def is_result(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a result of a version before 1."""
    return {"example_id", "prompt", "completion", "reward"} <= row.keys()


def from_episode(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a scored row for each trace of an episode."""
    group = row.get("group")
    for trace in row["traces"]:
        task = trace.get("task") or row.get("task") or {}
        data = task.get("data") or {}
        prompt, completion = _messages(trace.get("nodes") or [])
        failure = _failure(trace)
        rewards = trace.get("rewards") or {}
        components: dict[str, dict[str, Any]] = {
            name: {"value": reward.get("score"), "weight": reward.get("weight", 1.0), "status": "scored"}
            if isinstance(reward, Mapping)
            else {"value": None, "status": "unscored", "kind": "infra", "reason": failure or "scoring did not run"}
            for name, reward in rewards.items()
        }
        known = [part["value"] * part["weight"] for part in components.values() if part["value"] is not None]
        unscored = not components or len(known) < len(components) or not trace.get("ok", True)
        yield {
            "prompt": prompt or data.get("prompt") or "",
            "completion": completion or trace.get("root_reply") or "",
            "group": (group or {}).get("id") or task.get("key") or task.get("hash") or data.get("id"),
            "reward": None if unscored else sum(known),
            "reward_status": "unscored" if unscored else "scored",
            "components": components,
            **{name: value for name, value in (trace.get("metrics") or {}).items() if value is not None},
            "answer": data.get("answer"),
            "stop_condition": trace.get("stop_condition"),
            "num_tokens": trace.get("num_output_tokens") or None,
            **({"error": failure} if failure else {}),
            "task": data,
        }


def from_result(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the scored row of a result."""
    error = row.get("error")
    usage = row.get("token_usage") or {}
    tokens = usage.get("output_tokens")
    metrics = {name: value for name, value in (row.get("metrics") or {}).items() if value is not None}
    yield {
        "prompt": row.get("prompt"),
        "completion": row.get("completion"),
        "group": str(row.get("example_id")),
        "reward": None if error else row.get("reward"),
        "reward_status": "unscored" if error else "scored",
        "components": {name: {"value": value, "status": "scored"} for name, value in metrics.items()},
        "answer": row.get("answer"),
        "task": row.get("task"),
        "stop_condition": row.get("stop_condition"),
        "num_tokens": None if tokens is None else int(tokens),
        "info": row.get("info"),
        **({"error": error if isinstance(error, str) else str(error)} if error else {}),
    }


def _messages(nodes: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return the messages of the last branch, up to the first one that a model wrote, and from it on."""
    sampled = [index for index, node in enumerate(nodes) if node.get("sampled")]
    index: int | None = sampled[-1] if sampled else len(nodes) - 1
    path: list[Any] = []
    seen: set[int] = set()
    while index is not None and 0 <= index < len(nodes) and index not in seen:
        seen.add(index)
        path.insert(0, nodes[index])
        index = nodes[index].get("parent")
    first = next((place for place, node in enumerate(path) if node.get("sampled")), len(path))
    messages = [_message(node.get("message") or {}) for node in path]
    return messages[:first], messages[first:]


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message with its tool calls as text."""
    content = message.get("content") or ""
    calls = [f"[tool call {call.get('name')}({call.get('arguments')})]" for call in message.get("tool_calls") or ()]
    if calls and isinstance(content, str):
        content = "\n".join([content, *calls] if content else calls)
    return {"role": message.get("role") or "unknown", "content": content}


def _failure(trace: Mapping[str, Any]) -> str:
    errors = trace.get("errors") or []
    return f"{errors[-1].get('type')}: {errors[-1].get('message')}" if errors else ""
