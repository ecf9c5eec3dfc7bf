"""The page of a training, and the figure that steps through a machine's trace."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from softplace.errors import InputError
from softplace.memory import tasks
from softplace.memory.checkpoint import TrainingConfig
from softplace.memory.evaluation import Evaluation, Measure
from softplace.memory.page import steps_figure, training_report, write_training_page
from softplace.report.page import render
from softplace.report.records import Figure
from tests.conftest import Open, axe
from tests.memory.sample_trace import MachineTrace, copying


def panel(figure: Figure, name: str, arm: str | None = None) -> dict[tuple[Any, Any], Any]:
    """The values of a panel by (row, step)."""
    rows = [row for row in figure.rows if row["panel"] == name and (arm is None or row[str(figure.series)] == arm)]
    return {(row["row"], row["step"]): row["value"] for row in rows}


def names(figure: Figure) -> list[Any]:
    return list(dict.fromkeys(row["panel"] for row in figure.rows))


# The figure


def test_the_figure_has_the_numbers_of_the_trace_and_the_episode() -> None:
    episode, trace = copying(4, 16)
    figure = steps_figure(trace, episode)
    assert names(figure) == ["input", "target", "output", "write weights", "read weights", "content gates", "memory"]
    assert figure.highlight == ("write weights", "read weights")
    assert figure.series is None
    write, read, state = (panel(figure, name) for name in ("write weights", "read weights", "memory"))
    slots = sorted({row for row, _ in write})
    assert slots == [1, 2, 3, 4, 5, 6, 7, 8]  # slots 6 to 8 are never used, but fewer than eight would be odd
    for step in range(10):
        for slot in slots:
            assert write[slot, step + 1] == trace.weights[step, 0, 1, slot - 1]
            assert read[slot, step + 1] == trace.weights[step, 0, 0, slot - 1]
            assert state[slot, step + 1] == trace.memory[step, 0, slot - 1].tolist()
        for channel in range(6):
            wanted, said = (
                panel(figure, "target")[channel + 1, step + 1],
                panel(figure, "output")[channel + 1, step + 1],
            )
            if episode.mask[step, 0]:
                assert wanted == episode.targets[step, 0, channel]
                assert said == pytest.approx(wanted, abs=1e-4)
            else:
                assert wanted != wanted  # it does not count
    assert panel(figure, "content gates")["write", 3] == pytest.approx(float(trace.gates[2, 0, 1]))
    assert panel(figure, "content gates")["read", 3] == pytest.approx(float(trace.gates[2, 0, 0]))
    assert "8 of 16 slots, those of the least weight, are left out." in figure.caption


def test_a_shorter_sequence_of_the_batch_ends_at_its_length() -> None:
    episode, trace = copying(4, 16)
    figure = steps_figure(trace, episode, item=1)
    assert max(row["step"] for row in figure.rows) == 8
    assert panel(figure, "input")[1, 2] == episode.inputs[1, 1, 0]


def test_the_arms_are_in_one_figure_with_the_same_slots() -> None:
    episode, sharp = copying(4, 32)
    blurred = copying(4, 32, blur=0.5)[1]
    figure = steps_figure({"hardmax": sharp, "softmax": blurred}, episode, series="arm")
    assert figure.series == "arm"
    assert list(dict.fromkeys(row["arm"] for row in figure.rows)) == ["hardmax", "softmax"]
    one, other = (panel(figure, "write weights", arm) for arm in ("hardmax", "softmax"))
    assert one.keys() == other.keys()
    assert len({row for row, _ in other}) == 32  # 0.5 / 32 is more than 0.01
    assert other[3, 3] == pytest.approx(0.5 + 0.5 / 32)


def test_a_uniform_machine_keeps_as_many_slots_as_are_asked_for() -> None:
    episode, trace = copying(4, 64, blur=1.0)  # each weight is 1/64
    assert len({row for row, _ in panel(steps_figure(trace, episode, slots=20), "read weights")}) == 20


def test_a_large_memory_is_left_out_and_that_is_said() -> None:
    episode, trace = copying(20, 128)
    traces = {name: trace._replace(memory=trace.memory.repeat(1, 1, 1, 8)) for name in "ab"}
    figure = steps_figure(traces, episode)
    assert "memory" not in names(figure)
    assert "The memory itself is left out" in figure.caption
    assert "memory" in names(steps_figure(traces, episode, memory=True))
    assert "memory" not in names(steps_figure(copying()[1], copying()[0], memory=False))
    assert "The memory itself" not in steps_figure(copying()[1], copying()[0], memory=False).caption


def test_the_papers_copy_is_a_small_figure() -> None:
    episode, trace = copying(20, 128, bits=8)
    trace = trace._replace(memory=torch.randn(42, 2, 128, 20))
    report = render_of(steps_figure(trace, episode))
    assert len(report) - len(render_of()) < 150_000


def render_of(*figures: Figure) -> str:
    from softplace.report.records import PlaceReport, Report, Section

    section = Section(key="s", title="S", verdict=None, figures=figures)
    place = PlaceReport(place="memory", question="q", answer="a", sections=(section,), references=(), method=())
    return render(Report(title="t", places=(place,), pending=(), command="c", provenance={}, about="training"))


def test_indices_as_targets_are_shown_as_words_and_wide_channels_are_thinned() -> None:
    episode, trace = copying(4, 16)
    classes = 90
    words = torch.arange(20).reshape(10, 2) * 3
    outputs = torch.full((10, 2, classes), -9.0).scatter(2, words[..., None], 9.0)
    figure = steps_figure(trace._replace(outputs=outputs), episode._replace(targets=words))
    said = panel(figure, "output")
    assert len({row for row, _ in said}) == 40
    assert said[int(words[9, 0]) + 1, 10] == pytest.approx(1.0, abs=1e-3)
    assert panel(figure, "target")[int(words[9, 0]) + 1, 10] == 1.0
    assert "50 channels, those that do least, are left out." in figure.caption


def test_several_heads_have_numbers() -> None:
    episode, trace = copying(4, 16)
    two = MachineTrace(
        weights=trace.weights.repeat(1, 1, 2, 1),
        gates=trace.gates.repeat(1, 1, 2),
        erase=trace.erase.repeat(1, 1, 2, 1),
        memory=trace.memory,
        outputs=trace.outputs,
    )
    figure = steps_figure(two, episode)
    assert figure.highlight == (
        "write weights head 1",
        "write weights head 2",
        "read weights head 1",
        "read weights head 2",
    )
    assert {row for row, _ in panel(figure, "content gates")} == {"write 1", "write 2", "read 1", "read 2"}


class DNCLike(NamedTuple):
    """What the figures need of a `DNCTrace`."""

    usage: Tensor
    write_weights: Tensor
    read_weights: Tensor
    write_gates: Tensor
    allocation_gates: Tensor
    free_gates: Tensor
    read_modes: Tensor
    memory: Tensor
    outputs: Tensor


def dnc_like() -> tuple[Any, DNCLike]:
    episode, trace = copying(4, 16)
    return episode, DNCLike(
        usage=trace.weights[:, :, 1].cumsum(0).clamp(max=1),
        write_weights=trace.weights[:, :, 1:],
        read_weights=trace.weights[:, :, :1].repeat(1, 1, 2, 1),
        write_gates=torch.full((10, 2, 1), 0.75),
        allocation_gates=torch.full((10, 2, 1), 0.5),
        free_gates=torch.full((10, 2, 2), 0.25),
        read_modes=torch.tensor([0.125, 0.25, 0.625]).expand(10, 2, 2, 3),
        memory=trace.memory,
        outputs=trace.outputs,
    )


def test_a_dnc_shows_its_usage_gates_and_read_modes() -> None:
    episode, trace = dnc_like()
    figure = steps_figure(trace, episode)
    heads = ["write weights", "read weights head 1", "read weights head 2"]
    assert names(figure) == ["input", "target", "output", *heads, "usage", "gates", "read modes", "memory"]
    gates, modes = panel(figure, "gates"), panel(figure, "read modes")
    assert {row: gates[row, 1] for row, step in gates if step == 1} == {
        "write": 0.75,
        "allocation": 0.5,
        "free 1": 0.25,
        "free 2": 0.25,
    }
    assert {row: modes[row, 1] for row, step in modes if step == 1} == {
        "backward 1": 0.125,
        "backward 2": 0.125,
        "content 1": 0.25,
        "content 2": 0.25,
        "forward 1": 0.625,
        "forward 2": 0.625,
    }
    assert panel(figure, "usage")[2, 3] == 1.0
    unlinked = steps_figure(trace._replace(read_modes=torch.ones(10, 2, 2, 1)), episode)
    assert "read modes" not in names(unlinked)


def test_a_sequence_without_a_step_has_no_numbers() -> None:
    episode, trace = copying()
    empty = episode._replace(lengths=torch.tensor([0, 0]))
    assert not steps_figure(trace, empty).rows


def test_a_long_sequence_is_cut_and_that_is_said() -> None:
    episode, trace = copying(150, 16)
    figure = steps_figure(trace, episode, memory=False)
    assert max(row["step"] for row in figure.rows) == 240
    assert "Only the first 240 of 302 steps are shown." in figure.caption


def test_what_cannot_be_drawn_is_said() -> None:
    episode, trace = copying()
    with pytest.raises(InputError, match="'traces' must be a trace, or one or more"):
        steps_figure({}, episode)
    with pytest.raises(InputError, match=r"'item' must be from 0 to 1.* Got 2"):
        steps_figure(trace, episode, item=2)
    with pytest.raises(InputError, match=re.escape("(T, B) = (10, 2). Got (12, 2) for 'relu'")):
        steps_figure({"relu": copying(5)[1]}, episode)
    with pytest.raises(InputError, match="'slots' must be 1 or more"):
        steps_figure(trace, episode, slots=0)


# The page


class Machine(nn.Module):
    """A net that has a parameter, and the trace of a machine that copies."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def trace(self, inputs: Tensor, state: object = None, lengths: Tensor | None = None) -> MachineTrace:
        length, batch = inputs.shape[:2]
        shift = torch.arange(length)[:, None, None, None].expand(length, batch, 2, 1) % 16
        return MachineTrace(
            weights=torch.zeros(length, batch, 2, 16).scatter(3, shift, 1.0),
            gates=torch.full((length, batch, 2), 0.5),
            erase=torch.ones(length, batch, 1, 20),
            memory=torch.randn(length, batch, 16, 20, generator=torch.Generator().manual_seed(0)),
            outputs=torch.zeros(length, batch, 8),
        )


def measured(**changes: Any) -> dict[str, Any]:
    curve = [{"step": 100 * n, "sequences": 1600 * n, "loss": 60.0 / n, "seconds": n} for n in range(1, 1001)]
    evaluations = [
        Evaluation(
            label=label,
            difficulty={},
            sequences=200,
            longest=longest,
            measures={"loss": Measure(mean=bits, standard_error=0.1), "bits": Measure(mean=bits, standard_error=0.1)},
        )
        for label, longest, bits in (("training range", 42, 0.02), ("length 50", 102, 3.5))
    ]
    return {
        "step": 100_000,
        "seconds": 83.25,
        "curve": [*curve, {"step": 100_001, "diverged": "a loss of nan"}],
        "evaluations": evaluations,
    } | changes


def config(**changes: Any) -> TrainingConfig:
    values = {
        "model": "ntm",
        "task": "copy",
        "options": {"length": [1, 6]},
        "input_size": 10,
        "output_size": 8,
        "sizes": {"hidden_size": 100, "slots": 16, "map": "sparsemax", "order": "write-read", "layers": 1},
        "optimizer": "rmsprop",
        "learning_rate": 1e-4,
        "batch": 16,
        "clip": 10.0,
        "curriculum": "uniform",
        "seed": 0,
    }
    return TrainingConfig(**(values | changes))


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nets' own arguments, which the command line is made of."""
    usual = {"hidden_size": 100, "slots": 128, "map": "softmax", "order": "write-read", "layers": 1}
    monkeypatch.setattr("softplace.memory.models.complete", lambda model, task, sizes: usual | dict(sizes))
    preset = {"learning_rate": 1e-4, "batch": 1}
    monkeypatch.setattr("softplace.memory.models.preset", lambda model, task, controller=None: preset)


def test_the_report_says_what_was_trained_and_how_it_did() -> None:
    report = training_report(Machine(), tasks.get("copy", length=(1, 6)), config(), **measured())
    [place] = report.places
    assert report.title == "Neural Turing Machine on copy"
    assert place.answer == (
        "After 100,000 updates (1,600,000 sequences), mean and standard error of a sequence: "
        "training range: bits 0.02 ± 0.1. length 50: bits 3.5 ± 0.1."
    )
    assert place.facts["Map of the content look-up"] == "sparsemax"
    assert place.facts["Parameters"] == "3"
    assert place.facts["Updates"] == "100,000 of 16 sequences"
    assert place.facts["Time"] == "83.2 s on CPU"
    assert place.facts["Settings of the task"] == "length 1 to 6"
    assert report.command == (
        "softplace train memory --model ntm --task copy --steps 100000 --slots 16 --map sparsemax "
        "--option 'length=[1,6]' --batch 16"
    )


def test_the_curve_is_the_mean_of_several_lines_where_there_are_many() -> None:
    report = training_report(Machine(), tasks.get("copy"), config(), **measured())
    figure = report.places[0].sections[0].figures[0]
    assert len(figure.rows) == 334  # 1,000 lines, three in a point
    assert figure.rows[0] == {"sequences": 4800, "loss": pytest.approx((60 + 30 + 20) / 3)}
    assert figure.y.scale == "log"
    assert "mean of 300 updates" in figure.caption


def test_the_figures_of_the_reach_have_means_and_intervals() -> None:
    report = training_report(Machine(), tasks.get("copy"), config(), **measured())
    [figure] = report.places[0].sections[1].figures  # "loss" is "bits" by another name
    assert figure.title == "Bits at each difficulty"
    assert [row["difficulty"] for row in figure.rows] == ["training range", "length 50"]
    assert figure.rows[1]["low"] == pytest.approx(3.5 - 0.196)
    assert figure.rows[0]["low"] == 0.0  # and not -0.176


def test_a_net_without_a_memory_has_no_heads_and_that_is_said() -> None:
    net = nn.Linear(2, 2)
    report = training_report(net, tasks.get("copy"), config(model="lstm", sizes={}), **measured())
    section = report.places[0].sections[-1]
    assert (section.figures, len(section.text)) == ((), 1)
    assert "no memory" in section.text[0]


def test_a_training_of_no_steps_has_a_page() -> None:
    bare = measured(curve=[], evaluations=[], step=0)
    page = render(training_report(Machine(), tasks.get("copy"), config(), **bare))
    assert "It was not evaluated." in page


def test_the_command_has_all_that_is_not_the_papers() -> None:
    sizes = {"hidden_size": 50, "masked": True, "sharpened": False}
    chosen = config(
        model="dnc", sizes=sizes, clip=None, curriculum="mixed", seed=3, optimizer="adam", options={"data": "a b"}
    )
    command = training_report(Machine(), tasks.get("copy"), chosen, **measured()).command
    assert command == (
        "softplace train memory --model dnc --task copy --steps 100000 --hidden 50 --masked --data 'a b' "
        "--batch 16 --clip inf --seed 3 --optimizer adam --curriculum mixed"
    )


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("training") / "page.html"
    write_training_page(path, Machine(), tasks.get("copy", length=(1, 6)), config(), command="c", **measured())
    return path


@pytest.mark.pages
@pytest.mark.parametrize("width", [320, 1280])
def test_a_browser_shows_the_page(open_page: Open, width: int) -> None:
    page = open_page(width=width, bypass_csp=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".chart svg").count() > 5
    assert page.locator(".chart-note").count() == 0
    page.get_by_role("button", name="Next").click()
    assert page.locator(".steps-now").inner_text().startswith("Step 2 of ")
    assert axe(page) == []
