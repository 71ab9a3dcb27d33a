"""Conversion of a text to the expression of its answer.

`reader` parses what was extracted, `phrases` reads answers in words, `times` reads times of day, durations and dates, and `alternatives`
gives second readings of an answer whose first reading differs from the other side.
"""

from rewardkit_math.reading.alternatives import alternatives, same_digits
from rewardkit_math.reading.phrases import word_count
from rewardkit_math.reading.reader import Read, read, read_boxes, read_phrase, read_reference

__all__ = ["Read", "alternatives", "read", "read_boxes", "read_phrase", "read_reference", "same_digits", "word_count"]
