"""`softplace train attention`, `translate` and `score`: from files to translations, and how they refuse."""

import gzip
import json
import re
import shutil
from pathlib import Path

import pytest
import sacrebleu

from softplace.attention import pharaoh, translating
from softplace.attention.translator import Search, load
from tests.attention.small import shrink
from tests.command import Command

NET = ("--width", "8", "--heads", "2", "--encoder-layers", "1", "--decoder-layers", "2", "--inner", "8")
TINY = ("train", "attention", "--model", "transformer", *NET, "--room", "200", "--steps", "4", "--device", "cpu")
FILES = ("--source", "train.de", "--target", "train.en", "--tokens", "words", "--out", "a")


@pytest.fixture
def parallel(tmp_path: Path) -> Path:
    """A folder with train.de and train.en: 60 lines."""
    for name, start in (("de", "der Hund Nummer"), ("en", "dog number")):
        text = "".join(f"{start} {number % 7} .\n" for number in range(60))
        (tmp_path / f"train.{name}").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def trained(folders: dict[str, Path], tmp_path: Path) -> str:
    return shutil.copytree(folders["transformer"], tmp_path / "trained").name


# train attention


def test_number_words_by_themselves(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    words = (*TINY, "--data", "number-words:fr-ja", "--map", "entmax15", "--option", "count=[1,2]")
    done = command(*words)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("transformer after 4 updates (")
    assert lines[-1] == f"Page: {tmp_path / 'trainings' / 'attention-transformer' / 'page.html'}"
    assert done.err == "Evaluates on 12 pairs.\n"
    config = json.loads((tmp_path / "trainings" / "attention-transformer" / "config.json").read_text())
    assert (config["sizes"]["map"], config["data"]["source"], config["data"]["target"]) == ("entmax15", "fr", "ja")
    again = command(
        *TINY, "--data", "number-words:fr-ja", "--map", "entmax15", "--option", "count=[1,2]", "--steps", "6"
    )
    assert "oes on from step 4" in again.err
    assert "Got 'number-words:en-xx'." in command.refused(*TINY, "--data", "number-words:en-xx", "--out", "b")
    assert not (tmp_path / "b").exists()


def test_files_of_ones_own_from_training_to_score(command: Command, parallel: Path) -> None:
    assert command(*TINY, *FILES).code == 0
    (parallel / "test.de").write_bytes(gzip.compress(b"der Hund\n\nNummer 3 .\n"))
    (parallel / "test.de").rename(parallel / "test.de.gz")
    done = command("translate", "a", "test.de.gz", "--align")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert len(lines) == 3
    assert lines[1] == " ||| "
    assert all(re.fullmatch(r".* \|\|\| (\d+-\d+ ?)*", line) for line in lines)
    assert command("translate", "a", stdin=b"der Hund\n\nNummer 3 .\n").out.splitlines() == [
        line.split(" ||| ")[0] for line in lines
    ]
    (parallel / "said").write_text("dog number 3 .\nno dog\n")
    (parallel / "meant").write_text("dog number 3 .\na dog\n")
    done = command("score", "said", "meant")
    assert done.code == 0
    bleu = sacrebleu.corpus_bleu(["dog number 3 .", "no dog"], [["dog number 3 .", "a dog"]]).score
    assert done.out.startswith(f"bleu: {bleu:.2f} (nrefs:1|case:mixed|")
    assert json.loads(command("score", "said", "meant", "--json").out)["bleu"] == bleu


def test_a_target_that_is_the_source_can_be_learned(command: Command, parallel: Path) -> None:
    assert command(*TINY, "--source", "train.de", "--target", "train.de", "--tokens", "characters").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "transfomer"], "Did you mean 'transformer'"),
        (["--map", "sofmax"], "Did you mean 'softmax'"),
        (["--hidden", "3"], "A transformer has no 'hidden'"),
        (["--steps", "0"], "'steps' must be a whole number from 1"),
        (["--learning-rate", "nan"], "'learning_rate' must be a number above 0. Got nan."),
        (["--tokens", "byte"], "Unknown 'tokens' 'byte'"),
        (["--data", "number-words:en-de"], "exclude each other"),
        (["--valid-source", "train.de"], "'valid-source' and 'valid-target' must come together"),
        (["--test-source", "train.de"], "'test-source' and 'test-target' must come together"),
        (["--words", "3"], "'words' must be"),
        (
            ["--tokens", "bpe", "--words", "20"],
            "'words' must be at least 24: the texts have so many characters",
        ),
        (["--option", "count=[1,2]"], "'options' are of number words. Got {'count': [1, 2]} and a file."),
        (["--target", "short"], "must have as many lines. Got only 10 in 'short'"),
        (["--target", "nowhere"], "'nowhere' must be a text file, plain or .gz. Got: No such file or directory"),
        (["--target", "latin"], "'latin' must be text in UTF-8. Got the byte 0xfc in line 2"),
        (["--target", "long"], "Line 3 of 'long' must have at most 10,000 characters. Got 100,000."),
        (["--source", "empty", "--target", "empty"], "'empty'"),
        (["--source", "blank", "--target", "blank"], "'blank'"),
        (["--target", "."], "'.' must be a text file"),
        (["--target", "broken.gz"], "'broken.gz' must be a text file, plain or .gz. Got: Not a gzipped file"),
        (["--out", "train.de"], "train.de"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(
    arguments: list[str], said: str, command: Command, parallel: Path
) -> None:
    lines = (parallel / "train.en").read_text().splitlines(keepends=True)
    (parallel / "short").write_text("".join(lines[:10]))
    (parallel / "latin").write_bytes("eins\nfünf\n".encode("latin-1") * 30)
    (parallel / "long").write_text("".join([*lines[:2], "a" * 100_000 + "\n", *lines[3:]]))
    (parallel / "empty").write_text("")
    (parallel / "blank").write_text("\n" * 60)
    (parallel / "broken.gz").write_text("eins\n")
    before = sorted(each.name for each in parallel.rglob("*"))
    assert said in command.refused(*TINY, *FILES, *arguments)
    assert sorted(each.name for each in parallel.rglob("*")) == before


# translate


def test_what_is_printed(command: Command, trained: str, tmp_path: Path) -> None:
    text = b"twenty one , seven\nnine\n"
    plain = command("translate", trained, stdin=text).out.splitlines()
    assert plain == [
        each.text for each in load(tmp_path / trained).translate(text.decode().splitlines(), Search(beam=5))
    ]
    assert len(command("translate", trained, "--best", "3", stdin=text + b"\n").out.splitlines()) == 9
    drawn = command("translate", trained, "--heat-map", "--layer", "0", "--head", "1", stdin=text).out
    assert any(shade in drawn for shade in "░▒▓█")
    weights = command("translate", trained, "--weights", "--beam", "1", stdin=b"nine\n").out.splitlines()
    content = json.loads(weights[1])
    assert content["source"] == ["nine", "</s>"]
    assert len(content["weights"]) == 2  # layers
    for layer in content["weights"]:
        assert all(sum(row) == pytest.approx(1.0, abs=1e-5) for head in layer for row in head)
    assert command("translate", trained, stdin=b"").out == ""
    assert command("translate", trained, stdin=b"\n").out == "\n"
    assert command("translate", trained, stdin=b"nine").out == command("translate", trained, stdin=b"nine\r\n").out
    one, two = (command("translate", trained, "--temperature", "1.5", "--seed", seed, stdin=text) for seed in "11")
    assert one == two


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["nowhere"], b"", "'nowhere': expected the folder of a training. Got one without config.json. Train one"),
        (["."], b"", "expected the folder of a training"),
        (["trained", "nofile"], b"", "'nofile' must be a text file"),
        (["trained", "--beam", "0"], b"nine\n", "'beam' must be a whole number from 1"),
        (["trained", "--best", "9"], b"nine\n", "'best' must lie between 1 and 'beam', 5. Got 9."),
        (["trained", "--layer", "7", "--align"], b"nine\n", "'layer' and 'head' must be below 2 and 2"),
        (["trained", "--head", "2", "--align"], b"nine\n", "'layer' and 'head' must be below 2 and 2"),
        (["trained", "--threshold", "0", "--align"], b"nine\n", "'threshold' must be above 0"),
        (["trained", "--temperature", "-1"], b"nine\n", "'temperature' must be a number from 1e-6"),
        (["trained", "--precision", "half"], b"nine\n", "Unknown 'precision' 'half'"),
        (["trained", "--device", "gpu"], b"nine\n", "Known: auto, cpu, cuda"),
        (["trained"], b"nine " * 20_000, "Line 1 must have at most 1,000 tokens. Got 20,001."),
        (["trained"], b"nine\nf\xfcnf\n", "standard input must be text in UTF-8. Got the byte 0xfc in line 2"),
        (["other"], b"nine\n", "expected format 1. Got 9 of softplace"),
        (["damaged"], b"nine\n", "expected a whole checkpoint. Got a damaged one"),
    ],
)
def test_what_cannot_be_translated_is_said(
    arguments: list[str], stdin: bytes, said: str, command: Command, trained: str, tmp_path: Path
) -> None:
    for name in ("other", "damaged"):
        shutil.copytree(tmp_path / trained, tmp_path / name)
    for name in ("checkpoint.safetensors", "model.safetensors"):
        path = tmp_path / "other" / name
        path.write_bytes(path.read_bytes().replace(b"softplace.attention 1", b"softplace.attention 9"))
        path = tmp_path / "damaged" / name
        path.write_bytes(path.read_bytes()[:5000])
    assert said in command.refused("translate", *arguments, stdin=stdin)


def test_what_was_translated_before_a_bad_line_is_printed(
    command: Command, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translating, "CHUNK", 2)
    done = command("translate", trained, stdin=b"nine\nnine\nnine\n" + b"nine " * 20_000)
    assert done.code == 2
    assert len(done.out.splitlines()) == 2
    assert "Line 4 must have at most" in done.err


# score


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["said"], "Missing argument"),
        (["said", "nowhere"], "'nowhere' must be a text file"),
        (["said", "longer"], "'longer' must have as many lines as 'said', 1. Got 2."),
        (["empty", "empty"], "'empty' must have lines. Got none."),
    ],
)
def test_what_cannot_be_scored_is_said(arguments: list[str], said: str, command: Command, tmp_path: Path) -> None:
    for name, text in (("said", "a\n"), ("longer", "a\nb\n"), ("empty", "")):
        (tmp_path / name).write_text(text)
    assert said in command.refused("score", *arguments)


# align


def test_links_of_pairs_that_anyone_translated(command: Command, trained: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("twenty one , seven\n\nnine\n")
    (tmp_path / "target").write_text("ein und zwanzig , sieben\n\nneun\n")
    done = command("align", trained, "source", "target", "--layer", "0")
    assert (done.code, done.err) == (0, "")
    pairs = [("twenty one , seven", "ein und zwanzig , sieben"), ("nine", "neun")]
    one, two = (pharaoh(each) for each in load(tmp_path / trained).links(pairs, layer=0))
    assert done.out.splitlines() == [one, "", two]
    (tmp_path / "gold").write_text(f"{one}\n\n{two}\n")
    said = command("align", trained, "source", "target", "--layer", "0", "--gold", "gold").out
    assert said == "alignment error rate: 0.0000, 2 sentences\n"
    (tmp_path / "wrong").write_text("0-9\n\n0-9\n")
    said = command("align", trained, "source", "target", "--gold", "wrong").out
    assert said == "alignment error rate: 1.0000, 2 sentences\n"
    drawn = command("align", trained, "source", "target", "--heat-map").out
    assert any(shade in drawn for shade in "░▒▓█")
    (tmp_path / "short").write_text("0-0\n")
    assert "'short' must have as many lines as 'source', 3. Got 1." in command.refused(
        "align", trained, "source", "target", "--gold", "short"
    )
    (tmp_path / "odd").write_text("0-0\nx\n0-0\n")
    assert "A link must be two numbers" in command.refused("align", trained, "source", "target", "--gold", "odd")
    assert "must have as many lines" in command.refused("align", trained, "source", "short")
