"""Whatever is in the files, the answer is a tokenizer or one clear error."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puna.errors import ConversionError, PunaError
from puna.tokenizer import load_tokenizer, tokenizer_from_hf
from tokenizer.test_unigrams import unigram_json
from tokenizer.vocabularies import byte_level, word_pieces

JSON = st.none() | st.booleans() | st.integers(-3, 1 << 40) | st.text(max_size=3) | st.just([]) | st.just({})


def small(tokenizer):
    """A tokenizer.json with few tokens, so that changes hit what matters."""
    spec = json.loads(tokenizer.to_str())
    vocab = spec["model"]["vocab"]
    kept = vocab[:40] if isinstance(vocab, list) else {token: i for token, i in vocab.items() if i < 300}
    spec["model"]["vocab"] = kept
    if "merges" in spec["model"]:
        spec["model"]["merges"] = spec["model"]["merges"][:20]
    spec["added_tokens"] = spec["added_tokens"][:2]
    return spec


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if not (path[:2] == ("model", "vocab") or path[:2] == ("model", "merges")) or len(path) < 4:
            yield from places(item, (*path, key))


SPECS = [small(byte_level()), small(word_pieces()), small(unigram_json("strip"))]
PLACES = [(i, path) for i, spec in enumerate(SPECS) for path in places(spec) if path]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PLACES), JSON, st.booleans())
def test_a_tokenizer_json_with_a_wrong_part_makes_a_tokenizer_or_one_error(tmp_path, place, value, absent):
    which, path = place
    spec = copy.deepcopy(SPECS[which])
    parent = spec
    for key in path[:-1]:
        parent = parent[key]
    if absent:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    try:
        load_tokenizer(tokenizer_from_hf(tmp_path, {}).metadata).encode("the [UNK] é 12")
    except PunaError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


@pytest.mark.parametrize("identity", [-1, 1 << 40])
def test_an_id_far_from_the_others_is_refused(identity, tmp_path):
    spec = small(byte_level())
    spec["added_tokens"][0]["id"] = identity
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(ConversionError, match=f"has the id {identity}, beside [0-9]+ others"):
        tokenizer_from_hf(tmp_path, {})
