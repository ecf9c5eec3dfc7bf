"""What a training keeps in its folder, so that it can be killed at any moment and go on to the same result.

- `config.json`: what determines the result (`Settings`).
- `checkpoint.safetensors`: parameters, optimizer tensors and states of the random generators; its metadata have the
  format, the configuration again, how far the training is, and a checksum.

A file is replaced in one step: a reader, or a training that was killed, finds the old or the new one, never a half.
Names of tensors: `net/...`, `optimizer/<parameter>/...`, `random/...`.
"""

import dataclasses
import hashlib
import json
import os
import secrets
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

import softplace
from softplace.errors import InputError

S = TypeVar("S", bound="Settings")
FORMAT = 1
CONFIG, CHECKPOINT = "config.json", "checkpoint.safetensors"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What determines a training, but for its length and the machine. Every place has its own: what JSON can hold."""

    KIND: ClassVar[str]
    """Whose files they are, e.g. "softplace.memory"."""

    def flat(self) -> dict[str, Any]:
        """Every setting by its name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A moment of a training: its tensors by name (on the CPU), and numbers and texts that JSON can hold."""

    tensors: Mapping[str, Tensor]
    progress: Mapping[str, Any]

    @classmethod
    def of(cls, net: nn.Module, optimizer: torch.optim.Optimizer, progress: Mapping[str, Any]) -> Self:
        """Now, with the states of the random generators. The optimizer must have one group: all parameters in order."""
        tensors = dict(cls.parameters(net, progress).tensors)
        for name, parameter in net.named_parameters():
            tensors |= {f"optimizer/{name}/{key}": value for key, value in optimizer.state[parameter].items()}
        tensors["random/cpu"] = torch.get_rng_state()
        if next(net.parameters()).is_cuda:
            tensors["random/cuda"] = torch.cuda.get_rng_state()
        # Copies: safetensors refuses tensors that share memory.
        return cls(
            tensors={name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()},
            progress=progress,
        )

    @classmethod
    def parameters(cls, net: nn.Module, progress: Mapping[str, Any]) -> Self:
        """The net alone."""
        tensors = {f"net/{name}": value.detach().to("cpu", copy=True) for name, value in own_tensors(net).items()}
        return cls(tensors={name: value.contiguous() for name, value in tensors.items()}, progress=progress)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, by the rest of the name."""
        return {name.removeprefix(prefix): each for name, each in self.tensors.items() if name.startswith(prefix)}

    def restore(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put the net, its optimizer and the random generators where they were."""
        net.load_state_dict(self.part("net/"), strict=False)  # `fit` has looked
        state = {}
        for index, (name, _) in enumerate(net.named_parameters()):
            if found := self.part(f"optimizer/{name}/"):
                state[index] = {key: value.clone() for key, value in found.items()}  # aligned in memory as a fresh one
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        torch.set_rng_state(self.tensors["random/cpu"])
        if next(net.parameters()).is_cuda and "random/cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors["random/cuda"])


def own_tensors(net: nn.Module) -> dict[str, Tensor]:
    """The tensors of a net's state, each once, by the first of its names: matrices may be tied."""
    named = net.state_dict(keep_vars=True)
    first = {id(value): name for name, value in reversed(named.items())}
    return {name: named[name] for name in named if first[id(named[name])] == name}


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step.

    Raises:
        InputError: The folder cannot be written; the old file then stays as it was.
    """
    temporary = path.parent / f".{path.stem}-{secrets.token_hex(8)}.part"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def unwritable(path: Path, error: OSError) -> InputError:
    """What to say when a file or folder cannot be written."""
    reason = error.strerror or error
    return InputError(f"Cannot write {str(path)!r}: {reason}. Free space, change its permissions or use another --out.")


def save(folder: Path, config: Settings, checkpoint: Checkpoint, name: str = CHECKPOINT) -> None:
    """Replace the checkpoint of a folder, or another file of the same form. Errors as `write`."""
    metadata = {
        "format": f"{config.KIND} {FORMAT}",
        "softplace": softplace.__version__,
        "config": _text(dataclasses.asdict(config)),
        "progress": _text(checkpoint.progress),
    }
    metadata["checksum"] = _checksum(checkpoint.tensors, metadata)
    write(folder / name, safetensors.torch.save(dict(checkpoint.tensors), metadata))


def read(folder: Path, config: Settings, name: str = CHECKPOINT) -> Checkpoint | None:
    """The checkpoint of a folder, or another file of the same form; None where there is none.

    Raises:
        InputError: It is damaged, or another program's, or of another format, or of another configuration.
    """
    path = folder / name
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{str(path)!r}: expected a file that can be read. Got '{error.strerror}'.") from error
    try:
        tensors = safetensors.torch.load(content)
        metadata = _metadata(content)
    except (SafetensorError, KeyError, ValueError, struct.error) as error:
        raise damaged(path, " ".join(str(error).split())[:120]) from error
    _check_format(path, config.KIND, metadata.get("format"), metadata.get("softplace"))
    if metadata.get("checksum") != _checksum(tensors, metadata):
        raise damaged(path, "other numbers than were written")
    _check_same(path, json.loads(metadata["config"]), config)
    return Checkpoint(tensors=tensors, progress=json.loads(metadata["progress"]))


def write_config(folder: Path, config: Settings) -> None:
    """Replace the configuration of a folder. Errors as `write`."""
    content = {"format": f"{config.KIND} {FORMAT}", "softplace": softplace.__version__} | dataclasses.asdict(config)
    write(folder / CONFIG, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def read_config(folder: Path, settings: type[S]) -> S | None:
    """The configuration of a folder, None where there is none.

    Raises:
        InputError: It is damaged, or another program's, or of another format.
    """
    path = folder / CONFIG
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{str(path)!r}: expected a file that can be read. Got '{error.strerror}'.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{str(path)!r}: expected the settings of a training as JSON. Got '{error}'. Use another folder."
        ) from error
    found = content if isinstance(content, dict) else {}
    _check_format(path, settings.KIND, found.pop("format", None), found.pop("softplace", None))
    known = {field.name: field for field in dataclasses.fields(settings)}
    nested = [name for name, field in known.items() if "Mapping" in str(field.type)]
    if set(found) != set(known) or not all(isinstance(found[name], dict) for name in nested):
        got = ", ".join(sorted(set(found) ^ set(known))) or "settings of another type"
        raise InputError(f"{str(path)!r}: expected exactly the settings of a training. Differs in: {got}. Restore it.")
    return settings(**found)


def fit(folder: Path, net: nn.Module, checkpoint: Checkpoint) -> None:
    """Check that the tensors of a checkpoint are those of a net.

    Raises:
        InputError: They are not.
    """
    expected = {name: (value.shape, value.dtype) for name, value in own_tensors(net).items()}
    got = {name: (value.shape, value.dtype) for name, value in checkpoint.part("net/").items()}
    if expected != got:
        names = sorted(name for name in {*expected, *got} if expected.get(name) != got.get(name))
        raise InputError(
            f"{str(folder / CHECKPOINT)!r}: expected the parameters of this softplace's net. Differs in: "
            f"{', '.join(names)}. Use the softplace that trained it, or --fresh to train anew."
        )


def _text(value: object) -> str:
    return json.dumps(value, allow_nan=False, sort_keys=True)


def _metadata(content: bytes) -> dict[str, str]:
    """The free texts in the header: 8 bytes of its length (little-endian), then JSON."""
    (length,) = struct.unpack("<Q", content[:8])
    found = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return {str(name): str(value) for name, value in found.items()}


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    total = hashlib.sha256()
    for name in ("format", "softplace", "config", "progress"):
        total.update(f"{name}={metadata.get(name, '')}\n".encode())
    for name in sorted(tensors):
        total.update(f"{name}\n".encode())
        total.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def damaged(path: Path, got: str) -> InputError:
    """What to say of a checkpoint that cannot be used."""
    return InputError(
        f"{str(path)!r}: expected a whole checkpoint. Got a damaged one: {got}. "
        "Restore it, or use --fresh to train anew."
    )


def _check_format(path: Path, kind: str, got: object, version: object) -> None:
    if got == f"{kind} {FORMAT}":
        return
    if isinstance(got, str) and got.startswith(f"{kind} "):
        raise InputError(
            f"{str(path)!r}: expected format {FORMAT}. Got {got.removeprefix(kind).strip()} of softplace "
            f"{version}. Use that version, or another folder."
        )
    raise InputError(f"{str(path)!r}: expected a file that softplace wrote. Got another one. Use another folder.")


def _check_same(path: Path, there: Mapping[str, Any], config: Settings) -> None:
    if there != json.loads(_text(dataclasses.asdict(config))):
        raise InputError(
            f"{str(path)!r}: expected a checkpoint of the settings in {CONFIG}. Got one of another training. "
            "Restore the file that belongs there, or use --fresh to train anew."
        )
