"""Random mutations of YAML texts: the mistakes that people make when they edit a file by hand."""

import random
import string

TOKENS = (
    *(
        "\t",
        " ",
        "  ",
        "\n",
        "\n\n",
        ":",
        ": ",
        "-",
        "- ",
        ",",
        "#",
        " #",
        "'",
        '"',
        "|",
        ">",
        "|\n",
        "%",
        "@",
        "`",
        "?",
        "? ",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        "{}",
        "[]",
        "&a ",
        "*a",
        "&a",
        "!x ",
        "!!int ",
        "!!str ",
        "!!map ",
        "!!seq ",
        "!!binary ",
        "<<: ",
        "<<: *a",
    ),
    *(
        "---\n",
        "\n---\n",
        "...\n",
        "%YAML 9.9\n",
        "\ufeff",
        "\x00",
        "\x07",
        "\x85",
        "\u2028",
        "\ud800",
        "é",
        "\\",
        '"\\U',
        '"\\x',
    ),
)
VALUES = (
    *(
        "null",
        "~",
        "true",
        "no",
        "1",
        "-1",
        "0",
        "1e999",
        ".nan",
        ".inf",
        "0x",
        "1_0",
        "1,0",
        "9" * 30,
        "9" * 5000,
        "''",
        '"1"',
        "x",
    ),
    *(
        "[]",
        "{}",
        "[1, 2]",
        "{a: 1}",
        "[[[]]]",
        "{x: {y: z}}",
        "!!int x",
        "!!float ''",
        "!!bool 1",
        "*gone",
        "2024-01-01",
        "|\n  text",
    ),
    *(
        "&b [*b]",
        "&b {<<: *b}",
        "{1: 2}",
        "{[a]: 1}",
        "{? {a: 1} : 2}",
        "x: y",
        "<<",
        "-",
        "a > (",
        "fields.a.b.",
        "[" * 120,
        "{a: " * 300,
    ),
)


def mutated(text: str, generator: random.Random) -> str:
    """Return a text with one to three random mutations."""
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        text = generator.choice(MUTATIONS)(text, generator)
    return text


def _of_lines(change):
    def mutate(text: str, generator: random.Random) -> str:
        lines = text.splitlines()
        if not lines:
            return text
        change(lines, generator.randrange(len(lines)), generator)
        return "\n".join(lines) + "\n"

    return mutate


def _delete_line(lines, index, _generator):
    del lines[index]


def _duplicate_line(lines, index, generator):
    lines.insert(generator.randint(0, len(lines)), lines[index])


def _swap_lines(lines, index, generator):
    other = generator.randrange(len(lines))
    lines[index], lines[other] = lines[other], lines[index]


def _indent(lines, index, generator):
    lines[index] = generator.choice((" ", "  ", "    ", "\t", " \t")) + lines[index]


def _dedent(lines, index, _generator):
    lines[index] = lines[index].removeprefix(" ")


def _cut_line(lines, index, generator):
    lines[index] = lines[index][: generator.randint(0, len(lines[index]))]


def _replace_value(lines, index, generator):
    name, colon, _ = lines[index].partition(":")
    lines[index] = f"{name}{colon} {generator.choice(VALUES)}"


def _replace_key(lines, index, generator):
    name, colon, value = lines[index].partition(":")
    spaces = name[: len(name) - len(name.lstrip())]
    word = generator.choice(
        (name.strip()[:-1], name.strip() + "s", name.strip().upper(), "1", "null", "''", "<<", "? x", "[a]", "")
    )
    lines[index] = f"{spaces}{word}{colon}{value}"


def _insert_token(text, generator):
    place = generator.randint(0, len(text))
    return text[:place] + generator.choice(TOKENS) + text[place:]


def _delete_characters(text, generator):
    place = generator.randint(0, len(text))
    return text[:place] + text[place + generator.choice((1, 1, 1, 2, 5, 20)) :]


def _replace_character(text, generator):
    if not text:
        return text
    place = generator.randrange(len(text))
    return text[:place] + generator.choice(string.printable) + text[place + 1 :]


def _replace_word(text, generator):
    words = text.split(" ")
    words[generator.randrange(len(words))] = generator.choice(VALUES)
    return " ".join(words)


def _cut(text, generator):
    return text[: generator.randint(0, len(text))]


def _move_part(text, generator):
    first, last = sorted((generator.randint(0, len(text)), generator.randint(0, len(text))))
    rest = text[:first] + text[last:]
    place = generator.randint(0, len(rest))
    return rest[:place] + text[first:last] + rest[place:]


MUTATIONS = (
    *map(
        _of_lines,
        (
            _delete_line,
            _duplicate_line,
            _swap_lines,
            _indent,
            _dedent,
            _cut_line,
            _replace_value,
            _replace_value,
            _replace_key,
        ),
    ),
    _insert_token,
    _insert_token,
    _delete_characters,
    _replace_character,
    _replace_word,
    _replace_word,
    _cut,
    _move_part,
)
