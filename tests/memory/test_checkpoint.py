"""Checkpoints: what is written comes back to the bit, in one step, and nothing else passes for one."""

import dataclasses
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import softplace
from softplace.errors import InputError
from softplace.memory.checkpoint import TrainingConfig, load
from softplace.memory.models import complete, construct
from softplace.memory.optimizer import GravesRMSProp
from softplace.memory.tasks import get
from softplace.training import checkpoint
from softplace.training.checkpoint import CHECKPOINT, CONFIG, Checkpoint, read, save

SIZES: Mapping[str, Any] = {"hidden_size": 3, "layers": 1}


def config(**changes: Any) -> TrainingConfig:
    whole = complete("lstm", get("copy"), SIZES)
    return dataclasses.replace(
        TrainingConfig(
            model="lstm", task="copy", options={}, input_size=10, output_size=8, sizes=whole, optimizer="rmsprop",
            learning_rate=1e-4, batch=1, clip=10.0, curriculum="uniform", seed=0,
        ),
        **changes,
    )  # fmt: skip


class Small(nn.Module):
    """A parameter with a dot in its name, a buffer, an integer, an empty one and one of no axis."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.empty = nn.Parameter(torch.zeros(0, 2))
        self.register_buffer("count", torch.tensor([1, 2]))
        self.register_buffer("short", torch.tensor([1.5, -0.0], dtype=torch.bfloat16))

    def forward(self) -> Tensor:
        return self.scale * self.inner(torch.rand(4, 2)).square().sum() + self.empty.sum()


def step(net: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        net().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", [GravesRMSProp, torch.optim.Adam])
def test_all_that_a_step_depends_on_comes_back(kind: type[torch.optim.Optimizer], tmp_path: Path) -> None:
    with torch.random.fork_rng():
        net = Small()
        optimizer = kind(net.parameters())
        step(net, optimizer, 5)
        save(tmp_path, config(), Checkpoint.of(net, optimizer, {"step": 5, "loss": 0.1}))
        step(net, optimizer, 5)

        other = Small()
        again = kind(other.parameters())
        found = read(tmp_path, config())
        assert found is not None
        assert found.progress == {"step": 5, "loss": 0.1}
        found.restore(other, again)
        step(other, again, 5)
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
        assert value.dtype == other.state_dict()[name].dtype


def test_a_copy_is_kept_not_the_tensor_that_trains_on() -> None:
    net = Small()
    kept = Checkpoint.of(net, GravesRMSProp(net.parameters()), {})
    before = kept.tensors["net/scale"].clone()
    with torch.no_grad():
        net.scale.add_(1.0)
    assert torch.equal(kept.tensors["net/scale"], before)


def test_it_is_a_safetensors_file_that_others_can_read(tmp_path: Path) -> None:
    net = Small()
    save(tmp_path, config(), Checkpoint.of(net, GravesRMSProp(net.parameters()), {"step": 1}))
    with safetensors.safe_open(tmp_path / CHECKPOINT, "pt") as file:
        assert torch.equal(file.get_tensor("net/inner.weight"), net.inner.weight)
        metadata = file.metadata()
    assert metadata["format"] == "softplace.memory 1"
    assert metadata["softplace"] == softplace.__version__
    assert json.loads(metadata["config"])["learning_rate"] == 1e-4
    assert json.loads(metadata["progress"]) == {"step": 1}


def test_where_there_is_none(tmp_path: Path) -> None:
    assert read(tmp_path, config()) is None
    assert read(tmp_path / "nowhere", config()) is None
    assert checkpoint.read_config(tmp_path / "nowhere", TrainingConfig) is None


def test_every_cut_and_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    save(tmp_path, config(), Checkpoint(tensors={"net/weight": net.weight.detach()}, progress={"step": 12}))
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    texts = whole.index(b"__metadata__")
    for cut in (0, 1, 7, 8, 9, header, 8 + header, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError):
            read(tmp_path, config())
    for place in (*range(texts + 15, 8 + header, 11), *range(8 + header, len(whole))):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            read(tmp_path, config())
    path.write_bytes(whole)
    assert read(tmp_path, config()) is not None


def test_a_safetensors_file_of_another_program(tmp_path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match="expected a file that softplace wrote"):
        read(tmp_path, config())


def test_a_checkpoint_of_another_configuration(tmp_path: Path) -> None:
    save(tmp_path, config(), Checkpoint(tensors={}, progress={}))
    with pytest.raises(InputError, match="Got one of another training"):
        read(tmp_path, config(seed=1))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, config(), Checkpoint(tensors={}, progress={"step": 1}))
    before = (tmp_path / CHECKPOINT).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(InputError, match="No space left on device"):
                save(tmp_path, config(), Checkpoint(tensors={}, progress={"step": 2}))
        assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
        assert (tmp_path / CHECKPOINT).read_bytes() == before


def trained(folder: Path) -> nn.Module:
    net = construct("lstm", 10, 8, config().sizes)
    checkpoint.write_config(folder, config())
    save(folder, config(), Checkpoint.of(net, GravesRMSProp(net.parameters()), {"step": 1}))
    return net


def test_load_gives_the_net_and_its_configuration(tmp_path: Path) -> None:
    net = trained(tmp_path)
    found, settings = load(tmp_path)
    assert settings == config()
    inputs = torch.rand(4, 2, 10)
    assert torch.equal(found(inputs)[0], net(inputs)[0])


def test_load_of_what_is_no_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Got one without config\.json"):
        load(tmp_path)
    checkpoint.write_config(tmp_path, config())
    with pytest.raises(InputError, match=r"Got one without checkpoint\.safetensors"):
        load(str(tmp_path))


def test_tensors_of_another_net(tmp_path: Path) -> None:
    trained(tmp_path)
    net = construct("lstm", 10, 8, dict(config().sizes) | {"hidden_size": 4})
    save(tmp_path, config(), Checkpoint.of(net, GravesRMSProp(net.parameters()), {"step": 1}))
    with pytest.raises(InputError, match="Differs in: "):
        load(tmp_path)


def test_the_configuration_comes_back(tmp_path: Path) -> None:
    for each in (config(), config(clip=None, options={"length": [1, 5]}, seed=2**63 - 1, learning_rate=1 / 3)):
        checkpoint.write_config(tmp_path, each)
        assert checkpoint.read_config(tmp_path, TrainingConfig) == each
    assert json.loads((tmp_path / CONFIG).read_text())["softplace"] == softplace.__version__
