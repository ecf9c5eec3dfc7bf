"""Networks of others that the memory is timed against, taken from a folder of their clones.

None of their code is here: `load` imports it from the clones under names that cannot meet those of installed packages.
Nothing of theirs is changed: their networks are imported without their programs, so what only those need (the attrs of
2018, visdom) is not. pytorch-dnc is sent (B, T, I) and answers (T, B, O), so its outputs are taken as they come.

Axes: T time, B batch, I inputs, O outputs.
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional

CLONES = {
    "pytorch-ntm": "https://github.com/loudinthecloud/pytorch-ntm",
    "pytorch-dnc": "https://github.com/ixaxaar/pytorch-dnc",
    "dnc": "https://github.com/RobertCsordas/dnc",
}
"""Folder of each clone, and where it comes from."""

Forward = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A machine, its sizes, and a copy task: `length` words of `bits` bits, a flag, and `length` steps to answer."""

    machine: str
    batch: int
    length: int
    slots: int
    bits: int
    hidden: int
    layers: int
    reads: int
    width: int = 20
    aim: float | None = None

    @property
    def steps(self) -> int:
        """T."""
        return 2 * self.length + 1

    @property
    def inputs(self) -> int:
        """I."""
        return self.bits + 1

    @property
    def outputs(self) -> int:
        """O: pytorch-ntm's task answers the bits, pytorch-dnc's network has as many outputs as inputs."""
        return self.bits if self.machine == "NTM" else self.bits + 1

    def __str__(self) -> str:
        layers = f"{self.layers} x {self.hidden}" if self.layers > 1 else f"{self.hidden}"
        return (
            f"{self.machine}, memory {self.slots} x {self.width}, LSTM {layers}, {self.reads} + 1 heads, "
            f"batch {self.batch}, {self.steps} timesteps"
        )


def ntm(batch: int, length: int, aim: float | None = None) -> Case:
    """The copy task of the paper and of pytorch-ntm."""
    return Case(
        machine="NTM", batch=batch, length=length, slots=128, bits=8, hidden=100, layers=1, reads=1, aim=aim
    )  # fmt: skip


def dnc(slots: int, batch: int, length: int, aim: float | None = None) -> Case:
    """The copy task of pytorch-dnc: its sizes, of the memory more slots."""
    return Case(
        machine="DNC", batch=batch, length=length, slots=slots, bits=5, hidden=64, layers=2, reads=4, aim=aim
    )  # fmt: skip


@dataclass(frozen=True)
class Network:
    """Something to train: inputs (T, B, I) to outputs (T, B, O), of which the last are compared with the targets."""

    module: nn.Module
    forward: Forward
    loss: Loss = functional.binary_cross_entropy_with_logits


Build = Callable[[Case], Network]


def absent(folder: Path | None) -> str:
    """How to get the clones that are not there; empty where all are."""
    missing = [name for name in CLONES if folder is None or not (folder / name).is_dir()]
    if not missing:
        return ""
    where = folder or Path("..", "peers")
    lines = [f"git clone --depth 1 {CLONES[name]} {where / name}" for name in missing]
    return "\n".join(
        [
            f"Not compared with {', '.join(missing)}: no clone of it is in a folder given by --peers. To get them:",
            *lines,
            f"python -m benchmarks memory --peers {where}   (or SOFTPLACE_PEERS={where} make bench)",
        ]
    )


def load(folder: Path | None) -> dict[str, dict[str, Build]]:
    """The networks whose clones are in the folder: by machine, and then by name."""
    found: dict[str, dict[str, Build]] = {"NTM": {}, "DNC": {}}
    if folder is None:
        return found
    if (folder / "pytorch-ntm").is_dir():
        found["NTM"]["pytorch-ntm"] = _pytorch_ntm(package(folder / "pytorch-ntm" / "ntm", "aio"))
    if (folder / "pytorch-dnc").is_dir():
        found["DNC"]["pytorch-dnc"] = _pytorch_dnc(package(folder / "pytorch-dnc" / "dnc", "dnc"))
    if (folder / "dnc").is_dir():
        found["DNC"]["RobertCsordas/dnc"] = _csordas(package(folder / "dnc" / "Models", "DNC"))
    return found


def package(folder: Path, module: str) -> ModuleType:
    """A module of the package in a folder, with or without an `__init__.py`, imported under a name of its own."""
    name = f"outside_{folder.parent.name}_{folder.name}".replace("-", "_")
    if name not in sys.modules:
        initial = folder / "__init__.py"
        if initial.exists():
            spec = spec_from_file_location(name, initial, submodule_search_locations=[str(folder)])
            if spec is None or spec.loader is None:
                raise ImportError(f"{initial} cannot be imported.")
            sys.modules[name] = module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        else:
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__path__ = [str(folder)]
    return importlib.import_module(f"{name}.{module}")


def _pytorch_ntm(aio: ModuleType) -> Build:
    def build(case: Case) -> Network:
        network = aio.EncapsulatedNTM(
            case.inputs, case.outputs, case.hidden, case.layers, case.reads, case.slots, case.width
        )

        def forward(inputs: Tensor) -> Tensor:
            network.init_sequence(inputs.shape[1])
            return torch.stack([network(step)[0] for step in inputs])

        return Network(network, forward, functional.binary_cross_entropy)

    return build


def _pytorch_dnc(module: ModuleType) -> Build:
    def build(case: Case) -> Network:
        network = module.DNC(
            case.inputs,
            case.hidden,
            num_hidden_layers=case.layers,
            nr_cells=case.slots,
            cell_size=case.width,
            read_heads=case.reads,
            independent_linears=True,  # as in its copy task
        )

        def forward(inputs: Tensor) -> Tensor:
            outputs: Tensor = network(inputs.transpose(0, 1), (None, None, None), reset_experience=True)[0]
            return outputs  # time first, although batch_first is its default

        return Network(network, forward)

    return build


def _csordas(module: ModuleType) -> Build:
    def build(case: Case) -> Network:
        controller = module.LSTMController([case.hidden] * case.layers)
        network = module.DNC(
            case.inputs,
            case.outputs,
            case.width,
            case.slots,
            case.reads,
            controller,
            dealloc_content=False,
            link_sharpness_control=False,
        )
        return Network(network, network)

    return build
