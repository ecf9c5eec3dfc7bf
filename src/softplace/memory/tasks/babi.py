"""The 20 bAbI tasks (Weston et al. 2015), learned together word by word as in the DNC's paper (Graves et al. 2016).

Axes: T time, B batch, V words of the vocabulary.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from softplace.errors import InputError, nearest
from softplace.memory.tasks import metrics
from softplace.memory.tasks._babi_files import FOLDERS, NOTHING, SPLITS, Corpus, Numbers, Stories, load
from softplace.memory.tasks.task import Episode, Setting, Task, whole

ENVIRONMENT = "SOFTPLACE_BABI"
"""The variable that says where the tasks are when `data` does not."""


@dataclass(frozen=True, kw_only=True)
class Babi(Task):
    """Read a story with its questions word by word, and say each answer where a `-` stands for it.

    As in the DNC's paper: words in lower case and marks of punctuation are one-hot inputs (159 with `-` in the release
    1.2); an answer of several words has one `-` for each; the cost is counted at the `-` alone; a question is right if
    every word of its answer is; a tenth of the stories for training is held out for validation.
    Beyond it: `blanks` empty steps before each answer (Csordas and Schmidhuber 2019 use 3), and batches of stories of
    similar length.

    The vocabulary is that of the training files of all tasks that are there, so that it does not depend on `tasks`.

    Args:
        data: A folder or a tar archive with files such as `qa1_single-supporting-fact_train.txt`; a folder with one
            archive will do. None: the environment variable SOFTPLACE_BABI.
        size: Of a whole release, "10k" (en-10k, en-valid-10k) or "1k" (en, en-valid). A folder that has the files
            themselves is taken as it is.
        tasks: A number or several. None: all that are there.
        split: "train", "valid" or "test".
        balanced: True = every task equally often; False = every story. The papers do not say which.
        blanks: Empty steps before each answer.
        longest: Longest story to train on, in steps; None = any. Stories for validation and test are all kept.
        pool: A batch is one of so many, drawn together and sorted by length. Each story is as likely as without, but
            those of a batch are more alike. 1 = draw the batch alone.

    Raises:
        InputError: Nothing at the path, or a line that is no line of a story: its file and number are said.
    """

    data: str | os.PathLike[str] | None = None
    size: str = "10k"
    tasks: int | tuple[int, ...] | None = None
    split: str = "train"
    balanced: bool = True
    blanks: int = 0
    longest: int | None = None
    pool: int = 4

    name: ClassVar[str] = "babi"
    difficulty: ClassVar[tuple[str, ...]] = ("tasks", "split")
    presets: ClassVar[Mapping[str, Mapping[str, Setting]]] = {
        "dnc": {
            "controller": "lstm", "hidden_size": 256, "layers": 1, "slots": 256, "width": 64,
            "read_heads": 4, "write_heads": 1, "learning_rate": 1e-4, "batch": 1,
        },
        "ntm": {
            "controller": "lstm", "hidden_size": 256, "layers": 1, "slots": 256, "width": 64,
            "read_heads": 4, "write_heads": 4, "shift_range": 1, "learning_rate": 1e-4, "batch": 1,
        },
        "lstm": {"hidden_size": 512, "layers": 1, "learning_rate": 1e-4, "batch": 1},
    }  # fmt: skip

    def __post_init__(self) -> None:
        data = self.data or os.environ.get(ENVIRONMENT)
        if not isinstance(data, str | os.PathLike):
            raise InputError(
                f"'data' of task {self.name!r} must be a folder or archive with the bAbI tasks. Got {data!r}. "
                f"Give its path, or set {ENVIRONMENT}."
            )
        object.__setattr__(self, "data", os.fspath(data))  # the dataclass is frozen
        for name, known in (("size", tuple(FOLDERS)), ("split", SPLITS)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"Unknown {name!r} {getattr(self, name)!r}. {nearest(str(getattr(self, name)), known)}"
                )
        whole("blanks", self.blanks, 0)
        whole("pool", self.pool, 1)
        if self.longest is not None:
            whole("longest", self.longest, 1)
        object.__setattr__(self, "_corpus", load(str(self.data), self.size))
        object.__setattr__(self, "tasks", self._numbers())
        for task in self.chosen:
            self._stories(self.split, task)

    def _numbers(self) -> tuple[int, ...] | None:
        if self.tasks is None:
            return None
        known = tuple(self.corpus.stories["train"])
        numbers = (self.tasks,) if isinstance(self.tasks, int) else tuple(self.tasks)
        if not numbers or any(each not in known for each in numbers):
            raise InputError(
                f"'tasks' must be numbers of tasks that are there. Got {self.tasks!r}. There are "
                f"{', '.join(map(str, known))}."
            )
        return numbers

    @property
    def corpus(self) -> Corpus:
        """What was read, once for all objects with these files."""
        return cast(Corpus, vars(self)["_corpus"])

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words, in the order of inputs and outputs."""
        return self.corpus.vocabulary

    @property
    def chosen(self) -> tuple[int, ...]:
        """The numbers of the tasks."""
        return tuple(self.corpus.stories["train"]) if self.tasks is None else cast(tuple[int, ...], self.tasks)

    @property
    def input_size(self) -> int:
        return len(self.vocabulary)

    @property
    def output_size(self) -> int:
        return len(self.vocabulary)

    @property
    def longer(self) -> Mapping[str, Mapping[str, Any]]:
        """Stories that were not trained on: for validation, and each task's test."""
        there = self.corpus.stories["test"]
        valid: dict[str, Mapping[str, Any]] = {"validation": {"split": "valid"}}
        return valid | {f"test, task {each}": {"tasks": each, "split": "test"} for each in self.chosen if each in there}

    @property
    def notes(self) -> tuple[str, ...]:
        notes = list(self.corpus.notes)
        missing = sorted(set(range(1, 21)) - set(self.corpus.stories["train"]))
        if missing:
            notes.append(f"Of the 20 bAbI tasks these are not there: {', '.join(map(str, missing))}.")
        if self.longest is not None:
            every = [self.corpus.stories["train"][each].lengths() for each in self.chosen]
            dropped = sum(int((each > self.longest).sum()) for each in every)
            notes.append(
                f"{dropped:,} of {sum(map(len, every)):,} stories for training are longer than {self.longest}."
            )
        return tuple(notes)

    def loss(self, outputs: Tensor, episode: Episode) -> Tensor:
        """Bits of all words of all answers of a sequence: see `metrics.word_bits`."""
        self.check(outputs, episode)
        return metrics.word_bits(outputs, episode.targets, episode.mask)

    def errors(self, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """By name: "bits" (loss), "wrong questions" and "wrong share" (of the questions), (B,) each."""
        bits = self.loss(outputs, episode)
        wrong, every = metrics.questions(outputs, episode.targets, episode.mask)
        share = wrong / every.clamp(min=1)
        return {"bits": bits, "wrong questions": wrong.to(bits.dtype), "wrong share": share.to(bits.dtype)}

    def batches(self, batch: int = 32) -> Iterator[tuple[int, Episode]]:
        """Every story of the split once, with its task: stories of one task in a batch, sorted by length.

        `task.harder(split="test").batches()` is what the papers report on.
        """
        whole("batch", batch, 1)
        for task in self.chosen:
            stories = self._stories(self.split, task)
            order = np.argsort(stories.lengths(), kind="stable")
            for first in range(0, len(stories), batch):
                yield task, self._episode([(stories, int(each)) for each in order[first : first + batch]])

    def task_errors(self, answer: Callable[[Episode], Tensor], batch: int = 32) -> dict[int, float]:
        """The share of wrong questions of each task over the whole split, 0 to 1.

        `metrics.mean_error` and `metrics.failed_tasks` make the papers' figures of it.

        Args:
            answer: From an episode to logits (T, B, V).
            batch: Stories at a time.
        """
        wrong, every = dict.fromkeys(self.chosen, 0), dict.fromkeys(self.chosen, 0)
        for task, episode in self.batches(batch):
            outputs = answer(episode)
            self.check(outputs, episode)
            failed, asked = metrics.questions(
                outputs, episode.targets.to(outputs.device), episode.mask.to(outputs.device)
            )
            wrong[task] += int(failed.sum())
            every[task] += int(asked.sum())
        return {task: wrong[task] / every[task] for task in self.chosen}

    def text(self, episode: Episode, sequence: int = 0) -> str:
        """The words of a sequence, an empty step as `_`, the answers in brackets: to look at."""
        words = []
        for step in range(int(episode.lengths[sequence])):
            row = episode.inputs[step, sequence]
            word = self.vocabulary[int(row.argmax())] if row.any() else "_"
            if episode.mask[step, sequence]:
                word += f"[{self.vocabulary[int(episode.targets[step, sequence])]}]"
            words.append(word)
        return " ".join(words)

    def _stories(self, split: str, task: int) -> Stories:
        stories = self.corpus.stories[split].get(task)
        if stories is None:
            raise InputError(
                f"{self.data!r} must have a file for {split} of bAbI task {task}. Got none. "
                f"Add it, or leave the task out."
            )
        return stories

    def _eligible(self, task: int) -> tuple[Stories, Numbers]:
        """The stories of a task, and the numbers of those that may be drawn."""
        stories = self._stories(self.split, task)
        if self.longest is None or self.split != "train":
            return stories, np.arange(len(stories), dtype=np.int32)
        return stories, np.flatnonzero(stories.lengths() <= self.longest).astype(np.int32)

    def _draw(self, batch: int, generator: torch.Generator) -> Episode:
        sources = [each for each in map(self._eligible, self.chosen) if len(each[1])]
        if not sources:
            raise InputError(
                f"'longest' must leave a story to train on. Got {self.longest}. Raise it, or leave it out."
            )
        counts = np.array([1.0 if self.balanced else len(numbers) for _, numbers in sources])
        limits = np.cumsum(counts / counts.sum())
        device = generator.device
        chance = torch.rand(2, batch * self.pool, generator=generator, device=device, dtype=torch.float64).tolist()
        block = int(torch.randint(self.pool, (), generator=generator, device=device))
        drawn = []
        for task, story in zip(*chance, strict=True):
            stories, numbers = sources[min(int(np.searchsorted(limits, task, side="right")), len(sources) - 1)]
            drawn.append((stories, int(numbers[int(story * len(numbers))])))
        drawn.sort(key=lambda each: int(each[0].starts[each[1] + 1] - each[0].starts[each[1]]))
        return self._episode(drawn[block * batch : (block + 1) * batch]).to(device)

    def _episode(self, stories: list[tuple[Stories, int]]) -> Episode:
        """One sequence per story; words become one-hot rows here and not before."""
        rows = [self._sequence(*each) for each in stories]
        lengths = [len(words) for words, _ in rows]
        total = max(lengths, default=0)
        words = np.full((total, len(rows)), NOTHING, dtype=np.int64)
        answers = np.full((total, len(rows)), NOTHING, dtype=np.int64)
        for place, (word, answer) in enumerate(rows):
            words[: len(word), place] = word
            answers[: len(answer), place] = answer
        shown, said = torch.from_numpy(words), torch.from_numpy(answers)
        inputs = torch.zeros(total, len(rows), self.input_size)
        inputs.scatter_(2, shown.clamp(min=0).unsqueeze(-1), (shown != NOTHING).unsqueeze(-1).to(inputs.dtype))
        return Episode(inputs, said.clamp(min=0), said != NOTHING, torch.tensor(lengths, dtype=torch.long))

    def _sequence(self, stories: Stories, number: int) -> tuple[Numbers, Numbers]:
        first, last = stories.starts[number], stories.starts[number + 1]
        words, answers = stories.words[first:last], stories.answers[first:last]
        if not self.blanks:
            return words, answers
        there = answers != NOTHING
        begins = np.repeat(np.flatnonzero(there & ~np.concatenate(([False], there[:-1]))), self.blanks)
        return np.insert(words, begins, NOTHING), np.insert(answers, begins, NOTHING)
