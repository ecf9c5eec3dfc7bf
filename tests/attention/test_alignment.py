"""Alignments by hand."""

import math
from typing import Any

import pytest
import torch

from softplace.attention.alignment import aligned, alignment_error_rate, pharaoh, read_pharaoh
from softplace.errors import InputError

WEIGHTS = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.4, 0.5], [0.0, 0.0, 0.0], [0.45, 0.45, 0.1]])


def test_the_largest_weight_of_each_target_word_is_its_link() -> None:
    assert aligned(WEIGHTS) == {(0, 0), (2, 1), (0, 3)}  # a word that looked at nothing has none
    assert aligned(WEIGHTS, source=2) == {(0, 0), (1, 1), (0, 3)}  # the end is not a word
    assert aligned(WEIGHTS[:0]) == aligned(WEIGHTS, source=0) == frozenset()


def test_a_threshold_allows_several_links() -> None:
    assert aligned(WEIGHTS, threshold=0.4) == {(0, 0), (1, 1), (2, 1), (0, 3), (1, 3)}
    assert aligned(WEIGHTS, threshold=0.8) == frozenset()


def test_a_shift_takes_the_row_of_the_step_after() -> None:
    assert aligned(WEIGHTS, shift=1) == {(2, 0), (0, 2)}
    assert aligned(WEIGHTS, shift=-1) == {(0, 1), (2, 2), (0, 4)}
    assert aligned(WEIGHTS, shift=1, threshold=0.45) == {(2, 0), (0, 2), (1, 2)}


def test_pharaoh_there_and_back() -> None:
    links = frozenset({(10, 2), (0, 3), (0, 1)})
    assert pharaoh(links) == "0-1 0-3 10-2"
    assert read_pharaoh(pharaoh(links)) == (links, links)
    assert pharaoh([]) == ""
    assert read_pharaoh("\n") == (frozenset(), frozenset())
    assert read_pharaoh("1-1 2p3 4?5", first=1) == ({(0, 0)}, {(0, 0), (1, 2), (3, 4)})


def test_the_error_rate_by_hand() -> None:
    found, sure, possible = [{(0, 0), (1, 1), (2, 2)}], [{(0, 0), (1, 2)}], [{(1, 1)}]
    # |A & S| = 1, |A & P| = 2 of |A| + |S| = 5
    assert alignment_error_rate(found, sure, possible) == pytest.approx(1 - 3 / 5)
    assert alignment_error_rate(found, sure) == pytest.approx(1 - 2 / 5)
    assert alignment_error_rate(sure, sure) == 0.0
    assert alignment_error_rate([set(), *found], [{(5, 5)}, *sure], [set(), *possible]) == pytest.approx(1 - 3 / 6)
    assert math.isnan(alignment_error_rate([set()], [set()]))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: aligned(torch.zeros(1, 2, 3)), "'weights' must be of one sentence and head, (T, S). Got (1, 2, 3)"),
        (lambda: aligned(WEIGHTS, threshold=0.0), "'threshold' must be above 0. Got 0.0"),
        (lambda: read_pharaoh("0-0 1:2"), "Got '1:2'"),
        (lambda: read_pharaoh("0-1", first=1), "two numbers from 1"),
        (lambda: alignment_error_rate([set()], []), "must be as many sentences. Got 1, 0 and 0"),
    ],
)
def test_what_cannot_be_used_is_said(call: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert said in str(caught.value)
