"""Reading YAML: strict, safe, and right about where everything stands."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewardkit.config.yaml import Document, parse_yaml, read_yaml
from rewardkit.errors import ConfigError, Location


def data(text: str) -> Any:
    """Return the data of a text."""
    return parse_yaml(text, "f").data


def refused(text: str) -> str:
    """The message that a text is refused with."""
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.5", 1.5),
        ("-7", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("12:30", "12:30"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("NO", "NO"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("'1'", "1"),
        ('"1e-3"', "1e-3"),
        ("1,0", "1,0"),
        ("2024-01-02", "2024-01-02"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ('"\\u00e9"', "é"),
        ("'it''s'", "it's"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    """A plain value has the type that YAML 1.2 gives it: 1e-3 is a number, yes is text."""
    found = data(f"x: {text}")["x"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f:1:1: is empty"),
        ("# nothing\n\n", "f:1:1: is empty"),
        ("a: 1\nb: 2\na: 3\n", "f:3:1: key 'a' stands here a second time (the first is on line 1)"),
        ("x:\n  - {k: 1, k: 2}\n", "f:2:12: key 'k' stands here a second time (the first is on line 2)"),
        ("1: a\n'1': b\n", "f:2:1: key '1' stands here a second time (the first is on line 1)"),
        ("a:\n\tb: 1\n", "f:2:1: a tab stands where YAML wants spaces; indent with spaces"),
        ("a:\n  b: 1\n\tc: 2\n", "f:3:1: a tab stands where YAML wants spaces; indent with spaces"),
        ("a: 1\n---\nb: 2\n", "f:3:1: holds a second YAML document; keep one per file"),
        ("a: &x [*x]\n", "f:1:4: anchor 'x' contains itself"),
        ("a: &x {b: {c: *x}}\n", "f:1:4: anchor 'x' contains itself"),
        ("a: *gone\n", "f:1:4: is not YAML: found undefined alias 'gone'"),
        ("a: !thing 1\n", "f:1:4: the tag !thing is not allowed"),
        (
            "a: !!python/object/apply:os.system [echo]\n",
            "f:1:4: the tag tag:yaml.org,2002:python/object/apply:os.system is not allowed",
        ),
        ("!!set {a, b}\n", "f:1:1: the tag tag:yaml.org,2002:set is not allowed"),
        ("a: !!binary aGk=\n", "f:1:4: the tag tag:yaml.org,2002:binary is not allowed"),
        ("a: !!int one\n", "f:1:4: 'one' is no int"),
        ("a: !!int ''\n", "f:1:4: '' is no int"),
        ("a: !!float ''\n", "f:1:4: '' is no float"),
        ("a: !!bool maybe\n", "f:1:4: 'maybe' is no bool"),
        ("a: .inf\n", "f:1:4: .inf is no finite number"),
        ("a: .nan\n", "f:1:4: .nan is no finite number"),
        ("a: 1e999\n", "f:1:4: 1e999 is no finite number"),
        (f"a: {10**400}\n", "f:1:4: 10000000000000000000… is too large a number"),
        ("? [a, b]\n: 1\n", "f:1:3: a key must be plain text"),
        ("a: [1, 2\n", "f:2:1: is not YAML"),
        ("a: 'open\n", "is not YAML"),
        ("a: b: c\n", "f:1:5: is not YAML"),
        ("<<: 3\na: 1\n", "f:1:5: '<<' merges mappings only"),
        ('a: "\\UFFFFFFFF"\n', "is not YAML"),
        ("%YAML 9.9\n---\na: 1\n", "is not YAML"),
        ("a: \x00\n", "f:1:4: is not YAML"),
        ("a:\n  - b\n \x07\n", "f:3:2: is not YAML"),
        ("[" * 5000, "is nested deeper than 100 levels"),
        ("[" * 102 + "]" * 102, "is nested deeper than 100 levels"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    """A text that can't be taken is refused with its file, line and column, and what to do."""
    assert message in refused(text)


def test_a_bomb_is_put_out() -> None:
    """Aliases that would expand a small file to billions of values are refused before that happens."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    start = time.process_time()
    assert "aliases expand this file to more than 100,000 values" in refused("\n".join(lines))
    assert time.process_time() - start < 30


def test_a_bomb_of_merges_is_put_out() -> None:
    """Merge keys that would expand a small file to billions of values are refused, too."""
    lines = ["a0: &a0 {k: [x, x, x, x, x, x, x, x, x, x]}"]
    lines += [f"a{n}: &a{n} {{{', '.join(f'k{m}: {{<<: *a{n - 1}}}' for m in range(10))}}}" for n in range(1, 12)]
    assert "aliases expand this file to more than 100,000 values" in refused("\n".join(lines))


def test_aliases_within_reason() -> None:
    """An alias stands for a copy of what it names."""
    assert data("a: &x {k: [1]}\nb: *x\nc: *x\n") == {"a": {"k": [1]}, "b": {"k": [1]}, "c": {"k": [1]}}


@pytest.mark.parametrize(
    ("text", "merged"),
    [
        ("base: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}\n", {"x": 1, "y": 3}),
        ("base: &b {x: 1, y: 2}\nc: {y: 3, <<: *b}\n", {"y": 3, "x": 1}),
        ("base: [&p {x: 1}, &q {x: 2, y: 2}]\nc: {<<: [*p, *q]}\n", {"x": 1, "y": 2}),
        ("base: [&p {x: 1}, &q {<<: *p, y: 2}]\nc: {<<: *q}\n", {"x": 1, "y": 2}),
    ],
)
def test_merge_keys(text: str, merged: dict) -> None:
    """``<<`` takes in another mapping's keys; those of the mapping itself win, and earlier sources over later ones."""
    assert data(text)["c"] == merged


def test_the_place_of_what_was_merged() -> None:
    """A merged value is known by where it was written, one that overrides it by where that stands."""
    document = parse_yaml("base: &b\n  x: 1\n  y: 2\nc:\n  <<: *b\n  y: 3\n", "f")
    assert document.where(("c", "x")) == Location("f", 2, 6)
    assert document.where(("c", "y")) == Location("f", 6, 6)


def test_a_value_that_is_not_there_has_the_place_of_what_should_hold_it() -> None:
    """The place of something missing is that of the nearest thing around it."""
    document = parse_yaml("a:\n  b: 1\n", "f")
    assert document.where(("a", "c", "d")) == Location("f", 2, 3)
    assert document.where_key(("a", "b")) == Location("f", 2, 3)
    assert document.where_key(("a", "z")) == Location("f", 2, 3)


leaves = (
    st.integers(-(10**6), 10**6)
    | st.booleans()
    | st.none()
    | st.sampled_from(["plain", "two words", "é", "it's", 'a "quote"', "x: y", "# no comment", "-", "", "yes", "1e3"])
)
keys = st.sampled_from(["a", "b", "long_name", "x1", "ü"])
trees = st.recursive(
    leaves,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(keys, children, max_size=4),
    max_leaves=15,
)


def quoted(value: Any) -> str:
    """A scalar as YAML, quoted where that is needed."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return (
        {True: "true", False: "false", None: "null"}.get(value, str(value))
        if not isinstance(value, int) or isinstance(value, bool)
        else str(value)
    )


def written(value: Any, lines: list[str], indent: int, path: tuple, places: dict) -> None:
    """Write in block style; the last line is open, and the value goes on there or on lines of its own below."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for first, (key, child) in zip([True] + [False] * len(value), items, strict=False):
            if first:
                lines[-1] = lines[-1].rstrip()
                if lines[-1]:
                    lines.append("")
            else:
                lines.append("")
            lines[-1] = " " * indent + (f"{key}:" if isinstance(value, dict) else "-") + " "
            if first:
                places[path] = (len(lines), indent + 1)
            written(child, lines, indent + 2, (*path, key), places)
    else:
        places[path] = (len(lines), len(lines[-1]) + 1)
        lines[-1] += ("{}" if isinstance(value, dict) else "[]") if isinstance(value, dict | list) else quoted(value)


@given(st.dictionaries(keys, trees, min_size=1, max_size=4))
def test_data_and_places_are_right(tree: dict) -> None:
    """Random documents are read as they were written, and every value has its line and column."""
    lines: list[str] = [""]
    places: dict[tuple, tuple[int, int]] = {}
    written(tree, lines, 0, (), places)
    document = parse_yaml("\n".join(lines) + "\n", "f")
    assert document.data == tree
    assert {path: (place.line, place.column) for path, place in document.values.items()} == places


@settings(max_examples=120)
@given(
    st.text(max_size=80)
    | st.lists(
        st.sampled_from(
            [
                "a: ",
                "- ",
                "\n",
                "  ",
                "\t",
                "{",
                "}",
                "[",
                "]",
                ",",
                "&x ",
                "*x",
                "!!int ",
                "!!float ",
                "!!bool ",
                "!t ",
                "'",
                '"',
                "|",
                ">",
                "#",
                "? ",
                ": ",
                "<<: ",
                "---\n",
                "...\n",
                "%YAML 1.1\n",
                "%TAG ! x\n",
                "\\U",
                "\\x",
                "0x",
                "0b1",
                "1e",
                ".",
                "1_0",
                "1:2:3",
                "~",
                "yes",
                "\ufeff",
                "\u2028",
                "\x85",
                "2024-01-01",
                "@",
                "`",
            ]
        ),
        max_size=25,
    ).map("".join)
)
@example("%YAML 1.1\n---\na: 1:2:3")
@example("a: !!int ''")
@example("\ufeff\ufeff")
@example("{!!int <<: {}}")
def test_arbitrary_text_raises_config_error_or_nothing(text: str) -> None:
    """No text makes the reader raise anything but ConfigError, or return anything but plain data."""
    try:
        document = parse_yaml(text, "f")
    except ConfigError:
        return
    assert isinstance(document, Document)
    check_plain(document.data)


def check_plain(value: Any) -> None:
    """Dicts with text keys, lists, and plain scalars."""
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        for child in value.values():
            check_plain(child)
    elif isinstance(value, list):
        for child in value:
            check_plain(child)
    else:
        assert value is None or type(value) in {str, int, float, bool}, type(value)


@settings(max_examples=80)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_raise_config_error_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """No bytes make the reader raise anything but ConfigError."""
    file = tmp_path_factory.getbasetemp() / "bytes.yaml"
    file.write_bytes(content)
    try:
        read_yaml(file)
    except ConfigError as error:
        assert "bytes.yaml" in str(error)  # noqa: PT017


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    """A file that begins with a UTF-8 byte order mark is read as if it did not, places included."""
    file = tmp_path / "bom.yaml"
    file.write_bytes("\ufeffa: 1\n".encode())
    document = read_yaml(file)
    assert document.data == {"a": 1}
    assert document.where_key(("a",)) == Location(str(file), 1, 1)


def test_windows_line_ends(tmp_path: Path) -> None:
    """Carriage returns count as ends of lines, once."""
    file = tmp_path / "crlf.yaml"
    file.write_bytes(b"a: 1\r\nb:\r\n  c: x\r\n")
    document = read_yaml(file)
    assert document.data == {"a": 1, "b": {"c": "x"}}
    assert document.where(("b", "c")) == Location(str(file), 3, 6)


@pytest.mark.parametrize("content", ["a: é".encode("latin-1"), "a: 1".encode("utf-16")])
def test_other_encodings_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no UTF-8 is refused, with the byte where that shows."""
    file = tmp_path / "odd.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"odd\.yaml:1:\d: is not UTF-8 text \(byte \d+\)"):
        read_yaml(file)


def test_a_missing_file_suggests_a_near_one(tmp_path: Path) -> None:
    """A file that is not there is named, with one whose name is alike."""
    (tmp_path / "reward.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"reward\.yml: there is no such file; did you mean .*reward\.yaml\?"):
        read_yaml(tmp_path / "reward.yml")
    with pytest.raises(ConfigError, match=r"there is no such file$"):
        read_yaml(tmp_path / "nowhere" / "x.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A path that can't be read is refused with the system's reason."""
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        read_yaml(tmp_path)
