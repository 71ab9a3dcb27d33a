"""Conversion of LaTeX and plain mathematical text to tokens, in one pass of one regular expression."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rewardkit_math.errors import ParseError, TooLarge
from rewardkit_math.parsing import vocabulary as words
from rewardkit_math.parsing.literals import number
from rewardkit_math.parsing.rewriting import axis_of, rewritten
from rewardkit_math.units import ATTACHED, GLUE, UNITS, plain_unit, symbols_in, unit
from rewardkit_math.work import spend

MAX_TOKENS = 6_500
"""The most tokens of an answer; answers that people write have far fewer."""


@dataclass(slots=True)
class Token:
    """One token."""

    kind: str
    """num, var, word, text, fn, cmd, op, rel, open, close, brace (a plain `{` or `}`), const, unit, sep, end"""
    value: str
    spaced: bool = False
    """True if white space precedes it."""
    number: int | Fraction = 0
    places: int | None = None
    """Digits after the decimal point of a number; None: an integer, or exact."""


_MASTER = re.compile(
    r"""
    (?P<space>(?:\s|~|\\[,;:!>\ ]|\\\n)+)
  | (?P<num>
        \d+\{,\}(?:\d{1,2}|\d{4,9})(?!\d)                             # 1{,}5
      |
        [1-9]\d{0,2}(?:\.\d{3})+,\d{1,2}(?![\d.])                       # 1.234,5
      | (?:[1-9]\d{0,2}(?:(?:\s?\{,\s?\}\s?|,\\!\s*|\\,|\\!\s?,?|\\\ |~|,|\ (?=\d{3}(?:\D|$)))\d{3})+(?!\d)|\d+)
        (?:\.\d*(?:\\overline\s*\{\d+\}|\\bar\s*\{\d+\}|\\dot\s*\{\d\}|\(\d+\)|\.{2,3}|\s?\\[lc]?dots)?(?!\d))?
        (?:[eE](?:[+-]?\d{2,}|\d)(?![\d.]))?
      | \.\d+(?:\\overline\s*\{\d+\})?(?:[eE][+-]?\d+)?
    )
  | (?P<cmd>\\(?:[a-zA-Z]+|.))
  | (?P<word>[A-Za-z]+(?:[À-ÖØ-öø-ž]+[A-Za-z]*)*|[À-ÖØ-öø-ž]+[A-Za-zÀ-ÖØ-öø-ž]*)
  | (?P<cjk>[\u4e00-\u9fff]+)
  | (?P<shout>!(?:\s*!){2,})
  | (?P<op>\*\*|<=|>=|!=|==|:=|=>|->|[-+*/^_!%',;:|=<>&.])
  | (?P<open>[(\[])
  | (?P<close>[)\]])
  | (?P<brace>[{}])
  | (?P<dollar>\$)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_KNOWN = sorted(
    {*words.FUNCTIONS, *words.CONSTANTS, *words.GREEK, *words.OPERATORS, *words.RELATIONS, *words.SPACING},
    key=len,
    reverse=True,
)
_WORDLIKE = GLUE | words.CONNECTORS.keys() | words.CONDITIONS | words.TEXT_ANSWERS
_RELATION_OPS = {
    "=": "=",
    "==": "=",
    ":=": "=",
    "<": "<",
    ">": ">",
    "<=": "<=",
    ">=": ">=",
    "!=": "!=",
    "=>": "=>",
    "->": "to",
}
_BEFORE_UNIT = frozenset(("num", "close", "brace", "text", "word", "unit"))
_SINGLE = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?!\d)")


def tokenize(text: str) -> list[Token]:
    """Return the tokens of `text`, ending in one of kind `end`.

    Raises:
        ParseError: A character or a command has no meaning here.
        TooLarge: There are more than MAX_TOKENS of them, or a literal is longer than MAX_DIGITS.
    """
    if len(text) > 40_000:  # four times what is extracted: some characters become a command
        raise TooLarge(f"an answer of {len(text)} characters")
    if "\x0crac" in text:
        text = text.replace("\x0crac", "\\frac")  # "\f" of a string that was unescaped once too often
    text = rewritten(text)
    tokens: list[Token] = []
    append = tokens.append
    depth = 0  # of round and square brackets and \{: a plain comma inside separates
    spaced = False
    position = 0
    length = len(text)
    scan = _MASTER.match
    while position < length:
        match = scan(text, position)
        if match is None:
            raise ParseError(f"unexpected {text[position]!r}")
        spend()
        kind = match.lastgroup
        value = match[0]
        position = match.end()
        if kind == "space":
            spaced = True
            continue
        if kind == "num":
            if depth and "," in value and _SINGLE.match(value):
                value = value[: value.index(",")]
                position = match.start() + len(value)
            if tokens and " " in value and tokens[-1].value in ("_", "^", "frac"):  # \log_5 125
                value = value[: value.index(" ")]
                position = match.start() + len(value)
            exact, places = number(value)
            append(Token("num", value, spaced, exact, places))
        elif kind == "word":
            _word(value, spaced, tokens, text, position)
        elif kind == "cjk":
            _text(value, is_text=True, spaced=spaced, tokens=tokens)
        elif kind == "shout":
            raise ParseError("three exclamation marks or more in a row")
        elif kind == "op":
            if value in _RELATION_OPS:
                append(Token("rel", _RELATION_OPS[value], spaced))
            elif value == "**":
                append(Token("op", "^", spaced))
            elif value in ",;":
                append(Token("sep", value, spaced))
            elif value == ".":  # the end of a sentence that was moved along with its term
                continue
            else:
                append(Token("op", value, spaced))
        elif kind == "cmd":
            opening = words.OPENING.get(value)
            closing = words.CLOSING.get(value)
            if opening is not None:
                depth += 1
                append(Token("open", opening, spaced))
            elif closing is not None:
                depth -= 1
                append(Token("close", closing, spaced))
            else:
                position = _command(value[1:], text, position, spaced, tokens)
        elif kind == "open":
            depth += 1
            append(Token("open", value, spaced))
        elif kind == "close":
            depth -= 1
            append(Token("close", value, spaced))
        elif kind == "brace":
            append(Token("brace", value, spaced))
        elif kind == "dollar":
            append(Token("unit", "$", spaced))
        elif value in "¢€£¥₹":
            append(Token("unit", value, spaced))
        elif value in '"`':
            continue
        elif value == "…":
            append(Token("op", "dots", spaced))
        elif value.isalpha():
            append(Token("word", value, spaced))
        else:
            raise ParseError(f"unexpected {value!r}")
        spaced = False
        if len(tokens) > MAX_TOKENS:
            raise TooLarge(f"an answer of more than {MAX_TOKENS} symbols")
    append(Token("end", "", spaced))
    return tokens


def _word(word: str, spaced: bool, tokens: list[Token], text: str, position: int) -> None:
    """Sort letters in a row into functions, constants, connectors, words, or single variables."""
    append = tokens.append
    if len(word) == 1:
        append(Token("var", word, spaced))
    elif (
        word in ("min", "sec", "deg")
        and tokens
        and tokens[-1].kind in ("num", "brace", "close")
        and not _ARGUMENT.match(text, position)
    ):
        append(Token("word", word, spaced))
    elif word in words.CONNECTORS:
        append(Token("sep", words.CONNECTORS[word], spaced=True))
    elif not word.isascii():
        append(Token("word", word, spaced))
    elif word == "to":
        append(Token("op", ":", spaced))
    elif word in words.CONSTANTS:
        append(Token("const", words.CONSTANTS[word], spaced))
    elif word in ("percent", "percentage", "pct", "percents"):
        append(Token("op", "%", spaced))
    elif word in ("degrees", "degree"):
        append(Token("op", "deg", spaced))
    elif word in words.FUNCTIONS and word not in ("mod", "deg", "arg", "inf", "sup", "th", "ch", "sh"):
        append(Token("fn", words.FUNCTIONS[word], spaced))
    elif word == "mod":
        append(Token("op", "mod", spaced))
    elif word in words.GREEK:
        append(Token("var", word, spaced))
    elif len(word) >= 4 or word.casefold() in _WORDLIKE or _is_unit(word, spaced, tokens):
        for name in ("sqrt", "pi"):  # 2sqrt3 and rpi in plain text
            if name != word and word.endswith(name) and len(word) <= len(name) + 2:
                for letter in word[: -len(name)]:
                    append(Token("var", letter, spaced))
                append(Token("fn", "sqrt") if name == "sqrt" else Token("const", "pi"))
                return
        append(Token("word", word, spaced))
    else:
        for index, letter in enumerate(word):
            append(Token("var", letter, spaced and index == 0))


_ARGUMENT = re.compile(r"\s*[({_^\\]|\s+[A-Za-z0-9]")


def _is_unit(word: str, spaced: bool, tokens: list[Token]) -> bool:
    """Return whether two or three letters are a unit: alone, after a space, or one of those that stand directly after a number."""
    if symbols_in(word) is None:
        return False
    return spaced or word in ATTACHED or not tokens or tokens[-1].kind in ("word", "text", "op", "brace")


def _argument(text: str, position: int) -> tuple[str, int]:
    """Return the text of the brace group at `position` (or the single character there), and the position after it."""
    while position < len(text) and text[position].isspace():
        position += 1
    if position >= len(text):
        return "", position
    if text[position] != "{":
        return text[position], position + 1
    depth = 0
    for index in range(position, len(text)):
        char = text[index]
        if char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if not depth:
                return text[position + 1 : index], index + 1
    raise ParseError("a brace is not closed")


def _command(name: str, text: str, position: int, spaced: bool, tokens: list[Token]) -> int:
    """Append what the LaTeX command `name` stands for; return the position after it and the arguments it took."""
    append = tokens.append
    if name in ("frac", "dfrac", "tfrac", "cfrac", "sfrac"):
        append(Token("cmd", "frac", spaced))
    elif name in words.SPACING:
        if name in ("left", "right") and position < len(text) and text[position] == ".":
            return position + 1
        if name in ("quad", "qquad") and tokens and tokens[-1].kind not in ("sep", "rel", "op"):
            append(Token("gap", name, spaced))
    elif name in words.RELATIONS:
        append(Token("rel", words.RELATIONS[name], spaced))
    elif name in ("sum", "prod", "int", "lim", "iint", "oint", "sqrt", "binom", "dbinom", "tbinom", "choose", "over", "atop",
                  "cbrt", "stackrel", "overset", "underset", "substack", "dfraction"):  # fmt: skip
        append(Token("cmd", {"dbinom": "binom", "tbinom": "binom"}.get(name, name), spaced))
    elif name in words.FUNCTIONS and name not in ("mod", "root", "binom", "factorial"):
        append(Token("fn", words.FUNCTIONS[name], spaced))
    elif name in words.OPERATORS:
        value = words.OPERATORS[name]
        append(Token("sep" if value in (",", "or") else "op", value, spaced))
    elif name in words.CONSTANTS:
        append(Token("const", words.CONSTANTS[name], spaced))
    elif name in words.GREEK:
        append(Token("var", name, spaced))
    elif name in words.TEXT_COMMANDS or name in words.FONT_COMMANDS:
        content, position = _argument(text, position)
        if name in ("mathbf", "bm", "boldsymbol") and content in ("R", "Z", "N", "Q"):
            append(Token("const", content, spaced))
        elif name in ("mathbf", "bm", "boldsymbol") and (axis := axis_of(content)) is not None:
            append(Token("var", axis, spaced))
        else:
            _text(content, name in words.TEXT_COMMANDS, spaced, tokens)
    elif name in ("mathbb", "Bbb", "bold"):
        content, position = _argument(text, position)
        append(Token("const" if content in words.NUMBER_SETS else "var", content or "?", spaced))
    elif name in words.ACCENTS:
        content, position = _argument(text, position)
        axis = axis_of(content) if name in ("hat", "vec", "widehat", "overrightarrow") else None
        if axis is not None and name == "vec" and axis[5] in "xyz":
            axis = None
        append(Token("var", axis or f"\\{name}{{{''.join(content.split())}}}", spaced))
    elif name in words.TRANSPARENT:
        pass
    elif name in words.SKIP_WITH_ARGUMENT:
        _, position = _argument(text, position)
    elif name == "begin":
        content, position = _argument(text, position)
        if content in ("array", "tabular"):
            if position < len(text) and text[position : position + 1] == "[":
                position = text.find("]", position) + 1 or position
            _, position = _argument(text, position)
        append(Token("begin", content.rstrip("*"), spaced))
    elif name == "end":
        content, position = _argument(text, position)
        append(Token("endenv", content.rstrip("*"), spaced))
    elif name in ("\\", "cr"):
        append(Token("row", "\\\\", spaced))
    elif name in ("%", "&", "#", "_"):
        append(Token("op", name, spaced))
    elif name == "$":
        append(Token("unit", "$", spaced))
    elif name == "|" or name in ("Vert", "|"):
        append(Token("op", "‖", spaced))
    elif name == "vert":
        append(Token("op", "|", spaced))
    elif name in ("angle", "measuredangle", "triangle", "odot", "square", "cent", "pounds", "euro"):
        if name in ("cent", "pounds", "euro"):
            append(Token("unit", {"cent": "¢", "pounds": "£", "euro": "€"}[name], spaced))
        else:
            append(Token("var", f"\\{name}", spaced))
    elif name in ("therefore", "because", "because", "checkmark", "square", "blacksquare", "/", "."):
        pass
    elif name == "not":
        follow = _MASTER.match(text, position)
        if follow is None:
            raise ParseError("nothing follows \\not")
        negated = {"=": "!=", "\\in": "notin"}.get(follow[0].strip())
        if negated is None:
            raise ParseError(f"unknown \\not{follow[0]}")
        append(Token("rel", negated, spaced))
        return follow.end()
    else:
        for known in _KNOWN:  # \quadx, \cdotr: a command that runs into the next letters
            if len(known) > 1 and len(known) < len(name) and name.startswith(known):
                _command(known, text, position, spaced, tokens)
                return position - (len(name) - len(known))
        raise ParseError(f"unknown command \\{name}")
    return position


def _text(content: str, is_text: bool, spaced: bool, tokens: list[Token]) -> None:
    r"""Append what `\text{content}` stands for: a connector, a condition, a unit, a function, or words."""
    content = content.strip()
    if "\\" in content and len(content) < 60 and unit(content) is not None:
        content = plain_unit(content).strip()
    bare = content.strip(" ,.;:~\\").strip()
    lowered = bare.casefold()
    if not bare:
        if content:
            tokens.append(Token("sep", ","))
    elif lowered in words.CONNECTORS:
        tokens.append(Token("sep", words.CONNECTORS[lowered], spaced=True))
    elif lowered == "to":
        tokens.append(Token("op", ":", spaced))
    elif not is_text and bare in words.FUNCTIONS:
        tokens.append(Token("fn", words.FUNCTIONS[bare], spaced))
    elif (
        not is_text
        and len(bare) == 1
        and bare.isascii()
        and bare.isalpha()
        and (
            bare in "ied"
            or bare not in UNITS
            or not (tokens and (tokens[-1].kind in _BEFORE_UNIT or tokens[-1].value in ("/", "*")))
        )
    ):
        tokens.append(Token("var", bare, spaced))
    else:
        tokens.append(Token("text", content, spaced))
