"""The place of a softmax: what data flow and names say, on one small program for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.check.test_engine import HEAD, report

PROGRAMS = {
    "the end of a network": (
        "output",
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.fc = nn.Linear(4, 2)\n"
        "    def forward(self, x):\n        return F.softmax(self.fc(x), dim=1)\n",
    ),
    "the end of a Transformer": (
        "output",
        "class Transformer(nn.Module):\n    def forward(self, x):\n        logits = self.head(x)\n"
        "        return F.log_softmax(logits, dim=-1)\n",
    ),
    "a layer at the end of a chain": (
        "output",
        "net = nn.Sequential(nn.Linear(4, 2), nn.Softmax(dim=1))\np = net(x)\n",
    ),
    "sampling of tokens": (
        "output",
        "def generate(model, ids):\n    probs = F.softmax(model(ids)[:, -1], dim=-1)\n"
        "    return torch.multinomial(probs, 1)\n",
    ),
    "an attention network's class scores": (
        "output",
        "class AttentionClassifier(nn.Module):\n    def forward(self, h):\n"
        "        return F.log_softmax(self.out(h), dim=1)\n",
    ),
    "queries and keys": (
        "attention",
        "def f(q, k, v):\n    a = F.softmax(q @ k.transpose(-2, -1) / 8, dim=-1)\n    return a @ v\n",
    ),
    "additive attention": (
        "attention",
        "class Pool(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.w = nn.Linear(4, 1)\n"
        "    def forward(self, h):\n        alpha = F.softmax(self.w(h), dim=1)\n        return (alpha * h).sum(1)\n",
    ),
    "a memory is addressed": (
        "memory",
        "class ReadHead(nn.Module):\n    def address_memory(self, k, memory):\n"
        "        w = F.softmax(F.cosine_similarity(memory, k, dim=-1), dim=1)\n        return w @ memory\n",
    ),
    "experts are chosen": (
        "latent",
        "class MoE(nn.Module):\n    def forward(self, x):\n        gates = F.softmax(self.gate(x), dim=-1)\n"
        "        top, index = gates.topk(2, dim=-1)\n        return top * self.experts(x)\n",
    ),
    "nodes are assigned to clusters": (
        "latent",
        "def pool(x, s):\n    assignment = torch.softmax(s, dim=-1)\n"
        "    return torch.matmul(assignment.transpose(1, 2), x)\n",
    ),
    "a categorical latent variable": ("latent", "def sample(x):\n    return F.gumbel_softmax(x, dim=-1, hard=True)\n"),
    "a policy": (
        "policy",
        "from torch.distributions import Categorical\ndef act(net, s):\n    probs = F.softmax(net(s), dim=-1)\n"
        "    return Categorical(probs).sample()\n",
    ),
    "an actor's entropy in a training loop": (
        "policy",
        "def train(net, env):\n    state, reward = env.step(0)\n    prob = F.softmax(net(state), dim=-1)\n"
        "    return -(prob * reward).sum()\n",
    ),
    "a teacher": (
        "loss",
        "def kd(s, t):\n    return F.kl_div(F.log_softmax(s, dim=1), F.softmax(t, dim=1), reduction='batchmean')\n",
    ),
    "a loss by hand": (
        "loss",
        "class DiceLoss(nn.Module):\n    def forward(self, x, y):\n        x = F.softmax(x, dim=1)\n"
        "        return 1 - (x * y).sum()\n",
    ),
    "a discrepancy of two classifiers": (
        "loss",
        "def difference(a, b):\n    return torch.mean(torch.abs(F.softmax(a, dim=1) - F.softmax(b, dim=1)))\n",
    ),
    "pseudo labels": (
        "loss",
        "def step(model, u):\n    pseudo_label = torch.softmax(model(u).detach(), dim=-1)\n"
        "    value, index = torch.max(pseudo_label, dim=-1)\n    return value.ge(0.9), index\n",
    ),
    "a hidden layer": (
        "hidden",
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.a = nn.Linear(4, 4)\n"
        "        self.b = nn.Linear(4, 2)\n    def forward(self, x):\n"
        "        return self.b(F.softmax(self.a(x), dim=1))\n",
    ),
    "a helper that is a softmax": (
        "unknown",
        "def masked_softmax(x, mask):\n    r = F.softmax(x * mask, dim=-1)\n    return r * mask / r.sum()\n",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_place(name: str, tmp_path: Path) -> None:
    place, text = PROGRAMS[name]
    (tmp_path / "code.py").write_text(HEAD + text, encoding="utf-8")
    assert {each.place for each in report(tmp_path).softmaxes} == {place}


def test_one_layer_may_serve_two_places(tmp_path: Path) -> None:
    text = (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.s = nn.Softmax(dim=-1)\n"
        "        self.out = nn.Linear(4, 2)\n    def forward(self, q, k, v):\n"
        "        a = self.s(q @ k.transpose(-2, -1) / 8)\n        return self.s(self.out(a @ v))\n"
    )
    (tmp_path / "code.py").write_text(HEAD + text, encoding="utf-8")
    (layer,) = report(tmp_path).softmaxes
    assert [(call.site.line - HEAD.count("\n"), call.place) for call in layer.calls] == [
        (7, "attention"),
        (8, "output"),
    ]
