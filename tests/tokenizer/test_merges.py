from itertools import pairwise
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from puna.tokenizer import merges
from puna.tokenizer.merges import merge


def naive(pieces, rank):
    pieces = list(pieces)
    while True:
        ranked = [(rank(a, b), i) for i, (a, b) in enumerate(pairwise(pieces))]
        best = min(ranked, default=(inf, 0))
        if best[0] == inf:
            return pieces
        pieces[best[1] : best[1] + 2] = [pieces[best[1]] + pieces[best[1] + 1]]


RANKS = st.dictionaries(st.text("abc", min_size=2, max_size=5), st.integers(0, 9))


@given(st.text("abc", max_size=30), RANKS)
def test_short_and_long_texts_merge_as_the_plain_definition_does(text, ranks):
    def rank(a, b):
        return ranks.get(a + b, inf)

    expected = naive(text, rank)
    assert merge(list(text), rank) == expected
    assert merges._merge_long(list(text), rank) == expected


def test_of_equal_pairs_the_leftmost_joins_first():
    assert merge(list("aaaaa"), lambda a, b: 0 if a + b == "aa" else inf) == ["aa", "aa", "a"]


def test_a_run_of_100000_letters_merges_in_a_moment():
    ranks = {"a" * 2**i: i for i in range(1, 10)}
    pieces = merge(["a"] * 100_000, lambda a, b: ranks.get(a + b, inf))
    assert "".join(pieces) == "a" * 100_000
    assert pieces[0] == "a" * 512
