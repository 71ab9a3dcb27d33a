"""The JSON Schema (draft 2020-12) of reward files, with the parameters of every installed reward."""

from __future__ import annotations

from typing import Any

from pydantic.errors import PydanticUserError

from rewardkit import user_functions
from rewardkit.config.params import params_schema
from rewardkit.registry import OfferedReward, Registry

_NUMBER = {"type": "number"}
_STEP = {"type": "integer", "minimum": 0}
_PAIR = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}

_RAMP = {
    "type": "object",
    "properties": {
        "from": {**_NUMBER, "description": "Weight up to the first step."},
        "to": {**_NUMBER, "description": "Weight from the last step on."},
        "steps": {
            "type": "array",
            "items": _STEP,
            "minItems": 2,
            "maxItems": 2,
            "description": "First and last training step of the change.",
        },
    },
    "required": ["from", "to", "steps"],
    "additionalProperties": False,
}

_WEIGHT = {
    "description": "A number, or a schedule over training steps.",
    "default": 1.0,
    "if": {"type": "object"},
    "then": {
        "properties": {
            "linear": _RAMP,
            "cosine": _RAMP,
            "steps": {
                "type": "array",
                "description": "Pairs [step, weight]: each weight holds from its step on.",
                "items": {"type": "array", "prefixItems": [_STEP, _NUMBER], "minItems": 2, "maxItems": 2},
                "minItems": 1,
            },
        },
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    },
    "else": _NUMBER,
}

_SCALE = {
    "description": "'zscore' or 'minmax' over the rollout's group, or {minmax: [low, high]} for a fixed range.",
    "if": {"type": "object"},
    "then": {"properties": {"minmax": _PAIR}, "required": ["minmax"], "additionalProperties": False},
    "else": {"enum": ["zscore", "minmax"]},
}

_LIMITS = {
    "type": "object",
    "description": "Limits of the calls of a reward that waits for a service.",
    "properties": {
        "endpoint": {
            "type": "string",
            "description": "The address of the service. Components that name the same one share its limit and its failures.",
        },
        "concurrency": {"type": "integer", "minimum": 1, "description": "The most calls at once."},
        "batch": {"type": "integer", "minimum": 1, "description": "The most rollouts in one call."},
        "tries": {"type": "integer", "minimum": 1, "description": "Attempts per call."},
        "pause": {**_NUMBER, "minimum": 0, "description": "Seconds before the second attempt; doubles each time."},
        "down_after": {
            "type": "integer",
            "minimum": 0,
            "description": "Failed calls in a row after which the service is not called for a while; 0 for never.",
        },
        "down_for": {**_NUMBER, "minimum": 0, "description": "Seconds for which it is then not called."},
    },
    "additionalProperties": False,
    "minProperties": 1,
}

_CLIP = {**_PAIR, "description": "Lowest and highest value let through."}
COMPONENT_NAME = "^[A-Za-z_][A-Za-z0-9_]*$"

_COMPOSITE = {
    "gate": {
        "type": "string",
        "description": "Condition on components. Where it is false, the reward is gate_value and the other components are not run.",
    },
    "gate_value": {**_NUMBER, "default": 0.0, "description": "The reward of a rollout for which the gate is false."},
    "combine": {
        "enum": ["sum", "mean", "product", "min", "normalized_sum"],
        "default": "sum",
        "description": "How the weighted values of the components are combined.",
    },
    "clip": {**_CLIP, "description": "Lowest and highest reward."},
}

_UNSCORED = {
    "type": "object",
    "description": "What to do with rollouts that can't be scored.",
    "properties": {
        "policy": {
            "enum": ["exclude", "zero", "fail"],
            "default": "exclude",
            "description": "exclude: they get no reward; zero: they get a reward of 0; fail: the first one ends the run.",
        },
        "abort_above": {
            **_NUMBER,
            "minimum": 0,
            "maximum": 1,
            "default": 0.1,
            "description": "The run fails if more than this share of rollouts is unscored.",
        },
    },
    "additionalProperties": False,
}


def reward_schema(registry: Registry) -> dict[str, Any]:
    """Return the JSON Schema of reward files.

    Args:
        registry: The plugins whose rewards are included. Rewards whose names clash are left out.
    """
    offers = [offers[0] for _, offers in sorted(registry.rewards.items()) if len(offers) == 1]
    components = {
        "type": "object",
        "description": "The components of the reward, by names of your choice.",
        "propertyNames": {"pattern": COMPONENT_NAME},
        "additionalProperties": {"$ref": "#/$defs/component"},
        "minProperties": 1,
    }
    composite = {"components": components, **_COMPOSITE}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rewardkit composite reward",
        "type": "object",
        "properties": {
            "version": {"const": 1, "description": "The version of the file format."},
            **composite,
            "unscored": _UNSCORED,
            "composites": {
                "type": "object",
                "description": "Several composites; the routes select one for each row.",
                "propertyNames": {"pattern": COMPONENT_NAME},
                "additionalProperties": {
                    "type": "object",
                    "properties": composite,
                    "required": ["components"],
                    "additionalProperties": False,
                },
                "minProperties": 1,
            },
            "routes": {
                "type": "array",
                "description": "Rules that select a composite; the first rule whose patterns all match a row is used.",
                "items": {
                    "type": "object",
                    "properties": {
                        "match": {
                            "type": "object",
                            "description": "Glob patterns by column, such as {data_source: 'openai/*'}; {} matches every row.",
                            "additionalProperties": {"type": "string"},
                        },
                        "composite": {"type": "string", "description": "The name of one of the composites."},
                    },
                    "required": ["match", "composite"],
                    "additionalProperties": False,
                },
                "minItems": 1,
            },
        },
        "required": ["version"],
        "oneOf": [
            {"required": ["components"], "not": {"required": ["routes"]}},
            {"required": ["composites", "routes"]},
        ],
        "additionalProperties": False,
        "$defs": {"component": _component_schema(offers)},
    }


def _component_schema(offers: list[OfferedReward]) -> dict[str, Any]:
    rules = []
    for offer in offers:
        try:
            params = _closed(params_schema(offer.type))
        except PydanticUserError as error:
            params = {"description": f"can't be described: {error.message.splitlines()[0]}"}
        then: dict[str, Any] = {"properties": {"with": params}}
        if params.get("required"):
            then["required"] = ["with"]
        rules.append({"if": {"properties": {"use": {"const": offer.type.name}}, "required": ["use"]}, "then": then})
    any_function = user_functions.function_type("file.py:name", user_functions.FunctionSource("", "", None))
    rules.append(
        {
            "if": {"properties": {"use": {"type": "string", "pattern": user_functions.PATTERN}}, "required": ["use"]},
            "then": {"properties": {"with": _closed(params_schema(any_function))}},
        }
    )
    component: dict[str, Any] = {
        "type": "object",
        "properties": {
            "use": {
                "anyOf": [
                    {"enum": [offer.type.name for offer in offers]},
                    {"type": "string", "pattern": user_functions.PATTERN},
                ],
                "description": "The name of an installed reward, or a function: file.py:name or package.module:name.",
            },
            "with": {"type": "object", "description": "The parameters of the reward."},
            "weight": _WEIGHT,
            "when": {
                "type": "string",
                "description": "Condition on other components and on columns. Where it is false, this component is not run.",
            },
            "scale": _SCALE,
            "clip": {**_CLIP, "description": "Lowest and highest value after scaling."},
            "limits": _LIMITS,
            "timeout": {
                **_NUMBER,
                "exclusiveMinimum": 0,
                "description": "Time limit per rollout in seconds, for rewards that run in worker processes or wait for services.",
            },
        },
        "required": ["use"],
        "additionalProperties": False,
    }
    return {**component, "allOf": rules}


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose ``$defs`` are inlined, so that it can be embedded anywhere."""
    definitions = schema.get("$defs", {})

    def inline(value: Any, open_names: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [inline(item, open_names) for item in value]
        if not isinstance(value, dict):
            return value
        name = str(value.get("$ref", "")).removeprefix("#/$defs/")
        if name in definitions:
            if name in open_names:
                return {}  # The inner levels of a recursive type are checked when the parameters are built.
            rest = {key: item for key, item in value.items() if key != "$ref"}
            return {**inline(definitions[name], (*open_names, name)), **rest}
        return {key: inline(item, open_names) for key, item in value.items() if key != "$defs"}

    closed: dict[str, Any] = inline(schema, ())
    return closed
