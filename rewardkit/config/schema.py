"""One JSON Schema (draft 2020-12) for a reward file, made from the core and the parameters of every installed plugin."""

from __future__ import annotations

from typing import Any

from pydantic.errors import PydanticUserError

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

_CLIP = {**_PAIR, "description": "Lowest and highest value let through."}
COMPONENT_NAME = "^[A-Za-z_][A-Za-z0-9_]*$"

_COMPOSITE = {
    "gate": {
        "type": "string",
        "description": "Condition on components; where it is false the total is gate_value and the rest is not run.",
    },
    "gate_value": {**_NUMBER, "default": 0.0, "description": "The total of a rollout that the gate keeps out."},
    "combine": {
        "enum": ["sum", "mean", "product", "min", "normalized_sum"],
        "default": "sum",
        "description": "How weight × value of the components become one number.",
    },
    "clip": {**_CLIP, "description": "Lowest and highest total."},
}

_UNSCORED = {
    "type": "object",
    "description": "What becomes of rollouts that could not be scored.",
    "properties": {
        "policy": {
            "enum": ["exclude", "zero", "fail"],
            "default": "exclude",
            "description": "exclude: no reward; zero: a reward of 0; fail: stop at the first.",
        },
        "abort_above": {
            **_NUMBER,
            "minimum": 0,
            "maximum": 1,
            "default": 0.1,
            "description": "Stop when more than this share of rollouts is unscored.",
        },
    },
    "additionalProperties": False,
}


def reward_schema(registry: Registry) -> dict[str, Any]:
    """The schema of a reward file with the plugins of this registry. Rewards whose names clash are left out."""
    offers = [offers[0] for _, offers in sorted(registry.rewards.items()) if len(offers) == 1]
    components = {
        "type": "object",
        "description": "The parts of the reward, by names of your choice.",
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
            "version": {"const": 1, "description": "Version of this format."},
            **composite,
            "unscored": _UNSCORED,
            "composites": {
                "type": "object",
                "description": "Several composites, of which routes choose one for each row.",
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
                "description": "Tried in order; the first whose globs all match a row's fields is taken.",
                "items": {
                    "type": "object",
                    "properties": {
                        "match": {
                            "type": "object",
                            "description": "Globs by field, such as {data_source: 'openai/*'}; {} matches every row.",
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
    component: dict[str, Any] = {
        "type": "object",
        "properties": {
            "use": {
                "enum": [offer.type.name for offer in offers],
                "description": "The reward, by the name under which a plugin offers it.",
            },
            "with": {"type": "object", "description": "Its parameters."},
            "weight": _WEIGHT,
            "when": {
                "type": "string",
                "description": "Condition on other components; where false, this one is not run.",
            },
            "scale": _SCALE,
            "clip": {**_CLIP, "description": "Lowest and highest value after scaling."},
            "timeout": {
                **_NUMBER,
                "exclusiveMinimum": 0,
                "description": "Seconds that one rollout may take, for rewards that run in workers or wait for services.",
            },
        },
        "required": ["use"],
        "additionalProperties": False,
    }
    return {**component, "allOf": rules} if rules else component


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its ``$defs`` put in place, so that references don't depend on where it is embedded."""
    definitions = schema.get("$defs", {})

    def inline(value: Any, open_names: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [inline(item, open_names) for item in value]
        if not isinstance(value, dict):
            return value
        name = str(value.get("$ref", "")).removeprefix("#/$defs/")
        if name in definitions:
            if name in open_names:
                return {}  # a type that contains itself: its inner levels are checked when the parameters are built
            rest = {key: item for key, item in value.items() if key != "$ref"}
            return {**inline(definitions[name], (*open_names, name)), **rest}
        return {key: inline(item, open_names) for key, item in value.items() if key != "$defs"}

    closed: dict[str, Any] = inline(schema, ())
    return closed
