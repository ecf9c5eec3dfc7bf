"""What a translator is measured by, against sacrebleu and by hand."""

import json
import math
from pathlib import Path

import pytest
import sacrebleu
import torch

from softplace.attention import evaluation, scoring, tokens
from softplace.attention.corpus import Example, number_words
from softplace.attention.evaluation import by_words, digest_of, evaluate, weights_are
from softplace.attention.scoring import score_files, scores, shown
from softplace.attention.translator import Looks, Translator, load
from softplace.errors import InputError
from tests.attention.small import shrink

SAID = ["Ein Mann fährt Rad .", "Zwei Hunde spielen im Schnee.", "", "ein kind lacht"]
MEANT = ["Ein Mann fährt Fahrrad .", "Zwei Hunde spielen im Schnee.", "Niemand da.", "Ein Kind lacht"]


def test_scores_are_sacrebleus() -> None:
    found, signatures = scores(SAID, MEANT)
    assert found["exact"] == 0.25
    assert found["bleu"] == sacrebleu.corpus_bleu(SAID, [MEANT]).score
    assert found["bleu_lower"] == sacrebleu.corpus_bleu(SAID, [MEANT], lowercase=True).score > found["bleu"]
    assert found["chrf"] == sacrebleu.corpus_chrf(SAID, [MEANT]).score
    assert scores([], []) == ({}, {})
    assert signatures["bleu"] == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    assert "case:lc" in signatures["bleu_lower"]


def test_spaces_do_not_make_a_sentence_another() -> None:
    assert scores(["a  b "], ["a b"])[0]["exact"] == 1.0


def test_exact_is_what_the_tokens_can_say() -> None:
    assert scores(["the cat , dog ."], ["The cat, dog."], ["the cat , dog ."])[0]["exact"] == 1.0
    texts = ["The cat, dog."]
    made = tokens.learn("words", texts, lower=True)
    translator = Translator(torch.nn.Linear(1, 1), made, made)
    assert translator.scores(["the cat , dog ."], texts)[0]["exact"] == 1.0
    assert translator.scores(["<unk> ."], ["a ."])[0]["exact"] == 0.0  # an unknown word is not said right by its name


def test_files_are_scored_by_one_or_more_references(tmp_path: Path) -> None:
    other = [line.lower() for line in MEANT]
    for name, lines in (("said", SAID), ("meant", MEANT), ("other", other), ("short", MEANT[:3]), ("none", [])):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    path = {each.name: str(each) for each in tmp_path.iterdir()}
    found = score_files(path["said"], [path["meant"], path["other"]])
    assert found["sentences"] == 4
    assert found["bleu"] == sacrebleu.corpus_bleu(SAID, [MEANT, other]).score
    assert found["chrf"] == sacrebleu.corpus_chrf(SAID, [MEANT, other]).score
    assert found["signatures"]["bleu"].startswith("nrefs:2|")
    text = shown(found, as_json=False).splitlines()
    assert text[0] == f"bleu: {found['bleu']:.2f} ({found['signatures']['bleu']}), 4 sentences"
    assert [line.split(":")[0] for line in text] == ["bleu", "chrf", "bleu_lower"]
    assert json.loads(shown(found, as_json=True)) == found
    with pytest.raises(InputError, match=r"short' must have as many lines as .*said', 4\. Got 3\."):
        score_files(path["said"], [path["meant"], path["short"]])
    with pytest.raises(InputError, match=r"none' must have lines\. Got none\."):
        score_files(path["none"], [path["none"]])
    with pytest.raises(InputError, match="must be a text file"):
        score_files(path["said"], ["nowhere"])


def test_without_sacrebleu_there_is_the_exact_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_metrics", dict)
    assert scores(SAID, MEANT) == ({"exact": 0.25}, {})
    with pytest.raises(InputError, match=r"package sacrebleu\. Got none\. Install softplace\[attention\]"):
        score_files("a", ["b"])


def test_sentences_of_like_length_are_scored_together() -> None:
    lines = ["w " * length for length in (1, 5, 6, 60, 61, 12)]
    said = ["a", "b", "c", "d", "e", "f"]
    found = by_words(lines, said, ["a", "x", "c", "d", "x", "x"])
    assert [(each["label"], each["sentences"], each["exact"]) for each in found] == [
        ("1-5", 2, 0.5), ("6-10", 1, 1.0), ("11-15", 1, 0.0), ("51+", 2, 0.5),
    ]  # fmt: skip
    assert [each["length"] for each in found] == [3.0, 6.0, 12.0, 60.5]


def test_entropy_and_support_by_hand() -> None:
    rows = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    one = Looks(("a",) * 4, ("x",) * 4, rows[None, None], (0, 1, 2), (0, 1, 2))
    found = weights_are([one])
    assert found == pytest.approx({"entropy": (1 + 2 + 0 + 0) / 4, "support": (2 + 4 + 1 + 0) / 4})
    two = Looks(("a",) * 4, ("x",), 3.0 * rows[None, None, :1], (0, 1, 2), ())  # weights that do not sum to one
    assert weights_are([one, two]) == pytest.approx({"entropy": 4 / 5, "support": 9 / 5})


def test_which_pairs_they_are() -> None:
    one, other = Example("a", "b"), Example("a", "c")
    assert digest_of([one, other]) == digest_of([one, other]) != digest_of([other, one])


def test_the_alignment_is_by_the_best_head_of_other_pairs(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A net whose weights are put in: head 1 of layer 0 looks where the gold is, one step late; others do not."""
    shrink(monkeypatch)
    data = number_words("number-words:en-de", 0, {"count": (1, 2), "digits": (1, 2)})
    translator, examples = load(folders["transformer"]), list(data.validation)[:6]
    original = translator.looks

    def pointing(pairs: list[tuple[str, str]]) -> list[Looks]:
        made = []
        for look, each in zip(original(pairs), [gold[pair] for pair in pairs], strict=True):
            weights = torch.full_like(look.weights, 0.01)
            weights[0, 0, :, 0] = 2.0
            for i, j in each.links or ():
                weights[0, 1, j + 1, i] = 1.0
            made.append(look._replace(weights=weights))
        return made

    gold = {(each.source, each.target): each for each in [*data.validation, *data.test()]}
    monkeypatch.setattr(translator, "looks", pointing)
    found = evaluation._alignment(translator, examples, list(data.test()))
    assert found == {"by": {"layer": 0, "head": 1, "shift": 1}, "error_rate": 0.0, "pairs": len(data.test())}
    assert evaluation._alignment(translator, [Example("a", "b")], examples) is None


def test_words_without_a_known_link_do_not_count() -> None:
    rows = torch.tensor([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0]])
    look = Looks(("a", "b", "</s>"), ("x", "y", "</s>"), rows[None, None], (0, 1), (0, 1))
    for links, error in (({(0, 0)}, 0.0), ({(1, 0)}, 1.0), ({(0, 0), (0, 1)}, 0.5), (set(), 1.0)):
        example = Example("a b", "x y", frozenset(links))
        assert evaluation._error([look], [example], {"layer": 0}) == pytest.approx(error)


@pytest.mark.parametrize("model", ["transformer", "rnnencdec"])
def test_an_evaluation_has_all_parts(model: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    data = number_words("number-words:en-de", 0, {"count": (1, 2), "digits": (1, 2)})
    found = evaluate(load(folders[model]), list(data.test()), data)
    assert {"exact", "greedy_exact", "bleu", "greedy_chrf", "signatures", "sentences"} <= set(found["test"])
    assert [each["label"] for each in found["by_length"]] == ["1", "2", "3"]
    assert (found["alignment"] is None) == (model == "rnnencdec")
    assert (found["weights"] is None) == (model == "rnnencdec")
    assert all(math.isfinite(value) for value in (found["weights"] or {}).values())
    json.dumps(found, allow_nan=False)
