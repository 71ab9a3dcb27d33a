"""Conversion of text to an expression tree by `parse`. Each module parses one kind of notation.

==================  =================================================================
`text`              Unicode to plain LaTeX, and the forms in which two texts are the same
`lexer`             characters to tokens
`vocabulary`        the words of the notation: functions, constants, relations, connectors
`parser`            tokens to a tree: the parts below, put together
`lists`             answers in a row, relations, conditions
`operators`         + − × ÷, powers, ±, factorials, percent, degrees, juxtaposition
`operands`          variables, subscripts, groups, arguments
`numerals`          digits: grouping, decimals, repetition, mixed numbers, bases
`brackets`          parentheses, tuples, intervals, sets, bars
`environments`      matrices, cases, rows under one another
`functions`         sin, log, roots, fractions, sums, integrals
`quantities`        words and units after a value
==================  =================================================================
"""

from rewardkit_math.parsing.parser import parse

__all__ = ["parse"]
