"""``format.json``: JSON that satisfies a schema."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rewardkit_format import JsonValue

CALL = {
    "type": "object",
    "required": ["name", "arguments"],
    "properties": {"name": {"type": "string", "pattern": "^[a-z]+$"}, "arguments": {"type": "object"}},
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ('{"name": "add", "arguments": {}}', 1.0, "the JSON satisfies the schema"),
        ('\n {"name": "add", "arguments": {}} \n', 1.0, "the JSON satisfies the schema"),
        ('{"name": "add"}', 0.0, '$: "arguments" is a required property'),
        ('{"name": 1, "arguments": {}}', 0.0, '$.name: the value is not of type "string"'),
        ('{"name": "ADD", "arguments": {}}', 0.0, '$.name: the value does not match "^[a-z]+$"'),
        ('{"name": "add", "arguments": {}} so', 0.0, "not JSON: unexpected content after document"),
        ("", 0.0, "not JSON: Input is a zero-length, empty document"),
        ('{"name": "add", "arguments": {},}', 0.0, "not JSON: trailing comma is not allowed"),
    ],
)
def test_json_is_held_against_the_schema(score, text, value, reason):
    """JSON that satisfies the schema scores 1; other JSON scores 0 with the place and the fault."""
    result = score("format.json", text, schema=CALL)
    assert (result.value, result.reason) == (value, reason)


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "1e999", "{'a': 1}", "// x\n1", '"\ud800"', '"\\ud800"', "\0", "[" * 100_000, "1 2"]
)
def test_what_is_not_json_scores_zero(score, text):
    """Python's extensions, lone surrogates and endless nesting are not JSON, and none of them raises."""
    assert score("format.json", text).value == 0.0


def test_json_of_another_shape_can_be_worth_something(score):
    """The parameter parsed is the value of JSON that misses the schema, and of nothing else."""
    assert score("format.json", "{}", schema=CALL, parsed=0.25).value == 0.25
    assert score("format.json", "{", schema=CALL, parsed=0.25).value == 0.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Here:\n```json\n[1]\n```\nDone.", 1.0),
        ("```\n[1]\n```", 1.0),
        ("```JSON title=x\r\n[1]\r\n```\r\n", 1.0),
        ("  - item\n    ```json\n    [1]\n    ```", 1.0),
        ("```json\n[\n```\n```json\n[1]\n```", 1.0),
        ("```json\n[1]\n```\n```json\n[\n```", 0.0),
        ("```json\n[1]\n```\n```python\nx\n```", 1.0),
        ("```python\n[1]\n```", 0.0),
        ("```json\n[1]", 0.0),
        ("[1]", 0.0),
    ],
)
def test_the_last_fenced_block_counts(score, text, value):
    """With source: fence, the last block named json or without a name counts."""
    assert score("format.json", text, source="fence").value == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "there is no JSON block"),
        ("```json\n[1]", "the JSON block is not closed"),
        ("```json\n```", "not JSON: Input is a zero-length, empty document"),
    ],
)
def test_a_missing_block_is_told_from_an_open_one(score, text, reason):
    """The reason says what is wrong with the fence."""
    assert score("format.json", text, source="fence").reason == reason


def test_a_long_reason_is_cut(score):
    """The reason is one line of at most 160 characters, however long the validator's message is."""
    reason = score("format.json", '"b"', schema={"pattern": "^" + "a" * 300}).reason
    assert len(reason) == 160
    assert reason.endswith("…")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<call>[1]</call>", 1.0),
        ("<call>[</call> <call>\n[1]\n</call>", 1.0),
        ("<call>[1]", 0.0),
        ("[1]</call>", 0.0),
        ("<answer>[1]</answer>", 0.0),
    ],
)
def test_the_last_section_counts(score, text, value):
    """With source: tag, the text between the last pair of tags counts."""
    assert score("format.json", text, source="tag", tag="call").value == value


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"schema": {"type": "strin"}}, "schema is not a JSON Schema"),
        ({"schema": {"pattern": "("}}, "schema is not a JSON Schema"),
        ({"schema": {"$ref": "#/$defs/none"}}, "schema is not a JSON Schema"),
        ({"schema": {"$ref": "https://example.org/schema.json"}}, "points outside the schema"),
        ({"schema": {"$ref": "file:///etc/passwd"}}, "points outside the schema"),
        ({"source": "tag", "tag": "a b"}, "not a tag name"),
        ({"parsed": 2.0}, "from 0 to 1"),
    ],
)
def test_wrong_parameters_are_refused(params, says):
    """An invalid schema, or one with references to other files, raises ValueError when the reward is built."""
    with pytest.raises(ValueError, match=says):
        JsonValue(**params)


def test_a_pattern_in_the_schema_can_not_hang(score):
    """A pattern that would backtrack forever elsewhere is decided at once."""
    text = json.dumps("a" * 5000 + "!")
    assert score("format.json", text, schema={"type": "string", "pattern": "^(a+)+$"}).value == 0.0


def test_deep_json_against_a_recursive_schema_is_judged(score):
    """The deepest JSON that parses is validated or scored; it never raises."""
    schema = {"$ref": "#/$defs/list", "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}}
    assert score("format.json", "[" * 1000 + "]" * 1000, schema=schema).value == 1.0
    assert score("format.json", "[" * 1000 + "1" + "]" * 1000, schema=schema).value == 0.0


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    # JSON may not hold lone surrogates
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=10,
)


@given(values)
def test_all_json_is_json(score, value):
    """Everything that the standard library writes is accepted, escaped or not."""
    assert score("format.json", json.dumps(value)).value == 1.0
    assert score("format.json", json.dumps(value, ensure_ascii=False)).value == 1.0
