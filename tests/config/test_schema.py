"""The schema that editors get."""

import dataclasses
import json

import jsonschema
import pytest

from rewardkit import Registry, RewardType, reward
from rewardkit.config import reward_schema
from rewardkit.config.params import make_params, params_schema, plain_params


def test_it_is_a_valid_schema(registry: Registry) -> None:
    """The schema conforms to draft 2020-12 and is JSON, of this registry, of an empty one, and of everything installed."""
    for known in (registry, Registry(), Registry.load()):
        schema = reward_schema(known)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert json.loads(json.dumps(schema)) == schema
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_parameters_are_described(registry: Registry) -> None:
    """Types, bounds, choices and defaults of a reward's parameters stand in the schema."""
    schema = params_schema(registry.get("tags").type)
    properties = schema["properties"]
    assert schema["required"] == ["names"]
    assert properties["strict"] == {"type": "boolean", "default": False}
    assert properties["mode"] == {"enum": ["any", "all"], "type": "string", "default": "all"}
    assert properties["share"] == {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5}
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Limits"]["additionalProperties"] is False


def test_descriptions_come_from_the_docstring() -> None:
    """The schema has the description of a parameter from the docstring, and mutable defaults."""

    @reward("documented")
    def documented(rollout, *, words: list[str] = ["a"], seen: set[str] = {"x", "y"}) -> float:  # noqa: B006
        """Sums up.

        Args:
            rollout: The rollout.
            words: Which words
                to look for.
            seen: Which were seen.
        """

    registry = Registry()
    registry.register(documented)
    properties = params_schema(registry.get("documented").type)["properties"]
    assert properties["words"] == {
        "type": "array",
        "items": {"type": "string"},
        "description": "Which words to look for.",
        "default": ["a"],
    }
    assert properties["seen"]["default"] == ["x", "y"]
    assert json.dumps(reward_schema(registry))


def test_awkward_names_of_parameters() -> None:
    """Parameters that are called like keywords of JSON Schema are parameters, and their own keys are checked too."""

    @dataclasses.dataclass
    class Inner:
        x: int = 0

    @reward("awkward")
    def awkward(rollout, *, properties: Inner, default: Inner, title: str = "", enum: int = 0) -> float:
        """Awkward."""

    registry = Registry()
    registry.register(awkward)
    schema = params_schema(registry.get("awkward").type)
    assert set(schema["properties"]) == {"properties", "default", "title", "enum"}
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"properties": {"x": 1}, "default": {"x": 1}})
    assert not validator.is_valid({"properties": {"x": 1}, "default": {"y": 1}})
    assert not validator.is_valid({"properties": {"x": 1}, "default": {}, "additionalProperties": 1})


def test_clashing_rewards_are_left_out(registry: Registry) -> None:
    """A name that two distributions offer is in no schema."""
    two = Registry(
        rewards={"x": [*registry.rewards["exact"], *registry.rewards["slow"]], "size": registry.rewards["size"]}
    )
    assert reward_schema(two)["$defs"]["component"]["properties"]["use"]["anyOf"][0]["enum"] == ["size"]


def test_a_parameter_without_a_schema_does_not_spoil_the_others(registry: Registry) -> None:
    """A reward whose parameters can't be described stays in the schema, undescribed."""

    @dataclasses.dataclass
    class Odd:
        call: type(lambda: 0) = None

    own = Registry(rewards={**registry.rewards})

    class Plugin:
        from rewardkit import hookimpl

        @hookimpl
        def register_rewards(self):
            return [RewardType("odd", Odd, lambda params: None)]

    own.register(Plugin())
    schema = reward_schema(own)
    assert "odd" in schema["$defs"]["component"]["properties"]["use"]["anyOf"][0]["enum"]
    assert jsonschema.Draft202012Validator(schema).is_valid({"version": 1, "components": {"a": {"use": "odd"}}})


def test_parameters_are_made_from_data(registry: Registry) -> None:
    """Data become an instance of the parameters, with numbers, nested classes and defaults as declared."""
    made = make_params(registry.get("tags").type, {"names": ["a"], "limits": {"low": 0}, "share": 1})
    assert (made.names, made.limits.low, made.share, made.strict) == (["a"], 0.0, 1.0, False)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"b", "a", "c"}, ["a", "b", "c"]),
        (frozenset({3, 1}), [1, 3]),
        ((1, {2}), [1, [2]]),
        ({"k": {"z", "y"}}, {"k": ["y", "z"]}),
        (None, None),
        (1.5, 1.5),
    ],
)
def test_plain_parameters_have_an_order(value: object, plain: object) -> None:
    """Sets come out sorted, however deep, so that an id made from them is the same in every process."""
    assert plain_params(value) == plain


def test_functions_are_in_the_schema(registry: Registry) -> None:
    """An editor accepts a function under ``use``, and knows what ``with`` may set for it."""
    file = {"version": 1, "components": {"c": {"use": "./mine.py:f", "with": {"style": "verl"}}}}
    validator = jsonschema.Draft202012Validator(reward_schema(registry))
    assert list(validator.iter_errors(file)) == []
    file["components"]["c"]["with"] = {"stile": "verl"}
    assert [error.validator for error in validator.iter_errors(file)] == ["additionalProperties"]
