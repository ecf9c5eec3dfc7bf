"""The engine: what values become along paths, and what it does with files that are not as they should be."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softplace.check.engine import Report, check
from softplace.check.files import find
from softplace.check.project import Project
from tests.check.reading import blocks

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


def report(folder: Path, *, jobs: int = 1) -> Report:
    return check(Project(list(find([str(folder)], (), {}))), jobs=jobs)


def codes(folder: Path, text: str) -> list[tuple[int, str]]:
    (folder / "code.py").write_text(HEAD + text, encoding="utf-8")
    return [(each.site.line - HEAD.count("\n"), each.code) for each in report(folder).findings]


@pytest.mark.parametrize(
    "change",
    [
        "x.view(3, 4)",
        "x.reshape(-1)",
        "x.squeeze()",
        "x.unsqueeze(0)",
        "x.to('cuda')",
        "x.float()",
        "x.detach().clone()",
        "x.permute(1, 0)",
        "torch.cat([x, x])",
        "torch.stack([x, x])",
        "x[0]",
        "x[:, -1, :]",
        "x.mean(0)",
        "F.dropout(x, 0.1)",
        "nn.Dropout(0.1)(x)",
        "(x, 1)[0]",
        "{'a': x}['a']",
        "[x for _ in range(3)][0]",
        "(lambda v: v)(x)",
        "x if True else y",
        "list([x])[0]",
        "F.relu(x)",
    ],
)
def test_operations_that_keep_probabilities(change: str, tmp_path: Path) -> None:
    text = f"def f(y, t):\n    x = F.softmax(y, dim=1)\n    x = {change}\n    return F.cross_entropy(x, t)\n"
    assert (4, "SP101") in codes(tmp_path, text)


@pytest.mark.parametrize(
    "change",
    ["x @ y", "nn.Linear(3, 4)(x)", "F.linear(x, y)", "x * 3", "x + y", "torch.log(x)", "x - 0.5", "y", "unknown(x)"],
)
def test_operations_that_do_not(change: str, tmp_path: Path) -> None:
    text = f"def f(y, t):\n    x = F.softmax(y, dim=1)\n    x = {change}\n    return F.cross_entropy(x, t)\n"
    assert (4, "SP101") not in codes(tmp_path, text)


def test_a_value_that_is_right_on_one_path_is_not_reported(tmp_path: Path) -> None:
    text = "def f(y, t, flag):\n    if flag:\n        y = F.softmax(y, dim=1)\n    return F.cross_entropy(y, t)\n"
    assert codes(tmp_path, text) == []
    both = text.replace("    return", "    else:\n        y = y.softmax(1)\n    return")
    assert [code for _, code in codes(tmp_path, both)] == ["SP101", "SP101"]


def test_both_sides_and_the_path_are_given(tmp_path: Path) -> None:
    text = (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.s = nn.Softmax(dim=1)\n    def forward(self, x):\n        return self.s(x)\n"
        "c = nn.CrossEntropyLoss()\nc(Net()(0), 0)\n"
    )
    codes(tmp_path, text)
    (finding,) = report(tmp_path).findings
    lines = [each.site.line - HEAD.count("\n") for each in finding.related]
    assert lines == [4, 6, 8, 7]
    assert finding.site.line - HEAD.count("\n") == 8


def test_what_cannot_be_followed_is_counted(tmp_path: Path) -> None:
    assert codes(tmp_path, "def f(model, x, t):\n    return F.cross_entropy(model(x), t)\n") == []
    ((site, reason),) = report(tmp_path).unresolved
    assert site.line == 5
    assert "parameter 'model'" in reason


def test_places(tmp_path: Path) -> None:
    text = """
def attention(q, k, v, d):
    return F.softmax(q @ k.transpose(-2, -1) / d, dim=-1) @ v
def choose(x):
    return torch.distributions.Categorical(F.softmax(x, dim=-1)).sample()
def sample(x):
    return F.gumbel_softmax(x)
def kd(s, t):
    return F.kl_div(F.log_softmax(s, 1), F.softmax(t, 1))
def read_head(memory, key):
    weights = F.softmax(memory @ key, dim=-1)
    return weights @ memory
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
    def forward(self, x):
        return F.softmax(self.fc(x), dim=1)
class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)
    def forward(self, x):
        return self.b(F.softmax(self.a(x), dim=1))
"""
    codes(tmp_path, text)
    found = {each.site.line - HEAD.count("\n") - 1: each.place for each in report(tmp_path).softmaxes}
    assert found == {
        2: "attention",
        4: "policy",
        6: "latent",
        8: "loss",
        10: "memory",
        17: "output",
        23: "hidden",
    }


def test_imports_in_a_circle_and_functions_without_end(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "from b import *\nimport b\nclass A(b.B):\n    softmax = b.C\ndef f(n): return f(f)\n"
    )
    (tmp_path / "b.py").write_text(
        "from a import *\nfrom a import A\nclass B(A): pass\nC = A\ndef f(n): return f(n - 1)\n"
    )
    (tmp_path / "c.py").write_text(
        "class C(C): pass\nclass D(D.E): pass\nsoftmax = lambda: softmax()\nsoftmax()\nfrom c import x\n"
    )
    assert report(tmp_path).troubles == {}


def test_unusual_files_are_a_line_each_and_the_rest_is_checked(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(HEAD + "F.cross_entropy(F.softmax(0, dim=1), 0)\n")
    (tmp_path / "old.py").write_text("exec 'softmax'\n")
    old = "try:\n\tprint 'x', 1\nexcept ValueError, e:\n    raise KeyError, 'y'\nimport torch.nn as nn\nnn.Softmax()\n"
    (tmp_path / "older.py").write_text(old)
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\nimport torch.nn.functional as F\nF.softmax(x)\n")
    (tmp_path / "zero.py").write_bytes(b"softmax\0")
    (tmp_path / "deep.py").write_text("softmax = " + "(" * 3000 + ")" * 3000)
    (tmp_path / "long.py").write_text("softmax = " + "+".join(["1"] * 20_000))
    (tmp_path / "nb.ipynb").write_text("{softmax")
    (tmp_path / "empty.py").write_text("")
    os.symlink(tmp_path, tmp_path / "loop")
    os.symlink(tmp_path / "nowhere.py", tmp_path / "broken.py")
    found = report(tmp_path)
    places = {(Path(each.site.path).name, each.site.line, each.code) for each in found.findings}
    assert places == {("good.py", 4, "SP101"), ("latin.py", 3, "SP301"), ("older.py", 6, "SP301")}
    names = {Path(path).name: text for path, text in found.troubles.items()}
    assert "Python 2" in names["old.py"]
    assert "zero bytes" in names["zero.py"]
    assert "not a notebook" in names["nb.ipynb"]
    assert {"deep.py", "broken.py"} <= names.keys()
    assert "good.py" not in names


@pytest.mark.parametrize("name", ["pipe.py", "pipe.ipynb"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    assert list(report(tmp_path).troubles.values()) == ["not a regular file."]


@pytest.mark.parametrize("cookie", ["rot13", "idna", "undefined", "utf-16", "nope", "unicode_escape"])
def test_any_encoding_is_survived(cookie: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_bytes(f"# coding: {cookie}\n{HEAD}F.softmax(x)\n".encode())
    found = report(tmp_path)
    assert len(found.findings) + len(found.troubles) == 1


@pytest.mark.parametrize(
    "lines",
    [
        "d = (F.softmax(x, dim=1),)\n" + "d = d + d\n" * 50,
        "d = [F.softmax(x, dim=1)]\n" + "d = [*d, *d]\n" * 50,
        "d = [F.softmax(x, dim=1)]\n" + "d = d * 16\n" * 20,
    ],
)
def test_lists_that_double_do_not_fill_the_memory(lines: str, tmp_path: Path) -> None:
    assert codes(tmp_path, lines + "F.cross_entropy(d[0], y)\n")[0][1] == "SP101"


def test_numbers_and_texts_that_double_do_not_fill_the_memory(tmp_path: Path) -> None:
    text = "n, s = 2, 'softmax'\n" + "n = n * n\ns = f'{s}{s}'\n" * 60 + f"m = 0x{'f' * 5000}\nt = f'{{m}}{{n}}'\n"
    assert codes(tmp_path, text + "F.softmax(x)\n") == [(124, "SP301")]
    assert report(tmp_path).troubles == {}


@pytest.mark.parametrize("numbers", ["10**30", "99999999999999999999", "1, 2, 3, 4", "5, 0, -1", "0, 9, 0"])
def test_ranges_of_any_length_are_followed(numbers: str, tmp_path: Path) -> None:
    assert codes(tmp_path, f"for i in range({numbers}):\n    F.softmax(x)\n") == [(2, "SP301")]
    assert report(tmp_path).troubles == {}


NOTEBOOKS: list[dict[str, object]] = [
    {},
    {"cells": None},
    {"cells": {"softmax": 1}},
    {"cells": [1]},
    {"cells": [{"cell_type": "code"}]},
    {"cells": [{"cell_type": "code", "source": None}]},
    {"cells": [{"cell_type": "code", "source": [1]}]},
    {"worksheets": []},
    {"cells": [{"cell_type": "code", "source": "x = '\ud800'\nsoftmax = '\0'"}]},
]


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_notebooks_broken_in_any_way_are_survived(notebook: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "n.ipynb").write_text(json.dumps(notebook | {"metadata": "softmax"}))
    (tmp_path / "good.py").write_text(HEAD + "F.softmax(x)\n")
    found = report(tmp_path)
    assert [each.code for each in found.findings] == ["SP301"]
    assert not any("internal error" in text for text in found.troubles.values())


def test_large_notebooks_and_those_of_other_languages(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "source": HEAD + "F.softmax(x)\n", "outputs": ["x" * 5_000_000]}
    (tmp_path / "large.ipynb").write_text(json.dumps({"cells": [cell]}))
    other = {"cells": [cell | {"outputs": []}], "metadata": {"kernelspec": {"language": "R"}}}
    (tmp_path / "r.ipynb").write_text(json.dumps(other))
    found = report(tmp_path)
    assert [Path(each.site.path).name for each in found.findings] == ["large.ipynb"]
    assert found.troubles == {}


def test_notebooks_have_cells_and_magics(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": "softmax"},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "!pip install torch\n", HEAD]},
        {"cell_type": "code", "source": "this is not python"},
        {"cell_type": "code", "source": "files = !ls\np = F.softmax(0, dim=1)\nF.cross_entropy(p, 0)"},
    ]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    project = Project(list(find([str(tmp_path)], (), {})))
    (finding,) = check(project).findings
    module = project.module(str(tmp_path / "n.ipynb"))
    assert module is not None
    assert module.source.locate(finding.site.line) == (4, 3)
    assert module.source.locate(finding.related[0].site.line) == (4, 2)


def test_processes_find_what_one_finds(tmp_path: Path) -> None:
    for number in range(320):
        text = f"{HEAD}from n{(number + 1) % 320} import p as q\np = F.softmax(0, dim=1)\nF.cross_entropy(q, 0)\n"
        (tmp_path / f"n{number}.py").write_text(text)
    alone, shared = report(tmp_path, jobs=1), report(tmp_path, jobs=2)
    assert len(alone.findings) == 320
    assert [(f.site, f.code, f.message, f.related) for f in alone.findings] == [
        (f.site, f.code, f.message, f.related) for f in shared.findings
    ]
    assert alone.softmaxes == shared.softmaxes


def test_processes_import_nothing_of_the_folder_that_they_run_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        (tmp_path / f"n{number}.py").write_text(HEAD + "F.softmax(x)\n")
    for name in ("pickle", "dataclasses", "softplace"):
        (tmp_path / f"{name}.py").write_text("open('made', 'w').close()\nraise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    assert len(report(tmp_path, jobs=2).findings) == 300
    assert not (tmp_path / "made").exists()


def test_nothing_of_the_project_is_run_and_torch_is_not_imported(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "code.py").write_text(HEAD + "raise SystemExit(9)\nopen('made', 'w')\nF.softmax(0)\n")
    script = (
        "import sys; from softplace.check.command import Run; from softplace.check.config import Config\n"
        f"found = Run([{str(tmp_path)!r}], Config(), cached=False).report().findings\n"
        "assert not {'torch', 'numpy', 'code'} & sys.modules.keys(); print(len(found))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not (tmp_path / "made").exists()
    assert done.stdout == "1\n"


SOURCES = [
    text
    for path in sorted((Path(__file__).parent / "fixtures").glob("*.md"))
    for block in blocks(path)
    for text in block.files.values()
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_sources_never_raise(data: st.DataObject, tmp_path: Path) -> None:
    lines = data.draw(st.sampled_from(SOURCES)).split("\n")
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.integers(0, 3))
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, data.draw(st.sampled_from(lines)) if lines else "x")
        elif kind == 2:
            lines[at] = lines[at].replace(
                data.draw(st.sampled_from("x,()=.[]:")),
                data.draw(st.sampled_from(["", "*", "**x", "softmax", "None", "self"])),
            )
        else:
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
        lines = lines or [""]
    (tmp_path / "code.py").write_text("\n".join(lines), encoding="utf-8")
    found = report(tmp_path)
    assert found.files == 1
    assert not any("internal error" in text for text in found.troubles.values())


def test_a_flax_model_without_softmax_is_followed(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "import flax.linen as nn\nimport optax\n\n\nclass M(nn.Module):\n    @nn.compact\n    def __call__(self, x):\n"
        "        return nn.Dense(3)(nn.relu(nn.Dense(8)(x)))\n\n\ndef loss_fn(params, x, y):\n"
        "    logits = M().apply({'params': params}, x)\n"
        "    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()\n"
    )
    found = report(tmp_path)
    assert found.findings == []
    assert found.unresolved == []
