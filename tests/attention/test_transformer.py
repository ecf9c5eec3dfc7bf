"""The Transformer against PyTorch's by copied weights, and against itself word by word."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softplace.attention import MultiHeadAttention, Transformer
from softplace.attention.positions import rotated, sinusoids
from softplace.errors import InputError
from tests.attention.turning import learn

B, S, T, E, H, V = 3, 7, 5, 16, 4, 11
SIZES: dict[str, Any] = {
    "source_words": V, "target_words": V, "width": E, "heads": H, "encoder_layers": 2, "decoder_layers": 2,
    "inner": 24, "dropout": 0.0,
}  # fmt: skip
KINDS = [
    {},
    {"norm": "pre", "positions": "rotary", "map": "sparsemax"},
    {"positions": "learned", "map": "entmax15", "tied": "none"},
    {"norm": "pre", "tied": "target", "source_words": V + 2},
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=["paper", "pre-rotary", "learned", "target"])


def build(**options: Any) -> Transformer:
    """A net in float64 whose parameters all matter."""
    torch.manual_seed(0)
    net = Transformer(**SIZES | options).double()
    for parameter in net.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return net


def sentences() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.arange(S) < torch.tensor([7, 4, 1])[:, None]
    return torch.randint(0, V, (B, S)), torch.randint(0, V, (B, T)), mask


def copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    names = ("query", "key", "value")
    theirs.in_proj_weight.data = torch.cat([ours.get_parameter(f"{name}_weight") for name in names]).data
    theirs.in_proj_bias.data = torch.cat([ours.get_parameter(f"{name}_bias") for name in names]).data
    theirs.out_proj.weight.data = ours.output_weight.data
    theirs.out_proj.bias.data = ours.get_parameter("output_bias").data


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_it_is_pytorchs_by_copied_weights(norm: str) -> None:
    net = build(norm=norm)
    common: dict[str, Any] = {"norm_first": norm == "pre", "batch_first": True, "dtype": torch.float64}
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(E, H, 24, 0.0, **common), 2, enable_nested_tensor=False,
        norm=net.encoder_norm if norm == "pre" else None,
    )  # fmt: skip
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(E, H, 24, 0.0, **common), 2, norm=net.decoder_norm if norm == "pre" else None
    )
    for stack, theirs in ((net.encoder, encoder.layers), (net.decoder, decoder.layers)):
        for ours, layer in zip(stack, theirs, strict=True):
            one, other = ours, layer
            norms = [one.own_norm, *([one.source_norm] if hasattr(one, "source") else []), one.feed_norm]
            for number, each in enumerate(norms):
                getattr(other, f"norm{number + 1}").load_state_dict(each.state_dict())
            copy_attention(one.own, other.self_attn)
            if hasattr(one, "source"):
                copy_attention(one.source, other.multihead_attn)
            other.linear1.load_state_dict(one.feed.into.state_dict())
            other.linear2.load_state_dict(one.feed.out.state_dict())
    source, target, mask = sentences()

    def embedded(words: Tensor) -> Tensor:
        weight = net.source_embedding.weight
        return weight[words] * E**0.5 + sinusoids(words.shape[1], E, like=weight)

    memory = encoder(embedded(source), src_key_padding_mask=~mask)
    late = torch.ones(T, T, dtype=torch.bool).triu(1)
    expected = decoder(embedded(target), memory, tgt_mask=late, memory_key_padding_mask=~mask) @ net.output.weight.T
    torch.testing.assert_close(net(source, target, mask), expected + net.output.bias, rtol=0, atol=1e-12)


@every_kind
def test_word_by_word_is_the_whole(kind: dict[str, Any]) -> None:
    net = build(**kind)
    source, target, mask = sentences()
    whole = net(source, target, mask)
    for cuts in ([1] * T, [2, 3], [4, 1]):
        state, made = net.start(source, mask), []
        for part in torch.split(target, cuts, 1):
            logits, state, _ = net.decode(part, state)
            made.append(logits)
        assert state.length == T
        torch.testing.assert_close(torch.cat(made, 1), whole, rtol=0, atol=1e-12)


@every_kind
def test_padding_and_neighbours_change_nothing(kind: dict[str, Any]) -> None:
    net = build(**kind)
    source, target, mask = sentences()
    whole = net(source, target, mask)
    other = torch.where(mask, source, (source + 1) % V)
    torch.testing.assert_close(net(other, target, mask), whole, rtol=0, atol=1e-12)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(net(source[order], target[order], mask[order]), whole[order], rtol=0, atol=1e-12)
    for row, length in enumerate((7, 4, 1)):
        alone = net(source[row : row + 1, :length], target[row : row + 1])
        torch.testing.assert_close(alone, whole[row : row + 1], rtol=0, atol=1e-12)


@every_kind
def test_nothing_is_known_of_later_words(kind: dict[str, Any]) -> None:
    net = build(**kind)
    source, target, mask = sentences()
    whole = net(source, target, mask)
    for place in range(1, T):
        later = target.clone()
        later[:, place:] = (later[:, place:] + 1) % V
        made = net(source, later, mask)
        torch.testing.assert_close(made[:, :place], whole[:, :place], rtol=0, atol=0)
        assert not torch.equal(made[:, place:], whole[:, place:])


@every_kind
def test_weights_of_every_layer_sum_to_one_and_leave_padding_out(kind: dict[str, Any]) -> None:
    net = build(**kind)
    source, target, mask = sentences()
    found = net.attention(source, target, mask)
    assert [len(each) for each in found] == [2, 2, 2]
    for weights, shape in ((found.encoder, (S, S)), (found.decoder, (T, T)), (found.source, (T, S))):
        for each in weights:
            assert each.shape == (B, H, *shape)
            torch.testing.assert_close(each.sum(-1), torch.ones(B, H, shape[0]).double(), rtol=0, atol=1e-9)
    for each in (*found.encoder, *found.source):
        assert not each[~mask[:, None, None].expand_as(each)].any()
    assert not torch.stack(found.decoder)[..., torch.ones(T, T).triu(1) > 0].any()


def test_a_beam_may_take_a_sentence_twice() -> None:
    net = build()
    source, target, mask = sentences()
    _, state, _ = net.decode(target[:, :2], net.start(source, mask))
    rows = torch.tensor([1, 1, 2])
    made, _, _ = net.decode(target[rows, 2:3], state.select(rows.unsqueeze(-1)))
    torch.testing.assert_close(made, net(source[rows], target[rows, :3], mask[rows])[:, 2:], rtol=0, atol=1e-12)


def test_hypotheses_of_a_source_ask_it_together() -> None:
    net = build()
    source, target, mask = sentences()
    _, state, _ = net.decode(target[:, :2], net.start(source, mask))
    rows = torch.tensor([2, 2, 0, 0])  # two hypotheses of the last source, two of the first
    words = torch.tensor([[1], [4], [3], [3]])
    made, after, looked = net.decode(words, state.select(rows.view(2, 2)), need_weights=True)
    full = torch.cat([target[rows, :2], words], 1)
    torch.testing.assert_close(made, net(source[rows], full, mask[rows])[:, 2:], rtol=0, atol=1e-12)
    alone = net.attention(source[rows], full, mask[rows])
    for one, other in zip(looked.source, alone.source, strict=True):
        torch.testing.assert_close(one, other[:, :, 2:], rtol=0, atol=1e-12)
    again = torch.tensor([[3, 2, 3], [1, 1, 0]])  # of the first source both, the last twice
    rows, words = again.flatten(), torch.arange(6).unsqueeze(-1)
    longer, _, _ = net.decode(words, after.select(again))
    sources = torch.tensor([0, 0, 0, 2, 2, 2])
    full = torch.cat([full[rows], words], 1)
    torch.testing.assert_close(longer, net(source[sources], full, mask[sources])[:, 3:], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("tied", "matrices"), [("all", 1), ("target", 2), ("none", 3)])
def test_tied_matrices_are_one(tied: Any, matrices: int) -> None:
    net = build(tied=tied)
    assert len({each.data_ptr() for each in net.parameters() if each.shape == (V, E)}) == matrices


def test_sinusoids_by_hand_and_rotated_products_depend_on_distance() -> None:
    table = sinusoids(3, 4, like=torch.zeros((), dtype=torch.float64))
    expected = [[0, 1, 0, 1], [0.8414709848, 0.5403023059, 0.0099998333, 0.9999500004]]
    torch.testing.assert_close(table[:2], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)
    one, other = torch.randn(1, 8).double(), torch.randn(1, 8).double()
    products = [float((rotated(one, start) * rotated(other, start + 3)).sum()) for start in (0, 1, 50)]
    assert products == pytest.approx([products[0]] * 3, abs=1e-9)
    assert float((rotated(one, 0) * rotated(other, 4)).sum()) != pytest.approx(products[0], abs=1e-6)
    torch.testing.assert_close(rotated(one, 9).norm(), one.norm())


def test_it_learns_to_turn_a_sentence_round() -> None:
    torch.manual_seed(2)
    net = Transformer(**SIZES | {"norm": "pre", "width": 32})
    loss, _ = learn(net, words=V, steps=250, rate=3e-3)
    assert loss < 0.1  # a guess: log 10 = 2.3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 15}, "'width' must be a multiple of 'heads'"),
        ({"width": 12, "heads": 4}, "Got 12 and 4"),
        ({"norm": "sandwich"}, "Unknown 'norm' 'sandwich'"),
        ({"positions": "rotory"}, "Unknown 'positions' 'rotory'"),
        ({"map": "softmaxx"}, "Unknown map 'softmaxx'"),
        ({"target_words": V + 1}, "'tied' must be 'target' or 'none' where the vocabularies differ"),
        ({"inner": 0}, "'inner' must be a whole number of at least 1. Got 0"),
    ],
)
def test_what_cannot_be_built_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Transformer(**SIZES | change)
    assert said in str(caught.value)


def test_a_sentence_longer_than_the_learned_positions_is_said() -> None:
    net = Transformer(**SIZES | {"positions": "learned", "longest": 4})
    with pytest.raises(InputError, match=r"at most 4 words, as many as there are positions\. Got 5"):
        net(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 5, dtype=torch.long))
