"""Cutting sentences: there and back, what is remembered, what is refused."""

import json
import sys

import pytest

from softplace.attention import tokens
from softplace.attention.text import END, SPECIAL, UNKNOWN
from softplace.errors import InputError

TEXTS = ["Ein Mann, der läuft.", "A man runs!", "zwei Hunde laufen", "two  dogs run"] * 3


@pytest.mark.parametrize("kind", tokens.KINDS)
def test_there_and_back_and_kept_as_json(kind: str) -> None:
    made = tokens.learn(kind, TEXTS)
    again = tokens.restore(json.loads(json.dumps(made.record())))
    assert len(again) == len(made)
    for text in [*TEXTS, "", "Ein Mann"]:
        numbers = made.encode(text)
        assert numbers[-1] == END
        assert max(numbers) < len(made)
        assert again.encode(text) == numbers
        assert again.decode(numbers) == made.decode(numbers)
        assert made.decode([*numbers, 5, 6]) == made.decode(numbers)  # nothing after the end
        joined = made.decode(numbers)
        plain = (
            text if kind != "words" else " ".join(text.replace(",", " ,").replace(".", " .").replace("!", " !").split())
        )
        assert " ".join(joined.split()) == " ".join(plain.split())
    assert made.names([UNKNOWN, END])[0] == SPECIAL[UNKNOWN]


def test_an_unknown_word_is_said_to_be() -> None:
    made = tokens.learn("words", ["a b a"], 6)
    assert len(made) == 6
    assert made.encode("a zebra b") == [4, UNKNOWN, 5, END]
    assert made.names(made.encode("zebra")) == ["<unk>", "</s>"]
    assert tokens.learn("words", ["a b a"], 5).encode("a b") == [4, UNKNOWN, END]
    characters = tokens.learn("characters", ["ab"])
    assert characters.encode("a☃") == [4, UNKNOWN, END]
    pieces = tokens.learn("bpe", TEXTS)
    assert UNKNOWN in pieces.encode("ein ☃ Mann")


def test_numbers_of_a_token_say_its_word() -> None:
    text = "two  dogs run"
    for kind, expected in (("words", [0, 1, 2]), ("characters", None), ("bpe", None)):
        made = tokens.learn(kind, TEXTS)
        numbers = made.encode(text)
        places = made.places(text)
        assert len(places) == len(numbers) - 1
        assert places == (expected or places)
        assert made.words(numbers) == places
        found: dict[int, str] = {}
        for number, place in zip(numbers, places, strict=False):
            found[place] = found.get(place, "") + made.names([number])[0].replace("▁", "").replace(" ", "")
        assert [word for word in found.values() if word] == text.split()


def test_words_are_those_between_spaces() -> None:
    texts = ["The cat, dog. a b"]
    words = tokens.learn("words", texts)
    assert words.places("The cat, dog.") == [0, 1, 1, 2, 2]
    assert words.words(words.encode("The cat, dog.")) == [0, 1, 2, 3, 4]  # as it spells them: The cat , dog .
    assert tokens.learn("characters", texts).places(" a b  cat ") == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    spaced = tokens.WordTokens(words.vocabulary, spaced=True)  # type: ignore[attr-defined]
    assert spaced.places("The cat, dog.") == [0, 1, 2]
    pieces = tokens.learn("bpe", TEXTS)
    numbers = pieces.encode("ein☃Mann")
    said = pieces.decode(numbers).split()
    assert pieces.words(numbers)[-1] == len(said) - 1
    assert set(pieces.places("ein☃Mann")) == {0}


def test_small_letters() -> None:
    for kind in tokens.KINDS:
        made = tokens.learn(kind, TEXTS, lower=True)
        assert made.encode("EIN MANN") == made.encode("ein mann")
        assert made.decode(made.encode("EIN MANN")) == "ein mann"


def test_few_pieces_are_as_many_as_there_are() -> None:
    made = tokens.learn("bpe", TEXTS)
    assert len(made) < 200
    assert len(tokens.learn("bpe", TEXTS, 45)) == 45


@pytest.mark.parametrize(
    ("kind", "most", "message"),
    [
        ("bpe", 20, r"'words' must be at least \d+: the texts have so many characters\. Got 20"),
        ("bpe", 9999, r"'words' must be at most \d+ for texts like these\. Got 9,999"),
        ("words", 4, r"'words' must be above 4, the special ones, and at most 10,000,000\. Got 4"),
        ("word", None, r"Unknown 'tokens' 'word'\. Did you mean 'words'\?"),
    ],
)
def test_what_cannot_be_learned(kind: str, most: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tokens.learn(kind, TEXTS, most)


@pytest.mark.parametrize(
    "record", [{}, {"kind": "bpe", "model": "AAAA", "lower": False}, {"kind": "words"}, {"kind": "syllables"}]
)
def test_what_cannot_be_restored(record: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Expected a vocabulary"):
        tokens.restore(record)


def test_without_sentencepiece_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(InputError, match=r"Install softplace\[attention\], or use --tokens words or characters"):
        tokens.learn("bpe", TEXTS)


def test_many_texts_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "SAMPLED", 4)
    assert list(tokens._sampled(str(number) for number in range(30))) == ["0", "4", "8", "12", "16", "20", "24", "28"]
    assert list(tokens._sampled(["a", "b"])) == ["a", "b"]
