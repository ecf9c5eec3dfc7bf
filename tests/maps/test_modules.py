"""Modules: they give what the functions give, say what they hold, and keep what is learned."""

import copy
import inspect

import pytest
import torch
from torch import Tensor, nn

from softplace import maps
from softplace.maps import modules
from softplace.maps._catalogue import ENTRIES, Entry

by_name = pytest.mark.parametrize("each", ENTRIES, ids=[each.name for each in ENTRIES])
OPTIONS = {
    "softmax1": {"sink": 0.7},
    "entmax": {"alpha": 1.3},
    "normmax": {"alpha": 3.0},
    "topk_softmax": {"k": 3},
    "k_subset": {"k": 3},
    "sinkhorn": {"other_dim": 0, "iterations": 4},
    "taylor_softmax": {"order": 4},
    "sigmoid": {"bias": "-log n"},
    "gumbel_softmax": {"hard": True},
}


def scores() -> Tensor:
    return torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@by_name
def test_a_module_gives_what_its_function_gives(each: Entry) -> None:
    options = OPTIONS.get(each.name, {})
    module = getattr(modules, each.module)(1, temperature=0.7, **options)
    mask = torch.tensor([True, True, False, True])[:, None]
    torch.manual_seed(1)
    given = module(scores(), mask)
    torch.manual_seed(1)
    assert torch.equal(given, each.function(scores(), 1, mask=mask, temperature=0.7, **options))
    torch.manual_seed(1)
    given = getattr(modules, each.module)()(scores())
    torch.manual_seed(1)
    assert torch.equal(given, each.function(scores()))


@by_name
def test_a_module_takes_every_option_of_its_function(each: Entry) -> None:
    kind = getattr(modules, each.module)
    taken = set(inspect.signature(kind).parameters) - {"learn", "learn_sink"}
    assert taken == set(inspect.signature(each.function).parameters) - {"scores", "mask", "out"}
    assert set(kind.options) == taken - {"dim", "temperature"}


@by_name
def test_what_is_not_learned_is_no_state(each: Entry) -> None:
    module = getattr(modules, each.module)()
    assert list(module.state_dict()) == []
    assert copy.deepcopy(nn.Sequential(module)).state_dict() == {}


@by_name
def test_its_text_names_the_options(each: Entry) -> None:
    options = OPTIONS.get(each.name, {})
    text = repr(getattr(modules, each.module)(1, temperature=0.5, **options))
    shown = ", ".join(
        f"{name}={options.get(name)!r}" for name in getattr(modules, each.module).options if name != "generator"
    )
    assert text.startswith(f"{each.module}(dim=1, temperature=0.5{', ' if shown else ''}{shown}")
    assert "temperature" not in repr(getattr(modules, each.module)())


def test_there_is_one_for_each_map_and_none_else() -> None:
    kinds = {kind.__name__ for kind in modules.MapModule.__subclasses__()}
    assert kinds == {each.module for each in ENTRIES}


@pytest.mark.parametrize(("learn", "shape"), [(True, ()), (4, (4, 1, 1)), ((2, 1, 1, 1), (2, 1, 1, 1))])
def test_a_learned_alpha(learn: bool | int | tuple[int, ...], shape: tuple[int, ...]) -> None:
    module = modules.Entmax(alpha=1.3, learn=learn)
    values = torch.randn(2, 4, 5, 5)
    assert isinstance(module.alpha, Tensor)
    assert module.alpha.shape == shape
    torch.testing.assert_close(module.alpha, torch.full(shape, 1.3))
    torch.testing.assert_close(module(values), maps.entmax(values, alpha=1.3), rtol=0, atol=1e-6)
    module(values).square().sum().backward()
    assert list(module.state_dict()) == ["raw_alpha"]
    assert module.raw_alpha is not None
    assert module.raw_alpha.grad is not None
    assert (module.raw_alpha.grad != 0).all()
    other = modules.Entmax(alpha=1.9, learn=learn)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(values), module(values))
    assert repr(module) == f"Entmax(dim=-1, alpha=learned of shape {shape})"


@pytest.mark.parametrize("alpha", [1.0001, 1.5, 2.0, 40.0, 500.0])
def test_a_learned_alpha_starts_where_it_is_told_to_and_stays_above_1(alpha: float) -> None:
    module = modules.Entmax(alpha=alpha, learn=True)
    assert torch.as_tensor(module.alpha).item() == pytest.approx(alpha, rel=1e-6)
    assert module.raw_alpha is not None
    module.raw_alpha.data.fill_(-5.0)
    assert torch.as_tensor(module.alpha).item() > 1


@pytest.mark.parametrize("alpha", [1.0, 0.5, float("nan"), float("inf")])
def test_an_alpha_that_cannot_be_learned_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"'alpha' of Entmax must be above 1 and finite to be learned\. Got"):
        modules.Entmax(alpha=alpha, learn=True)


@pytest.mark.parametrize(("learn", "shape"), [(True, ()), (4, (4, 1, 1)), ((5, 1), (5, 1))])
def test_a_learned_sink(learn: bool | int | tuple[int, ...], shape: tuple[int, ...]) -> None:
    module = modules.Softmax1(sink=0.5, learn_sink=learn)
    values = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(module(values), maps.softmax1(values, sink=0.5), rtol=0, atol=1e-6)
    module(values).square().sum().backward()
    assert {name: tuple(each.shape) for name, each in module.state_dict().items()} == {"sink": shape}
    assert isinstance(module.sink, nn.Parameter)
    assert module.sink.grad is not None
    assert (module.sink.grad != 0).all()


@pytest.mark.parametrize(("name", "switch"), [("Entmax", "learn"), ("Softmax1", "learn_sink")])
def test_what_says_not_what_to_learn_is_refused(name: str, switch: str) -> None:
    for learn in (0, -1, (4, 0)):
        with pytest.raises(ValueError, match=rf"'{switch}' of {name} must be at least 1 .* Got .*\. Use True to learn"):
            getattr(modules, name)(**{switch: learn})
    for wrong in (None, 2.5, "a", (2.5,), (True,), torch.tensor(2)):
        with pytest.raises(TypeError, match=rf"'{switch}' of {name} must be True, False, a number of heads or a shape"):
            getattr(modules, name)(**{switch: wrong})


def test_a_start_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match=r"'alpha' of Entmax must be a number to be learned\. Got str"):
        modules.Entmax(alpha="1.5", learn=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"'sink' of Softmax1 must be a number to be learned\. Got NoneType"):
        modules.Softmax1(sink=None, learn_sink=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'sink' of Softmax1 must be finite to be learned\. Got -inf"):
        modules.Softmax1(sink=-float("inf"), learn_sink=True)


@by_name
def test_an_unknown_argument_is_refused_in_the_name_of_the_module(each: Entry) -> None:
    with pytest.raises(TypeError, match=rf"^{each.module}\.__init__\(\) got an unexpected .* 'temprature'"):
        getattr(modules, each.module)(temprature=1.0)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_a_module_with_a_learned_option_trains_under_functional_call() -> None:
    module = modules.Entmax(learn=True)
    parameters = {"raw_alpha": torch.tensor([0.0, 1.0, 2.0])}
    values = torch.randn(4, 6)
    many = torch.vmap(lambda given: torch.func.functional_call(module, given, (values,)))(parameters)
    for index in range(3):
        alpha = 1 + nn.functional.softplus(parameters["raw_alpha"][index])
        torch.testing.assert_close(many[index], maps.entmax(values, alpha=alpha), rtol=1e-4, atol=1e-6)
