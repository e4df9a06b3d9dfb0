"""The real all-MiniLM-L6-v2: converted, it embeds as sentence-transformers and llama.cpp do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import BACKENDS
from peers import downloads

Array = np.ndarray[Any, Any]

TEXTS = [
    "why is the sky blue?",
    "Why is the grass green?",
    "x",
    "Puna turns any published model checkpoint into one self-contained GGUF file, and runs it.",
    "Die Straße nach São Paulo — naïve café, 東京 and Ωmega; e-mail: a.b@c.de!",
    "def f(x):\n    return x ** 2  # squared\n" * 8,
    "one two three " * 60,
]

LONG = "four or five words " * 80
"""Longer than max_seq_length, which is 256."""


@pytest.fixture(scope="module")
def source() -> Path:
    return downloads.minilm()


@pytest.fixture(scope="module")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("minilm") / "minilm.gguf"
    puna.convert(source, path)
    return path


def cosine_distance(a: Array, b: Array) -> float:
    """The largest over all rows."""
    a, b = (x.astype(np.float64) for x in (a, b))
    return float((1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).max())


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", BACKENDS)
def test_embeddings_are_those_of_sentence_transformers(source: Path, converted: Path, backend: str) -> None:
    import sentence_transformers

    want = sentence_transformers.SentenceTransformer(str(source), device="cpu").encode([*TEXTS, LONG])
    for path in (converted, source):
        got = puna.load(path, backend=backend).embed([*TEXTS, LONG], truncate=True)
        assert np.abs(got - want).max() < 1e-5


@pytest.mark.peer
@pytest.mark.llama_cpp
def test_embeddings_are_those_of_llama_cpp(converted: Path) -> None:
    import llama_cpp

    peer = llama_cpp.Llama(str(converted), embedding=True, n_ctx=512, n_threads=2, verbose=False)
    want = np.array([peer.embed(text, normalize=True) for text in TEXTS])
    assert cosine_distance(puna.load(converted, backend="cpu").embed(TEXTS), want) < 1e-5


@pytest.mark.peer
@pytest.mark.parametrize(("kind", "distance"), [("F16", 1e-5), ("Q8_0", 3e-3), ("Q4_K_M", 3e-2)])
def test_quantized_embeddings_stay_near(source: Path, tmp_path: Path, kind: str, distance: float) -> None:
    puna.convert(source, tmp_path / "m.gguf", quantize=kind)
    got = puna.load(tmp_path / "m.gguf", backend="cpu").embed(TEXTS)
    assert cosine_distance(got, puna.load(source, backend="numpy").embed(TEXTS)) < distance


@pytest.mark.peer
def test_nothing_is_lost_of_the_checkpoint(source: Path, converted: Path) -> None:
    report = puna.convert(source, converted.parent / "not.gguf", dry_run=True)
    assert report.left_out == ("embeddings.position_ids", "pooler.dense.bias", "pooler.dense.weight")
    metadata = puna.open_gguf(converted).metadata
    assert (metadata["bert.block_count"], metadata["bert.pooling_type"], metadata["bert.attention.causal"]) == (
        6,
        1,
        False,
    )
