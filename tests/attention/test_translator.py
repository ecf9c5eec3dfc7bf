"""A trained translator: what it returns for lines of every kind, what it looked at, and which folders it opens."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from softplace.attention import Transformer, tokens
from softplace.attention.number_words import NumberWords
from softplace.attention.text import BEGIN, END
from softplace.attention.translating import Printing, heat_map, translations
from softplace.attention.translator import Looks, Search, Translator, load
from softplace.errors import InputError
from softplace.training.folder import MODEL, TOKENS
from tests.attention.small import SIZES

LINES = ["twenty one , seven", "", "nine", "  ", "eighty eight , forty , three", "nine"]


@pytest.fixture(params=list(SIZES))
def translator(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Translator:
    return load(folders[request.param])


@pytest.mark.parametrize("search", [Search(), Search(beam=3), Search(beam=3, room=1), Search(precision="bfloat16")])
def test_lines_come_in_their_order_whatever_is_beside_them(translator: Translator, search: Search) -> None:
    together = translator.translate(LINES, search)
    assert [each.text for each in together] == [translator.translate([line], search)[0].text for line in LINES]
    assert (together[1].text, together[3].text, together[1].numbers) == ("", "", ())
    assert together[2].text == together[5].text
    assert all(each.log_probability < 0 for each, line in zip(together, LINES, strict=True) if line.strip())
    assert translator.translate([], search) == []
    assert not translator.net.training


@torch.no_grad()
def test_the_log_probability_is_that_of_the_words(translator: Translator) -> None:
    for line in ("nine", "eighty eight , forty , three"):
        for found in translator.hypotheses([line], Search(beam=3, longest=6))[0]:
            words = [*found.numbers, *([END] if found.ended else [])]
            source = torch.tensor([translator.source_tokens.encode(line)])
            logits = translator.net(source, torch.tensor([[BEGIN, *words[:-1]]]))[0].double()
            expected = logits.log_softmax(-1)[range(len(words)), words].sum()
            assert found.log_probability == pytest.approx(float(expected), abs=1e-4)
            penalty = ((5 + len(words)) / 6) ** 0.6
            assert found.score == pytest.approx(found.log_probability / penalty, rel=1e-6)
            assert len(found.numbers) <= 6


def test_draws_depend_on_the_seed_alone(translator: Translator) -> None:
    lines = ["eighty eight , forty , three"] * 8
    one, two, other = (
        [each.text for each in translator.translate(lines, Search(temperature=2.0, seed=seed, longest=12))]
        for seed in (1, 1, 2)
    )
    assert one == two != other
    assert len(set(one)) > 1


def test_unknown_characters_are_read_as_unknown(translator: Translator) -> None:
    found = translator.translate(["猫 🙂 \u0000 nine", "nine\tnine", "ｎｉｎｅ"])
    assert len(found) == 3
    assert all("\n" not in each.text for each in found)


def test_a_line_that_is_too_long_is_named(translator: Translator) -> None:
    with pytest.raises(InputError, match=r"Line 3 must have at most 1,000 tokens\. Got 20,001\. Is it one sentence"):
        translator.translate(["nine", "", "nine " * 20_000], longest=1000)
    with pytest.raises(InputError, match=r"Line 13 must have at most 2 tokens\. Got 3\."):
        translator.hypotheses(["nine", "nine ,"], Search(), longest=2, before=11)


@pytest.mark.parametrize(
    ("search", "said"),
    [
        (Search(beam=0), "'beam' must be a whole number from 1"),
        (Search(room=0), "'room' must be a whole number from 1"),
        (Search(seed=-1), "'seed' must be a whole number from 0"),
        (Search(precision="bfloat"), "Unknown 'precision' 'bfloat'. Did you mean 'bfloat16'"),
        (Search(temperature=0.0), "'temperature'"),
        (Search(longest=0), "'longest'"),
        (Search(beam=2, length_penalty=math.nan), "'length_penalty'"),
    ],
)
def test_what_no_search_can_use_is_said(search: Search, said: str, folders: dict[str, Path]) -> None:
    with pytest.raises(InputError) as caught:
        load(folders["rnnsearch"]).translate(["nine"], search)
    assert said in str(caught.value)


# What it looked at


@pytest.mark.parametrize("model", ["transformer", "rnnsearch"])
def test_looks_are_the_nets_weights(model: str, folders: dict[str, Path]) -> None:
    translator = load(folders[model])
    pairs = [("nine", "neun"), ("twenty one , seven", "ein und zwanzig , sieben")]
    for look, (one, other) in zip(translator.looks(pairs), pairs, strict=True):
        source, target = translator.source_tokens.encode(one), translator.target_tokens.encode(other)
        given = torch.tensor([[BEGIN, *target[:-1]]])
        found = translator.net.attention(torch.tensor([source]), given)  # type: ignore[operator]
        expected = found[:, None, None] if isinstance(found, torch.Tensor) else torch.stack(found.source, 1)
        torch.testing.assert_close(look.weights, expected[0].detach().float(), rtol=0, atol=1e-6)
        torch.testing.assert_close(look.weights.sum(-1), torch.ones(look.weights.shape[:-1]), rtol=0, atol=1e-6)
        assert (len(look.target), len(look.source)) == tuple(look.weights.shape[2:])
        assert len(look.source_words) == len(source) - 1
    by_numbers = translator.looks([(pairs[0][0], translator.target_tokens.encode(pairs[0][1])[:-1])])[0]
    assert torch.equal(by_numbers.weights, translator.looks(pairs[:1])[0].weights)


def look(weights: list[list[float]], **given: tuple[int, ...]) -> Looks:
    """Three source tokens of two words, and as many target tokens as rows; the end after each."""
    words = {"source_words": (0, 0, 1), "target_words": tuple(range(len(weights) - 1)), **given}
    target = (*"xyz"[: len(weights) - 1], "</s>")
    return Looks(("a1", "a2", "b", "</s>"), target, torch.tensor(weights)[None, None], **words)


def test_links_by_hand() -> None:
    rows = [[0.1, 0.6, 0.2, 0.1], [0.0, 0.2, 0.7, 0.1], [0.0, 0.0, 0.1, 0.9]]
    found = look(rows)
    assert found.links(by_words=False) == {(1, 0), (2, 1)}
    assert found.links() == {(0, 0), (1, 1)}
    # One step after it was said: rows move up by one, and the end's row is the last word's.
    assert found.links(by_words=False, shift=1) == {(2, 0), (2, 1)}
    # One step before: the first word has no row.
    assert found.links(by_words=False, shift=-1) == {(1, 1)}
    assert found.links(by_words=False, threshold=0.2) == {(1, 0), (2, 0), (1, 1), (2, 1)}
    assert look([[0.1, 0.1, 0.2, 0.6], *rows[1:]]).links(by_words=False) == {(2, 0), (2, 1)}  # the end is left out
    assert look(rows, target_words=(0, 0)).links() == {(0, 0), (1, 0)}


def test_layers_and_heads_are_addressed() -> None:
    weights = torch.arange(3 * 2 * 2 * 3, dtype=torch.float32).view(3, 2, 2, 3)
    found = Looks(("a", "b", "</s>"), ("x", "</s>"), weights, (0, 1), (0,))
    assert torch.equal(found.matrix(), weights[1].mean(0))  # the last but one
    assert torch.equal(found.matrix(layer=-1, head=0), weights[2, 0])
    assert torch.equal(found.matrix(layer=0), weights[0].mean(0))
    for way in ({"layer": 3}, {"layer": -4}, {"head": 2}):
        with pytest.raises(InputError, match=r"'layer' and 'head' must be below 3 and 2, as many as there are\. Got"):
            found.matrix(**way)


def test_a_heat_map_by_hand() -> None:
    rows = [[0.04, 0.05, 0.25, 0.66], [0.5, 0.75, 0.0, 0.0]]
    drawn = [line.rstrip() for line in heat_map(look(rows)).splitlines()]
    assert drawn == [
        "     a a b <",
        "     1 2   /",
        "           s",
        "           >",
        "   x   ░░▒▒▓▓",
        "</s> ▓▓██",
    ]


def test_what_is_printed_of_a_line(folders: dict[str, Path]) -> None:
    translator = load(folders["transformer"])

    def printed(**given: object) -> list[str]:
        layer = 0 if given.get("align") else None
        printing = Printing(way={"layer": layer, "head": None, "shift": None, "threshold": None}, **given)  # type: ignore[arg-type]
        return list(translations(translator, LINES, Search(beam=2), printing, longest=99))

    plain = [each.text for each in translator.translate(LINES, Search(beam=2))]
    assert printed() == plain
    aligned = printed(align=True)
    assert [line.split(" ||| ")[0] for line in aligned] == plain
    found = translator.links([(LINES[0], plain[0])], layer=0)[0]
    assert aligned[0].split(" ||| ")[1] == " ".join(f"{i}-{j}" for i, j in sorted(found))
    assert aligned[1] == " ||| "
    several = printed(best=2)
    assert len(several) == 2 * len(LINES)
    assert several[2:4] == [" ||| 0.0000"] * 2  # an empty line has as many, so that n-best files keep step
    for place, line in ((0, 0), (4, 2)):
        scores = [float(text.rsplit(" ||| ", 1)[1]) for text in several[place : place + 2]]
        assert scores == sorted(scores, reverse=True)
        assert several[place].startswith(plain[line] + " ||| ")
    with pytest.raises(InputError, match=r"'best' must lie between 1 and 'beam', 2\. Got 3\."):
        printed(best=3)
    with pytest.raises(InputError, match=r"'pieces' says how links are found\. Got it without them"):
        printed(by_words=False)
    way = {"layer": None, "head": None, "shift": 1, "threshold": None}
    with pytest.raises(InputError, match=r"'shift' says how links are found"):
        list(translations(translator, LINES, Search(), Printing(way=way, heat_map=True), longest=99))
    with pytest.raises(InputError, match=r"'best' must lie between 1 and 1, as many as are drawn\. Got 2"):
        list(translations(translator, LINES, Search(temperature=1.0), Printing(best=2, way={}), longest=99))


# Folders


def test_a_folder_that_has_no_translator_says_what_is_missing(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected the folder of a training\. Got one without config\.json\. Train"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"without config\.json"):
        load(tmp_path / "nowhere")

    def copy(name: str) -> Path:
        return Path(shutil.copytree(folders["rnnsearch"], tmp_path / name))

    (copy("tokens") / TOKENS).unlink()
    with pytest.raises(InputError, match=r"without tokens\.json"):
        load(tmp_path / "tokens")
    (copy("damaged") / TOKENS).write_text("{")
    with pytest.raises(InputError, match="expected the vocabularies of a training"):
        load(tmp_path / "damaged")
    content = (copy("half") / MODEL).read_bytes()
    (tmp_path / "half" / MODEL).write_bytes(content[:1000])
    with pytest.raises(InputError, match=r"expected a whole checkpoint\. Got a damaged one"):
        load(tmp_path / "half")
    content = json.loads((copy("words") / TOKENS).read_text(encoding="utf-8"))
    for name, damage in {
        "source": lambda: content.pop("source"),
        "numbers": lambda: content.update(source={"kind": "words", "words": [1], "lower": False, "spaced": True}),
        "other": lambda: content.update(source=content["target"]),
    }.items():
        whole = dict(content)
        damage()
        (tmp_path / "words" / TOKENS).write_text(json.dumps(content), encoding="utf-8")
        said = "expected the vocabularies that the net was trained with" if name == "other" else "Got damaged ones"
        with pytest.raises(InputError, match=said):
            load(tmp_path / "words")
        content.clear()
        content.update(whole)
    shutil.copy(folders["transformer"] / MODEL, copy("other") / MODEL)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load(tmp_path / "other")


def test_a_training_under_way_translates_too(folders: dict[str, Path], tmp_path: Path) -> None:
    unfinished = Path(shutil.copytree(folders["rnnsearch"], tmp_path / "a"))
    (unfinished / MODEL).unlink()
    assert len(load(unfinished).translate(LINES)) == len(LINES)


def test_a_net_without_attention_has_no_links(folders: dict[str, Path]) -> None:
    translator = load(folders["rnnencdec"])
    for printing in (Printing(align=True, way={}), Printing(heat_map=True, way={}), Printing(weights=True, way={})):
        with pytest.raises(InputError, match="An RNNEncDec looks at nothing"):
            list(translations(translator, LINES, Search(), printing, longest=99))


def test_learned_positions_cut_a_translation_and_refuse_a_longer_line() -> None:
    made = tokens.learn("words", ["a b"])
    net = Transformer(source_words=6, target_words=6, width=8, heads=2, inner=8, positions="learned", longest=12)
    translator = Translator(net.eval(), made, made)
    assert len(translator.translate(["a " * 11])[0].numbers) <= 12
    with pytest.raises(InputError, match=r"Line 2 must have at most 12 tokens\. Got 13\. .* no more positions"):
        translator.translate(["a", "a " * 12])


@pytest.mark.slow
@pytest.mark.parametrize(("model", "steps"), [("transformer", None), ("rnnsearch", 400)])
def test_number_words_are_learned_to_the_letter(model: str, steps: int | None, tmp_path: Path) -> None:
    """As `softplace train attention` by itself does: lists of 1 to 3 numbers of up to six digits, never seen."""
    from softplace.attention.training import train

    result = train(model, out=tmp_path, steps=steps)
    assert result.evaluation["test"]["greedy_exact"] >= 0.99
    assert result.evaluation["test"]["exact"] >= 0.99
    if model == "transformer":
        assert result.evaluation["alignment"]["error_rate"] < 0.02
    pair = NumberWords().pair([321, 45, 6])
    said = [" ".join(side) for side in (pair.source, pair.target)]
    assert load(tmp_path).translate(said[:1])[0].text == said[1]
