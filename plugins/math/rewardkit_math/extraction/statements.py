"""Sentences that state an answer, such as "the answer is …" in several languages and "I choose B"."""

# ruff: noqa: E501 - tables are read across

from __future__ import annotations

import re
from collections.abc import Iterator

from rewardkit_math.extraction.prose import NUMBER, TAIL, formulas_at, is_prose, last_value, without_delimiters
from rewardkit_math.units import words_behind

_PHRASES = tuple(
    (parts, re.compile(pattern, re.IGNORECASE))
    for parts, pattern in (
        (("inal", "INAL"), r"\bfinal\s+answer\b[^.\n:=$\\]{0,60}?(?:\bis\b|[:=])[\s:*`]*"),
        (
            ("nswer", "A:", "NSWER", "答案"),
            (
                r"(?:(?:^|\n)\s*A:|答案(?:是|为|應為|应为|选)?\s*[:：是为]?"
                r"|\banswers?\b[^.\n:=$\\]{0,60}?(?:\bis\b|\bare\b|[:=]|\**[ \t]*(?=\n)))[\s:*`]*"
            ),
        ),
        (
            ("选", "选", "選"),
            r"(?:故选|故選|应选|應選|本题选|本題選|选择|選擇|选项[为是]|選項[為是]|选)\s*[:：]?[\s*]*(?=[(（]?\s*[A-Ha-h])",
        ),
        (
            (
                "éponse",
                "espuesta",
                "isposta",
                "esposta",
                "ntwort",
                "твет",
                "dpowied",
                "evap",
                "áp án",
                "áp số",
                "답",
                "答",
                "الجواب",
                "الإجابة",
                "var:",
                "ösung",
                "astaus",
            ),
            (
                r"(?:r[ée]ponse|respuesta|risposta|resposta|antwort|lösung|vastaus|ответ|odpowied[źz]|cevap|đáp (?:án|số)|정답|답|答え?|الجواب|الإجابة|\bsvar)"
                r"[^.\n:：=$\\\d]{0,40}?(?:\b(?:est|es|è|é|ist|lautet|to|là|wynosi)\b|[:：=]|은|는|は|هو|هي)[\s:*`]*"
            ),
        ),
        (
            (
                "esult",
                "ption",
                "hoice",
                "olution",
                "hoose",
                "elect",
                "ick",
                "hink",
                "elieve",
                "o with",
                "oing with",
                " is ",
            ),
            (
                r"(?:\b(?:result|option|choice|solutions?)\s+(?:is|are|was|would\s+be|should\s+be|must\s+be|[:=])"
                r"|\b(?:choose|select|pick|choice|option|go(?:ing)?\s+with|think\s+it(?:'s|\s+is)|believe\s+it(?:'s|\s+is))\b"
                r"(?=[\s:*]*(?:(?:answer|option|choice)\s+)*\(?[A-J]\)?(?![A-Za-z']))"
                r"|\b(?:(?:so|thus|hence|therefore)\b,?\s+)?(?=[*(]{0,3}[A-HJ][*)]{0,3}\s+is\s+(?:the\s+)?(?:correct|right|best)\b))[\s:*`]*"
            ),
        ),
    )
)
"""Patterns of statements, most trusted first, each with parts of words of which a match contains at least one."""

FINAL = _PHRASES[0][1]
"""The pattern of "the final answer is"."""

_FILLER = re.compile(
    r"[\u4e00-\u9fff]{1,12}(?=[\d$\\-])|(?:(?:therefore|thus|then|hence|simply|just|indeed|also|clearly|now|exactly|equal\s+to|given\s+by|donc|also|choice|option)\b[\s,:]*)+"
    r"(?=\S)",
    re.IGNORECASE,
)
"""Words between "the answer is" and the answer."""
_NOT_BUT = re.compile(r"not\s[^.\n]{1,60}?\s(?:but|rather)\s+(?:rather\s+)?", re.IGNORECASE)
_IN_WORDS = re.compile(r"\s+\([A-Za-z][A-Za-z' -]{2,60}\)$")
"""The answer repeated in words, as in `48 (forty-eight)`."""
SENTENCE_END = re.compile(r"\n|[.!?](?=\s|$|\*)|。|</?[a-z]")

_CLAUSE = re.compile(
    r"\s*(?:"
    r"[,;]\s*(?:and|but|so|or)?\s*(?:\b(?:because|since|as|which|who|whose|where|with|not|but|so|thus|hence|therefore|rounding|rounded|obtained|giving|given|see|"
    r"using|by|from|for\s+which|when|while|whereas|rather|instead|after|before|this|that|these|it|we|you|i|he|she|they|there|the|to|if|of\s+which|"
    r"car|parce|puisque|weil|denn|porque|perch[ée]|poich[ée]|ya\s+que|pois|так|потому|因为|also|namely|meaning|making|leaving|verified|checked|note|is|are|was)\b)"
    r"|;\s*(?=[A-Za-z]{3})"
    r"|\s\(\s*(?:not|from|see|because|since|by|as|using|rounded|approximately|about|where|which|the|it|in|with|check|verified|eq|equation|note|this|to)\b"
    r"|\s(?:-|—|–|--+)\s+(?=[A-Za-z]{2})"
    r"|\s\b(?:because|since|but|which|rather\s+than|instead\s+of|not|whereas|so\s+that|as\s+(?:the|we|it|there|shown|required)|when\s+rounded|and\s+not|is\s+(?:wrong|(?:the\s+)?(?:correct|right|best)))\b"
    r"|\sas\s+(?=[\d$\\(-])"
    r"|;\s*(?=\S{1,20}\s+(?:is|are|was|would|will|can(?:not|'t)?|could|does|do|has|have|gives?)\b)"
    r")",
    re.IGNORECASE,
)
"""The beginning of a clause that explains the answer of a statement."""


def clause(sentence: str) -> str:
    """Return the part of a sentence that states its answer: the text before the first clause that explains it."""
    match = _CLAUSE.search(sentence)
    while match is not None:
        stated = sentence[: match.start()].strip().strip("*`").strip()
        if stated and sentence[: match.start()].count("$") % 2 == 0:
            return stated
        match = _CLAUSE.search(sentence, match.end())
    return sentence


def phrase(text: str, _: tuple[str, ...]) -> Iterator[str]:
    """Yield the answers that follow "the answer is" and the like."""
    tail = text[-TAIL:]
    for parts, pattern in _PHRASES:
        found = [at for part in parts if (at := tail.find(part)) >= 0]
        if not found:
            continue
        last = None
        for match in pattern.finditer(tail, max(0, tail.rfind("\n", 0, min(found)))):
            if tail[match.end() : match.end() + 1].strip() and " because " not in match[0]:
                last = match
        if last is not None:
            yield from _stated(tail[last.end() : last.end() + 2000].strip())
            return


def _number_of(stated: str) -> str | None:
    """Return the number of `42 pommes au total`; None if one of the words after it is a unit or changes its meaning."""
    match = NUMBER.match(stated)
    rest = stated[match.end() :] if match is not None else ""
    if match is None or not _WORDS.fullmatch(rest):
        return None
    behind = words_behind(rest)
    return match[0] if behind.unit is None and not behind.changing else None


_WORDS = re.compile(r"(?:\s+[^\W\d_]+){2,}[.\s]*")


def _stated(rest: str) -> Iterator[str]:
    """Yield the answers of the sentence at the beginning of `rest`."""
    contrast = _NOT_BUT.match(rest)
    rest = rest[contrast.end() :] if contrast is not None else rest
    filler = _FILLER.match(rest)
    rest = rest[filler.end() :] if filler is not None else rest
    formulas = formulas_at(rest)
    if formulas is not None:
        yield formulas
    end = SENTENCE_END.search(rest)
    sentence = (rest[: end.start()] if end else rest).strip().strip("*`").strip()
    if sentence.isdecimal():
        yield sentence
        return
    sentence = _IN_WORDS.sub("", sentence)
    stated = clause(sentence)
    if formulas is None and not is_prose(stated):
        yield _number_of(stated) or without_delimiters(stated)
    found = False
    for value in last_value(stated):
        found = True
        yield value
    if not found and formulas is None:
        yield from last_value(sentence)
