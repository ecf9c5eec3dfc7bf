"""Reading the files of the bAbI tasks (Weston et al. 2015) from a folder or an archive, into numbers.

A file has one story after another, a line each of a number that starts again at 1, a blank and a sentence; a question
is followed by a tab, its answer, and perhaps a tab and the numbers of the lines that support it.
"""

import re
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softplace.errors import InputError

SPLITS = ("train", "valid", "test")
FOLDERS = {"10k": ("en-10k", "en-valid-10k"), "1k": ("en", "en-valid")}
"""The folders of a release that have the tasks in English, by how many questions a task has for training."""
ANSWER = "-"
"""The word that stands in the place of each word of an answer (Graves et al. 2016, Methods)."""
HELD = 0.1
"""Share of the stories for training that is held out where there is no file for validation (the DNC's paper)."""
NOTHING = -1
"""In answers: no answer here. In words: an empty step."""

_NAME = re.compile(r"qa([1-9][0-9]*)_(?:.*_)?(train|valid|test)\.txt")
_WORD = re.compile(r"[^\s.?!,]+|[.?!,]")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

Numbers = NDArray[np.int32]
Listing = dict[tuple[str, int, str], str]  # (folder, task, split) -> name


@dataclass(frozen=True)
class Stories:
    """Stories one after another.

    Fields:
        words: Place of each word in the vocabulary.
        answers: The word to say at it, or NOTHING.
        starts: Where each story begins, and where the last one ends.
    """

    words: Numbers
    answers: Numbers
    starts: Numbers

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self) -> Numbers:
        return np.diff(self.starts)

    def questions(self) -> int:
        """How many there are: runs of answer words."""
        there = self.answers != NOTHING
        return int(there[:1].sum() + (there[1:] & ~there[:-1]).sum())

    def part(self, first: int, last: int) -> "Stories":
        """The stories from `first` up to but without `last`."""
        a, b = self.starts[first], self.starts[last]
        return Stories(self.words[a:b], self.answers[a:b], self.starts[first : last + 1] - a)


@dataclass(frozen=True)
class Corpus:
    """All that was read.

    Fields:
        vocabulary: The words in alphabetical order.
        stories: By split and task. A task that cannot be trained is left out.
        notes: What is unusual, to be said beside any number.
    """

    vocabulary: tuple[str, ...]
    stories: dict[str, dict[int, Stories]]
    notes: tuple[str, ...]


def load(data: str, size: str) -> Corpus:
    """The corpus at a path; read once as long as its files stay the same.

    Raises:
        InputError: Nothing there, no tasks in it, a file that cannot be read, or a malformed line.
    """
    stamps = []
    try:
        path = _source(Path(data).expanduser())
        for each in [path] if path.is_file() else sorted(path.rglob("qa*.txt")):
            stat = each.stat()
            stamps.append((str(each), stat.st_size, stat.st_mtime_ns))
    except (OSError, RuntimeError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(
            f"'data' of task 'babi' must be a folder or archive that can be read. Got {data[:200]!r}: {said}. "
            "Check the path."
        ) from error
    return _load(path, size, tuple(stamps))


def _source(path: Path) -> Path:
    """The path, or the one archive in a folder that has no files of tasks."""
    if not path.exists():
        raise InputError(
            f"'data' of task 'babi' must be a folder or archive with the bAbI tasks. Got {str(path)!r}, which does not "
            f"exist. Check the path."
        )
    if not path.is_file() and not path.is_dir():
        raise InputError(
            f"'data' of task 'babi' must be a folder or archive with the bAbI tasks. Got {str(path)!r}, which is "
            "neither a file nor a folder. Check the path."
        )
    if path.is_file() or next(path.rglob("qa*.txt"), None) is not None:
        return path
    archives = [each for each in sorted(path.iterdir()) if each.name.endswith(_ARCHIVES)]
    if len(archives) == 1:
        return archives[0]
    raise InputError(
        f"{str(path)!r} must have files such as qa1_single-supporting-fact_train.txt, or one archive with such. "
        f"Got {f'{len(archives)} archives' if archives else 'neither'}. Give the path of one."
    )


@lru_cache(maxsize=2)
def _load(path: Path, size: str, stamps: tuple[object, ...]) -> Corpus:
    """`stamps` are of the files, so that a changed file is read again."""
    if path.is_dir():
        names = [each.relative_to(path).as_posix() for each in sorted(path.rglob("qa*.txt")) if each.is_file()]
        try:
            return _read(str(path), names, size, lambda name: (path / name).read_bytes())
        except OSError as error:
            raise InputError(f"{str(path)!r} must have files that can be read. Got {error}. Check them.") from error
    try:
        raw: dict[str, bytes] = {}
        with tarfile.open(path) as archive:  # in its own order: to go back would unpack it from the start again
            for each in archive:
                wanted = each.isfile() and _NAME.fullmatch(each.name.rsplit("/", 1)[-1])
                file = archive.extractfile(each) if wanted else None
                if file is not None:
                    raw[each.name.removeprefix("./")] = file.read()
        return _read(str(path), sorted(raw), size, raw.__getitem__)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{str(path)!r} must be a whole tar archive. Got {type(error).__name__}: {_line(error)}. "
            f"Get it again, or give a folder."
        ) from error


def _line(error: Exception) -> str:
    """What the error says, its first line."""
    return str(error).partition("\n")[0].rstrip(":. ")


def _read(source: str, names: list[str], size: str, contents: Callable[[str], bytes]) -> Corpus:
    listing = _listing(source, names, size)
    reader = _Reader(source, contents)
    stories: dict[str, dict[int, Stories]] = {each: {} for each in SPLITS}
    notes: list[str] = []
    later: list[tuple[str, int, str]] = []  # read when the vocabulary is complete
    for task in sorted({task for _, task, _ in listing}):
        train, valid = _pair(listing, task)
        if train is None and valid is None:
            notes.append(f"bAbI task {task} has no file for training and is left out.")
            continue
        whole = reader.read(listing[train or valid])  # type: ignore[index]
        if train is not None and valid is not None:
            stories["train"][task] = whole
            later.append(("valid", task, listing[valid]))
        else:
            stories["train"][task], stories["valid"][task] = _held_out(source, listing, train or valid, whole)
            if train is None:
                notes.append(
                    f"bAbI task {task} has no file for training: of the {whole.questions():,} questions of its file "
                    f"for validation, {stories['train'][task].questions():,} are trained on and "
                    f"{stories['valid'][task].questions():,} validate."
                )
        test = next((listing[each] for each in listing if each[1:] == (task, "test")), None)
        if test is not None:
            later.append(("test", task, test))
    if not stories["train"]:
        raise InputError(
            f"{source!r} must have a file for training. Got files for tests alone. Add qa*_train.txt files."
        )
    reader.closed = True
    for split, task, name in later:
        stories[split][task] = reader.read(name)
    vocabulary = tuple(sorted(reader.vocabulary))
    places = np.empty(len(vocabulary) + 1, dtype=np.int32)
    places[[reader.vocabulary[each] for each in vocabulary]] = np.arange(len(vocabulary))
    places[NOTHING] = NOTHING  # the last entry
    ordered = {
        split: {task: Stories(places[each.words], places[each.answers], each.starts) for task, each in tasks.items()}
        for split, tasks in stories.items()
    }
    return Corpus(vocabulary, ordered, tuple(notes))


def _listing(source: str, names: list[str], size: str) -> Listing:
    """Which file is what; those at the top of a folder, or else those in the folders of a size."""
    found: Listing = {}
    for name in names:
        *folders, file = name.split("/")
        match = _NAME.fullmatch(file)
        if match is None:
            continue
        key = (folders[-1] if folders else "", int(match[1]), match[2])
        if key in found:
            raise InputError(
                f"{source!r} must have one file for {key[2]} of task {key[1]}. Got {found[key]!r} and {name!r}. "
                f"Remove one, or give the folder of the other."
            )
        found[key] = name
    chosen = {key: name for key, name in found.items() if key[0] == ""} or {
        key: name for key, name in found.items() if key[0] in FOLDERS[size]
    }
    if not chosen:
        wanted = " or ".join(FOLDERS[size])
        got = f"such files in {', '.join(sorted({key[0] for key in found}))}" if found else "none"
        raise InputError(
            f"{source!r} must have files such as qa1_single-supporting-fact_train.txt, at its top or in a folder "
            f"{wanted} (size={size!r}). Got {got}. Give the path of the folder that has them."
        )
    return chosen


Key = tuple[str, int, str]


def _pair(listing: Listing, task: int) -> tuple[Key | None, Key | None]:
    """The files for training and validation of a task: of one folder if there is one that has both.

    In a release the file for validation is a tenth of what another folder's file for training has whole, so files of
    two folders must not be used together: then the one for training is split anew.
    """
    train = [key for key in listing if key[1:] == (task, "train")]
    valid = [key for key in listing if key[1:] == (task, "valid")]
    for each in train:
        if (each[0], task, "valid") in valid:
            return each, (each[0], task, "valid")
    if train:
        return train[0], None
    return None, valid[0] if valid else None


def _held_out(source: str, listing: Listing, key: Key | None, stories: Stories) -> tuple[Stories, Stories]:
    count = max(1, round(HELD * len(stories)))
    if count == len(stories):
        raise InputError(
            f"{listing[key]!r} of {source!r} must have at least 2 stories, so that one can validate. "  # type: ignore[index]
            f"Got {len(stories)}. Add stories, or a file for validation."
        )
    return stories.part(0, len(stories) - count), stories.part(len(stories) - count, len(stories))


class _Reader:
    """Files to numbers of words, in the order in which the words were first seen."""

    def __init__(self, source: str, contents: Callable[[str], bytes]) -> None:
        self._source, self._contents = source, contents
        self.vocabulary: dict[str, int] = {ANSWER: 0}
        self.closed = False
        self._known: dict[str, list[int]] = {}  # sentences recur: looking one up is most of the speed

    def read(self, name: str) -> Stories:
        """Raises: InputError: An encoding or a line that is not as it must be."""
        raw = self._contents(name)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            place = raw.count(b"\n", 0, error.start) + 1
            raise self._wrong(name, place, "UTF-8", f"byte 0x{raw[error.start]:02x}", "Save it as UTF-8") from error
        story = _Story()
        number = previous = begun = asked = 0
        for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
            head, _, rest = line.rstrip("\r").partition(" ")
            if not (head.isascii() and head.isdecimal()):
                raise self._wrong(name, number, "a line that begins with its number in the story", repr(line[:40]))
            index = int(head)
            if index == 1:
                if number > 1 and not asked:
                    raise self._wrong(name, begun, "a story with a question", "none")
                story.starts.append(len(story.words))
                begun, asked = number, 0
            elif index != previous + 1:
                expected = f"line number {previous + 1} or 1 of a story" if previous else "a story that begins with 1"
                raise self._wrong(name, number, expected, str(index))
            previous = index
            sentence, *fields = rest.split("\t")
            words = self._words(name, number, sentence)
            story.words.extend(words)
            story.answers.extend([NOTHING] * len(words))
            if fields:
                answer = self._answer(name, number, index, fields)
                story.words.extend([0] * len(answer))
                story.answers.extend(answer)
                asked += 1
        if not asked:
            raise self._wrong(name, begun or 1, "a story with a question", "none")
        starts = [*story.starts, len(story.words)]
        return Stories(*(np.array(each, dtype=np.int32) for each in (story.words, story.answers, starts)))

    def _words(self, name: str, line: int, sentence: str) -> list[int]:
        known = self._known.get(sentence)
        if known is not None:
            return known
        words = _WORD.findall(sentence.lower())
        if not words:
            raise self._wrong(name, line, "a sentence", "no word")
        if ANSWER in words:
            raise self._wrong(name, line, f"no {ANSWER!r} among the words, as it marks answers", repr(sentence.strip()))
        found = self._known[sentence] = [self._place(name, line, each) for each in words]
        return found

    def _answer(self, name: str, line: int, index: int, fields: list[str]) -> list[int]:
        words = [each.strip() for each in fields[0].lower().split(",")]
        if not all(words) or any(_WORD.fullmatch(each) is None or each == ANSWER for each in words):
            raise self._wrong(name, line, "an answer of words with commas between them", repr(fields[0]))
        if len(fields) > 2:
            raise self._wrong(name, line, "question, answer and supporting lines", f"{len(fields) + 1} fields")
        for each in fields[1].split() if len(fields) == 2 else ():
            if not (each.isascii() and each.isdecimal() and 0 < int(each) < index):
                raise self._wrong(name, line, "supporting lines that come before in the story", repr(each))
        return [self._place(name, line, each) for each in words]

    def _place(self, name: str, line: int, word: str) -> int:
        if word not in self.vocabulary:
            if self.closed:
                way = "Add it to the training files, as a net has an input for each of their words"
                raise self._wrong(name, line, "words that the files for training have", repr(word), way)
            self.vocabulary[word] = len(self.vocabulary)
        return self.vocabulary[word]

    def _wrong(self, name: str, line: int, expected: str, got: str, way: str = "Mend the line") -> InputError:
        return InputError(f"{self._source}: {name}, line {line}: expected {expected}. Got {got}. {way}.")


@dataclass
class _Story:
    """What grows while a file is read."""

    words: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
