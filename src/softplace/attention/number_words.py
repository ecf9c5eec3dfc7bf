"""Numbers in words, as parallel text with gold word alignments: English, German, French, Japanese.

A word stands for powers of ten: `("digit", p)` is the digit at 10^p, `("scale", p)` the power itself. Two words of two
languages are linked when they stand for one of the same: *twenty* and *zwanzig* for the tens, 二 for their digit and 十
for their scale. German says units before tens, so links cross; Japanese counts in powers of 10,000; French says 70 as
60 10 and 80 as 4 20.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from softplace.errors import InputError, nearest

LARGEST = 999_999_999
COMMA = ","

Place = tuple[str, int]


class Word(NamedTuple):
    """A word (of German, a part of one) and the powers of ten that it stands for: none for *and*, *und*, *et*."""

    text: str
    places: frozenset[Place] = frozenset()


class Pair(NamedTuple):
    """A sentence in two languages.

    Fields:
        source, target: The words.
        links: Which word of the source is which of the target, counted from 0.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    links: frozenset[tuple[int, int]]


def spell(number: int, language: str) -> tuple[Word, ...]:
    """A number in words.

    Args:
        number: 0 to 999,999,999.
        language: "en", "de" (parts of words: *ein und zwanzig*), "fr" (without the s of *cents*, *vingts*, *millions*)
            or "ja" (一 is left out before 十, 百 and 千, whose words then stand for the digit too).

    Raises:
        InputError: No such number or language.

    >>> " ".join(word.text for word in spell(321, "de"))
    'drei hundert ein und zwanzig'
    """
    if language not in _SPELL:
        raise InputError(f"Unknown language {language!r}. {nearest(str(language), tuple(_SPELL))}")
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= LARGEST:
        raise InputError(f"'number' must be a whole number from 0 to {LARGEST:,}. Got {number!r}. Choose another.")
    if number == 0:
        return (Word(_ZERO[language], frozenset({("digit", 0)})),)
    return tuple(_SPELL[language](number))


def links(source: Sequence[Word], target: Sequence[Word]) -> frozenset[tuple[int, int]]:
    """The places (i, j) of words that stand for the same."""
    return frozenset(
        (i, j) for i, one in enumerate(source) for j, other in enumerate(target) if one.places & other.places
    )


@dataclass(frozen=True, kw_only=True)
class NumberWords:
    """A source of sentences that are lists of numbers.

    Args:
        source, target: Languages.
        count: The fewest and the most numbers in a list; all are equally likely.
        digits: The fewest and the most digits of a number, up to 9; all are equally likely, then all such numbers.

    Raises:
        InputError: Something that cannot be used.
    """

    source: str = "en"
    target: str = "de"
    count: tuple[int, int] = (1, 3)
    digits: tuple[int, int] = (1, 6)

    def __post_init__(self) -> None:
        for language in (self.source, self.target):
            spell(0, language)
        for name, most in (("count", 1000), ("digits", 9)):
            given = getattr(self, name)
            whole = isinstance(given, tuple) and [type(each) for each in given] == [int, int]
            if not whole or not 1 <= given[0] <= given[1] or given[1] > most:
                until = f" to {most}"
                raise InputError(
                    f"{name!r} must be two ascending whole numbers from 1{until}. Got {given}. Use e.g. (1, 3)."
                )

    def pairs(self, n: int, generator: torch.Generator) -> list[Pair]:
        """So many sentences; equal generators draw equal ones."""

        return [self.pair(self.numbers(generator)) for _ in range(n)]

    @property
    def size(self) -> int:
        """How many lists there are."""
        low, high = self.digits
        numbers = 10**high - (10 ** (low - 1) if low > 1 else 0)
        return sum(numbers**count for count in range(self.count[0], self.count[1] + 1))

    def numbers(self, generator: torch.Generator) -> list[int]:
        """The numbers of a sentence."""

        def draw(low: int, high: int) -> int:
            return int(torch.randint(low, high + 1, (), generator=generator))

        sizes = [draw(*self.digits) for _ in range(draw(*self.count))]
        return [draw(10 ** (size - 1) if size > 1 else 0, 10**size - 1) for size in sizes]

    def pair(self, numbers: Sequence[int]) -> Pair:
        """The sentence of a list of numbers."""
        source: list[str] = []
        target: list[str] = []
        found: set[tuple[int, int]] = set()
        for place, number in enumerate(numbers):
            if place:
                found.add((len(source), len(target)))
                source.append(COMMA)
                target.append(COMMA)
            one, other = spell(number, self.source), spell(number, self.target)
            found |= {(len(source) + i, len(target) + j) for i, j in links(one, other)}
            source += [word.text for word in one]
            target += [word.text for word in other]
        return Pair(tuple(source), tuple(target), frozenset(found))


def vocabulary(language: str) -> tuple[str, ...]:
    """Every word of a language's sentences, in a fixed order."""
    thousands = [10**power for power in range(9)]
    words = [word.text for number in (*range(1000), *thousands) for word in spell(number, language)]
    return tuple(dict.fromkeys([COMMA, *words]))


def _word(text: str, *places: Place) -> Word:
    return Word(text, frozenset(places))


def _digit(power: int) -> Place:
    return "digit", power


def _scale(power: int) -> Place:
    return "scale", power


def _groups(number: int, size: int) -> list[tuple[int, int]]:
    """The groups of so many digits that are not 0, the highest first, each with the power of its last digit."""
    groups = [(number // 10**power % 10**size, power) for power in range(0, 9, size)]
    return [each for each in reversed(groups) if each[0]]


_ZERO = {"en": "zero", "de": "null", "fr": "zéro", "ja": "零"}

_EN = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_EN_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_EN_SCALES = {3: "thousand", 6: "million"}


def _english(number: int) -> Iterable[Word]:
    for group, power in _groups(number, 3):
        hundreds, rest = divmod(group, 100)
        if hundreds:
            yield _word(_EN[hundreds], _digit(power + 2))
            yield _word("hundred", _scale(power + 2))
        if rest and (hundreds or (power == 0 and number > group)):
            yield _word("and")
        yield from _two_digits(rest, power, _EN, _EN_TENS)
        if power:
            yield _word(_EN_SCALES[power], _scale(power))


def _two_digits(rest: int, power: int, units: Sequence[str], tens: Sequence[str]) -> Iterable[Word]:
    """1 to 99 where words to 19 are their own, tens come first, and nothing is between."""
    ten, unit = divmod(rest, 10)
    if ten == 1:
        yield _word(units[rest], *_teen(power, unit))
        return
    if ten:
        yield _word(tens[ten - 2], _digit(power + 1), _scale(power + 1))
    if unit:
        yield _word(units[unit], _digit(power))


def _teen(power: int, unit: int) -> list[Place]:
    """What a word from 10 to 19 stands for."""
    return [_digit(power + 1), _scale(power + 1), *([_digit(power)] if unit else [])]


_DE = [
    "null", "ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf",
    "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn",
]  # fmt: skip
_DE_TENS = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]


def _german(number: int) -> Iterable[Word]:
    for group, power in _groups(number, 3):
        hundreds, rest = divmod(group, 100)
        ten, unit = divmod(rest, 10)
        if hundreds:
            yield _word(_DE[hundreds], _digit(power + 2))
            yield _word("hundert", _scale(power + 2))
        if ten == 1:
            yield _word(_DE[rest], *_teen(power, unit))
        else:
            if unit:
                last = ten == 0 and unit == 1
                one = {0: "eins", 3: "ein", 6: "eine"}[power] if last else _DE[unit]
                yield _word(one, _digit(power))
            if ten and unit:
                yield _word("und")
            if ten:
                yield _word(_DE_TENS[ten - 2], _digit(power + 1), _scale(power + 1))
        if power == 3:
            yield _word("tausend", _scale(3))
        elif power == 6:
            yield _word("Million" if group == 1 else "Millionen", _scale(6))


_FR = [
    "zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze", "douze",
    "treize", "quatorze", "quinze", "seize",
]  # fmt: skip
_FR_TENS = ["vingt", "trente", "quarante", "cinquante", "soixante"]


def _french(number: int) -> Iterable[Word]:
    for group, power in _groups(number, 3):
        hundreds, rest = divmod(group, 100)
        if hundreds > 1:
            yield _word(_FR[hundreds], _digit(power + 2))
        if hundreds:
            yield _word("cent", _scale(power + 2), *([_digit(power + 2)] if hundreds == 1 else []))
        if not (power == 3 and group == 1):
            yield from _french_rest(rest, power)
        if power == 3:
            yield _word("mille", _scale(3), *([_digit(3)] if group == 1 else []))
        elif power == 6:
            yield _word("million", _scale(6))


def _french_rest(rest: int, power: int) -> Iterable[Word]:
    """1 to 99: 70 to 79 are 60 and 10 to 19, 80 to 99 are 4 20 and 0 to 19."""
    ten, unit = divmod(rest, 10)
    whole = (_digit(power + 1), _scale(power + 1))
    if ten >= 8:
        yield _word("quatre", *whole)
        yield _word("vingt", *whole)
    elif ten >= 2:
        yield _word(_FR_TENS[min(ten, 6) - 2], *whole)
        if unit == 1:
            yield _word("et")
    if ten in (1, 7, 9):
        if unit <= 6:
            yield _word(_FR[10 + unit], *_teen(power, unit))
            return
        yield _word("dix", *whole)
    if unit:
        yield _word(_FR[unit], _digit(power))


_JA = "零一二三四五六七八九"
_JA_SCALES = {3: "千", 2: "百", 1: "十"}
_JA_GROUPS = {4: "万", 8: "億"}


def _japanese(number: int) -> Iterable[Word]:
    for group, power in _groups(number, 4):
        for place, scale in _JA_SCALES.items():
            digit = group // 10**place % 10
            if digit > 1:
                yield _word(_JA[digit], _digit(power + place))
            if digit:
                yield _word(scale, _scale(power + place), *([_digit(power + place)] if digit == 1 else []))
        if group % 10:
            yield _word(_JA[group % 10], _digit(power))
        if power:
            yield _word(_JA_GROUPS[power], _scale(power))


_SPELL: dict[str, Callable[[int], Iterable[Word]]] = {
    "en": _english, "de": _german, "fr": _french, "ja": _japanese,
}  # fmt: skip
LANGUAGES = tuple(_SPELL)
