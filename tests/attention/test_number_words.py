"""Number words against num2words and by hand; links by what the words stand for."""

from itertools import permutations
from typing import Any

import pytest
import torch

from softplace.attention.number_words import LANGUAGES, NumberWords, Word, links, spell, vocabulary
from softplace.errors import InputError


def text(number: int, language: str) -> str:
    return " ".join(word.text for word in spell(number, language))


def drawn(count: int, seed: int = 0, small: int = 1200) -> list[int]:
    """Numbers of 1 to 9 digits, all lengths alike, and all that are small."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 10, (count,), generator=generator).tolist()
    return [*range(small), *(int(torch.randint(0, 10**size, (), generator=generator)) for size in sizes)]


@pytest.mark.parametrize(
    ("number", "english", "german", "french", "japanese"),
    [
        (0, "zero", "null", "zéro", "零"),
        (1, "one", "eins", "un", "一"),
        (71, "seventy one", "ein und siebzig", "soixante et onze", "七 十 一"),
        (80, "eighty", "achtzig", "quatre vingt", "八 十"),
        (99, "ninety nine", "neun und neunzig", "quatre vingt dix neuf", "九 十 九"),
        (101, "one hundred and one", "ein hundert eins", "cent un", "百 一"),
        (1001, "one thousand and one", "ein tausend eins", "mille un", "千 一"),
        (301_000, "three hundred and one thousand", "drei hundert ein tausend", "trois cent un mille", "三 十 万 千"),
        (10**6, "one million", "eine Million", "un million", "百 万"),
        (2 * 10**8, "two hundred million", "zwei hundert Millionen", "deux cent million", "二 億"),
    ],
)
def test_by_hand(number: int, english: str, german: str, french: str, japanese: str) -> None:
    assert [text(number, language) for language in LANGUAGES] == [english, german, french, japanese]


@pytest.mark.parametrize("language", LANGUAGES)
def test_as_num2words(language: str) -> None:
    """But for its fault in German, where it says *eins* before *tausend* and *Millionen* after a hundred."""
    num2words: Any = pytest.importorskip("num2words").num2words
    faults = 0
    for number in drawn(3000):
        theirs = num2words(number, lang=language)
        if language in ("de", "ja"):
            ours, theirs = text(number, language).replace(" ", ""), theirs.replace(" ", "")
            right = theirs.replace("hunderteinstausend", "hunderteintausend")
            right = right.replace("hunderteinsMillionen", "hunderteineMillionen")
            faults += right != theirs
            theirs = right
        else:
            plurals = {"cents": "cent", "vingts": "vingt", "millions": "million"} if language == "fr" else {}
            words = theirs.replace("-", " ").replace(",", "").split()
            ours, theirs = text(number, language), " ".join(plurals.get(word, word) for word in words)
        assert ours == theirs, number
    assert (faults > 0) == (language == "de")


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_the_words_stand_for_is_the_number(language: str) -> None:
    known = set(vocabulary(language))
    for number in drawn(300, seed=1, small=110):
        places = [place for word in spell(number, language) for place in word.places]
        digits = str(number)
        wanted = {len(digits) - 1 - place for place, digit in enumerate(digits) if digit != "0" or number == 0}
        assert {power for kind, power in places if kind == "digit"} == wanted
        assert {word.text for word in spell(number, language)} <= known


@pytest.mark.parametrize(("source", "target"), list(permutations(LANGUAGES, 2)))
def test_every_digit_is_linked(source: str, target: str) -> None:
    for number in drawn(100, seed=2, small=110):
        one, other = spell(number, source), spell(number, target)
        found = links(one, other)
        for side, words in ((0, one), (1, other)):
            linked = {link[side] for link in found}
            left = [word for place, word in enumerate(words) if place not in linked]
            assert not any(kind == "digit" for word in left for kind, _ in word.places)


def test_links_by_hand() -> None:
    pair = NumberWords().pair([21, 345])
    assert pair.source == ("twenty", "one", ",", "three", "hundred", "and", "forty", "five")
    assert pair.target == ("ein", "und", "zwanzig", ",", "drei", "hundert", "fünf", "und", "vierzig")
    assert pair.links == {(0, 2), (1, 0), (2, 3), (3, 4), (4, 5), (6, 8), (7, 6)}
    pair = NumberWords(target="fr").pair([91])
    assert pair.target == ("quatre", "vingt", "onze")
    assert pair.links == {(0, 0), (0, 1), (0, 2), (1, 2)}
    pair = NumberWords(target="ja").pair([20_000])
    assert pair.target == ("二", "万")
    assert pair.links == {(0, 0), (0, 1)}


def test_german_crosses_in_most_numbers_and_french_in_none() -> None:
    def crossing(target: str) -> float:
        pairs = NumberWords(target=target, count=(1, 1)).pairs(1000, torch.Generator().manual_seed(3))
        cross = [any(i < k and j > m for i, j in pair.links for k, m in pair.links) for pair in pairs]
        return sum(cross) / len(cross)

    assert 0.6 < crossing("de") < 0.75
    assert crossing("fr") == 0.0


def test_sentences_are_drawn_alike_by_equal_generators_and_within_the_ranges() -> None:
    source = NumberWords(count=(2, 4), digits=(3, 3))
    pairs = source.pairs(50, torch.Generator().manual_seed(4))
    assert pairs == source.pairs(50, torch.Generator().manual_seed(4))
    assert pairs != source.pairs(50, torch.Generator().manual_seed(5))
    assert {pair.source.count(",") for pair in pairs} == {1, 2, 3}
    assert all("thousand" not in pair.source for pair in pairs)


def test_words_without_a_place_are_never_linked() -> None:
    assert links((Word("and"),), (Word("und"),)) == frozenset()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: spell(1, "dee"), "Unknown language 'dee'"),
        (lambda: spell(10**9, "en"), "'number' must be a whole number from 0 to 999,999,999. Got 1000000000"),
        (lambda: spell(-1, "en"), "Got -1"),
        (lambda: spell(True, "en"), "Got True"),
        (lambda: NumberWords(target="xx"), "Unknown language 'xx'"),
        (lambda: NumberWords(count=(0, 1)), "'count' must be two ascending whole numbers from 1 to 1000. Got (0, 1)"),
        (lambda: NumberWords(digits=(1, 10)), "'digits' must be two ascending whole numbers from 1 to 9. Got (1, 10)"),
    ],
)
def test_what_cannot_be_used_is_said(call: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert said in str(caught.value)
