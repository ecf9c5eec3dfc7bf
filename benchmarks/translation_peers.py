"""Translators of others that ours are timed against: Joey NMT and the Annotated Transformer, from a folder of clones.

None of their code is here, and nothing of theirs is changed: their networks, losses and searches are imported without
what only their programs need (tensorboard, plots, data sets, spaCy), for which empty modules stand in. CTranslate2,
where it is installed, gets a model of the same sizes by its own specification.

Axes: B sentences, S source words, T target words, V words of the vocabulary.
"""

import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor, nn

from softplace.attention.corpus import Batch
from softplace.attention.text import BEGIN, END, PAD, UNKNOWN

CLONES = {
    "joeynmt": "https://github.com/joeynmt/joeynmt",
    "annotated-transformer": "https://github.com/harvardnlp/annotated-transformer",
}
"""Folder of each clone, and where it comes from."""
ABSENT = (
    "GPUtil", "altair", "importlib_metadata", "joeynmt.plotting", "pandas", "sacremoses", "spacy", "subword_nmt",
    "torch.utils.tensorboard", "torchtext", "torchtext.data", "torchtext.data.functional", "torchtext.datasets",
    "torchtext.vocab", "yaml",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of a translator. A Transformer has all, an RNN `width` for its embeddings and hidden units."""

    words: int = 8000
    width: int = 256
    heads: int = 8
    layers: int = 3
    inner: int = 1024
    dropout: float = 0.1
    smoothing: float = 0.1


@dataclass(frozen=True)
class Peer:
    """A network that learns, and one that translates.

    Args:
        module: The network.
        loss: The sum over target words of the loss of a batch.
        greedy, beam: Translate sources (B, S) and their mask, of all the same steps.
    """

    module: nn.Module
    loss: Callable[[Batch], Tensor]
    greedy: Callable[[Tensor, Tensor], object] | None = None
    beam: Callable[[Tensor, Tensor], object] | None = None


def load(folder: Path | None) -> dict[str, ModuleType]:
    """The modules of the clones that are there."""
    found: dict[str, ModuleType] = {}
    if folder is None:
        return found
    with _stubs():
        if (folder / "joeynmt" / "joeynmt").is_dir():
            sys.path.insert(0, str(folder / "joeynmt"))
            for name in ("model", "search", "batch", "vocabulary"):
                found[f"joeynmt.{name}"] = importlib.import_module(f"joeynmt.{name}")
        path = folder / "annotated-transformer" / "the_annotated_transformer.py"
        if path.is_file():
            spec = importlib.util.spec_from_file_location("the_annotated_transformer", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            found["annotated-transformer"] = module
    return found


def _anything(name: str) -> MagicMock:
    if name.startswith("__"):
        raise AttributeError(name)
    return MagicMock()  # the Annotated Transformer draws a plot when it is imported


@contextmanager
def _stubs() -> Iterator[None]:
    """Empty modules for what the clones' programs need and is not installed."""

    def missing(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is None
        except ModuleNotFoundError:
            return True

    always = ("joeynmt.plotting", "torch.utils.tensorboard")  # they are there, and import what is not
    made = [name for name in ABSENT if name not in sys.modules and (name in always or missing(name))]
    for name in made:
        stub = ModuleType(name)
        stub.__path__ = []
        stub.__getattr__ = _anything  # type: ignore[method-assign]
        sys.modules[name] = stub
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


def _joey_mask(batch: Batch) -> Tensor:
    """(B, S), where no mask is given all are words."""
    return torch.ones_like(batch.source, dtype=torch.bool) if batch.source_mask is None else batch.source_mask


def joey(modules: dict[str, ModuleType], kind: str, sizes: Sizes, steps: int) -> Peer:
    """Joey NMT's Transformer, or its RNN with the attention of Bahdanau."""
    special = SimpleNamespace(
        unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>", sep_token=None, lang_tags=[],
        unk_id=UNKNOWN, pad_id=PAD, bos_id=BEGIN, eos_id=END, sep_id=None,
    )  # fmt: skip
    names = {UNKNOWN: "<unk>", PAD: "<pad>", BEGIN: "<s>", END: "</s>"}
    texts = [names.get(number, f"w{number}") for number in range(sizes.words)]
    vocabulary_type = modules["joeynmt.vocabulary"].Vocabulary

    class Ordered(vocabulary_type):  # type: ignore[misc, valid-type]
        """Joey puts its special words in an order of its own; ours stay where they are."""

        def add_tokens(self, tokens: Sequence[str]) -> None:
            super().add_tokens(texts)

    vocabulary = Ordered([], special)
    if kind == "transformer":
        side: dict[str, Any] = {
            "type": "transformer", "num_layers": sizes.layers, "num_heads": sizes.heads, "hidden_size": sizes.width,
            "ff_size": sizes.inner, "dropout": sizes.dropout, "layer_norm": "pre",
            "embeddings": {"embedding_dim": sizes.width, "scale": True},
        }  # fmt: skip
        sides = {"encoder": dict(side), "decoder": dict(side)}
    else:
        embeddings = {"embedding_dim": sizes.width, "scale": False}
        common = {"rnn_type": "gru", "hidden_size": sizes.width, "num_layers": 1, "dropout": sizes.dropout}
        sides = {
            "encoder": {"type": "recurrent", "bidirectional": True, "embeddings": embeddings, **common},
            "decoder": {
                "type": "recurrent", "attention": "bahdanau", "input_feeding": True, "init_hidden": "bridge",
                "hidden_dropout": 0.0, "embeddings": embeddings, **common,
            },
        }  # fmt: skip
    model = modules["joeynmt.model"].build_model(sides, vocabulary, vocabulary)
    model.loss_function = ("crossentropy", sizes.smoothing)

    def loss(batch: Batch) -> Tensor:
        order = _joey_mask(batch).sum(-1).argsort(descending=True)  # its RNN wants the longest first
        batch = Batch(*(None if each is None else each[order] for each in batch))  # type: ignore[arg-type]
        mask = _joey_mask(batch)
        total, *_ = model(
            return_type="loss",
            src=batch.source,
            src_length=mask.sum(-1),
            src_mask=mask.unsqueeze(1),
            trg_input=batch.given,
            trg=batch.wanted,
            trg_mask=(batch.wanted != PAD).unsqueeze(1),
        )
        return total

    def translate(source: Tensor, mask: Tensor, beam: int) -> object:
        source, mask = source.flip(0), mask.flip(0)
        batch = modules["joeynmt.batch"].Batch(
            src=source, src_length=mask.sum(-1), src_prompt_mask=None, trg=None, trg_prompt_mask=None,
            indices=torch.arange(len(source)), device=torch.device("cpu"), pad_index=PAD, eos_index=END, is_train=False,
        )  # fmt: skip
        return modules["joeynmt.search"].search(
            model, batch, max_output_length=steps, beam_size=beam, beam_alpha=1.0, min_output_length=steps
        )

    return Peer(model, loss, lambda s, m: translate(s, m, 1), lambda s, m: translate(s, m, 5))


def annotated(modules: dict[str, ModuleType], sizes: Sizes) -> Peer:
    """The Annotated Transformer, whose decoding has no cache and takes one sentence at a time: it is not timed."""
    theirs = modules["annotated-transformer"]
    model = theirs.make_model(
        sizes.words, sizes.words, N=sizes.layers, d_model=sizes.width, d_ff=sizes.inner, h=sizes.heads,
        dropout=sizes.dropout,
    )  # fmt: skip
    criterion = theirs.LabelSmoothing(sizes.words, PAD, sizes.smoothing)
    compute = theirs.SimpleLossCompute(model.generator, criterion)

    def loss(batch: Batch) -> Tensor:
        mask = _joey_mask(batch).unsqueeze(-2)
        out = model(batch.source, batch.given, mask, theirs.Batch.make_std_mask(batch.given, PAD))
        total: Tensor = compute(out, batch.wanted, 1)[1]
        return total

    return Peer(model, loss)


def torchs(sizes: Sizes) -> Peer:
    """torch.nn.Transformer with its embeddings and output, float32."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source, self.target = (nn.Embedding(sizes.words, sizes.width) for _ in range(2))
            self.core = nn.Transformer(
                sizes.width, sizes.heads, sizes.layers, sizes.layers, sizes.inner, sizes.dropout,
                batch_first=True, norm_first=True,
            )  # fmt: skip
            self.output = nn.Linear(sizes.width, sizes.words)

        def forward(self, batch: Batch) -> Tensor:
            """Logits."""
            hidden = ~_joey_mask(batch)
            later = torch.ones(2 * batch.given.shape[1:], dtype=torch.bool).triu(1)
            out = self.core(
                self.source(batch.source), self.target(batch.given), tgt_mask=later, src_key_padding_mask=hidden,
                memory_key_padding_mask=hidden, tgt_is_causal=True,
            )  # fmt: skip
            made: Tensor = self.output(out)
            return made

    net = Net()
    criterion = nn.CrossEntropyLoss(ignore_index=PAD, label_smoothing=sizes.smoothing, reduction="sum")
    return Peer(net, lambda batch: criterion(net(batch).flatten(0, 1), batch.wanted.flatten()))


def ctranslate2(sizes: Sizes, steps: int, threads: int) -> Peer | None:
    """A Transformer of the same sizes in CTranslate2, float32, of random numbers; None where it is not installed."""
    try:
        import ctranslate2 as theirs
    except ImportError:
        return None
    generator = np.random.default_rng(0)

    def filled(*shape: int) -> Any:
        return (0.05 * generator.standard_normal(shape)).astype(np.float32)

    spec = theirs.specs.TransformerSpec.from_config((sizes.layers, sizes.layers), sizes.heads)

    def linear(part: Any, outputs: int, inputs: int) -> None:
        part.weight, part.bias = filled(outputs, inputs), filled(outputs)

    def norm(part: Any) -> None:
        part.gamma, part.beta = np.ones(sizes.width, np.float32), np.zeros(sizes.width, np.float32)

    for side in (spec.encoder, spec.decoder):
        embeddings = side.embeddings[0] if isinstance(side.embeddings, list) else side.embeddings
        embeddings.weight = filled(sizes.words, sizes.width)
        side.position_encodings.encodings = filled(512, sizes.width)
        norm(side.layer_norm)
        for layer in side.layer:
            linear(layer.self_attention.linear[0], 3 * sizes.width, sizes.width)
            linear(layer.self_attention.linear[1], sizes.width, sizes.width)
            norm(layer.self_attention.layer_norm)
            linear(layer.ffn.linear_0, sizes.inner, sizes.width)
            linear(layer.ffn.linear_1, sizes.width, sizes.inner)
            norm(layer.ffn.layer_norm)
            if side is spec.decoder:
                linear(layer.attention.linear[0], sizes.width, sizes.width)
                linear(layer.attention.linear[1], 2 * sizes.width, sizes.width)
                linear(layer.attention.linear[2], sizes.width, sizes.width)
                norm(layer.attention.layer_norm)
    linear(spec.decoder.projection, sizes.words, sizes.width)
    names = [f"w{number}" for number in range(sizes.words)]
    names[UNKNOWN], names[PAD], names[BEGIN], names[END] = "<unk>", "<blank>", "<s>", "</s>"
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    with tempfile.TemporaryDirectory() as folder:
        spec.validate()
        spec.save(folder)
        translator = theirs.Translator(folder, device="cpu", inter_threads=1, intra_threads=threads)

    def translate(source: Tensor, mask: Tensor, beam: int) -> object:
        texts = [
            [names[word] for word in row[: int(length)]]
            for row, length in zip(source.tolist(), mask.sum(-1).tolist(), strict=True)
        ]
        return translator.translate_batch(
            texts, beam_size=beam, max_decoding_length=steps, min_decoding_length=steps, max_batch_size=len(texts)
        )

    empty = nn.Module()
    return Peer(empty, lambda batch: torch.zeros(()), lambda s, m: translate(s, m, 1), lambda s, m: translate(s, m, 5))
