"""What Puna writes, llama.cpp loads, and computes the same: tiny random models of every architecture and type."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import BACKENDS, run
from golden.cases import CASES, ENCODERS, PEERS, tokens
from golden.checkpoints import write_checkpoint, write_wide
from golden.families.shapes import LLAMA3, YARN
from golden.test_quantized import MORE, cosine, divergence
from puna.opened import open_model
from tokenizer.corpus import NASTY

pytestmark = [pytest.mark.peer, pytest.mark.llama_cpp]

TYPES = {"F32": 1e-6, "F16": 1e-5, "Q8_0": 3e-3, "Q4_0": 3e-3, "Q4_K_M": 4e-3}
"""Squared error that a difference in rounding may make, as a part of the squared logits; the peer rounds activations
to 8 bits where weights are quantized, and reads GELU from a table of float16."""

OF_THE_PEER: dict[str, dict[str, Any]] = {
    "gpt_oss": {
        **{"swiglu_limit": 7.0, "max_position_embeddings": 256},
        "rope_scaling": {**YARN, "truncate": True},
    },
}
"""What the peer computes whatever a file says, where the case is another."""

CHANCE = {"Q8_0": 5e-3, "Q4_K_M": 0.03}
"""Mean KL divergence by which two ways of rounding activations differ, where a router is near a tie."""

NEWS = 32
"""Tokens continued greedily."""


def peer_of(path: Path, **options: Any) -> Any:
    import llama_cpp

    kept = {"n_ctx": 256, "n_batch": 256, "n_threads": 2, "type_k": 0, "type_v": 0, "verbose": False}
    return llama_cpp.Llama(str(path), **{**kept, **options})


def logits_of(peer: Any, ids: list[int]) -> np.ndarray[Any, Any]:
    peer.reset()
    peer.eval(ids)
    return np.array(peer.scores[: len(ids)])


def converted(folder: Path, case: str, kind: str, **changes: Any) -> Path:
    write_wide(folder, case, **changes)
    plain = {"F32": "f32", "F16": "f16"}
    puna.convert(folder, folder / "model.gguf", dtype=plain.get(kind, "f32"), quantize=None if kind in plain else kind)
    return folder / "model.gguf"


def distance(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    return float(((got - want) ** 2).sum() / (want**2).sum())


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("case", ["llama3", "qwen2", "qwen3", "gemma", "gemma3", "command_r", "olmo2"])
def test_greedy_tokens_and_logits_are_the_same(case: str, kind: str, tmp_path: Path) -> None:
    continues_alike(converted(tmp_path, case, kind), case, kind)


@pytest.mark.parametrize("case", PEERS)
def test_every_architecture_that_the_peer_knows_continues_alike(case: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, case, **OF_THE_PEER.get(case, {}))
    puna.convert(tmp_path, tmp_path / "model.gguf")
    continues_alike(tmp_path / "model.gguf", case, "F32")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M"])
@pytest.mark.parametrize(
    "case", [*(case for case in MORE if case in PEERS), "stablelm", "mixtral", "qwen3moe", "llama3"]
)
def test_quantizing_changes_no_more_here_than_in_the_peer(case: str, kind: str, tmp_path: Path) -> None:
    """Of one file, mean KL divergence from float32; where routers choose other experts by chance, it is by chance."""
    write_checkpoint(tmp_path, case, **OF_THE_PEER.get(case, {}))
    puna.convert(tmp_path, tmp_path / "F32.gguf")
    puna.convert(tmp_path, tmp_path / f"{kind}.gguf", quantize=kind)
    ids = tokens(CASES[case]["vocab_size"])
    files = [tmp_path / f"{each}.gguf" for each in ("F32", kind)]
    ours = divergence(*(run(open_model(path), "cpu", [(ids, list(range(len(ids))))]) for path in files))
    theirs = divergence(*(logits_of(peer_of(path, logits_all=True), ids) for path in files))
    assert ours < 1.1 * theirs + CHANCE[kind]


def continues_alike(path: Path, case: str, kind: str) -> None:
    """The peer's own greedy text has the same logits here, and the same next tokens but for ties."""
    peer, opened = peer_of(path, logits_all=True), open_model(path)
    ids = tokens(CASES[case]["vocab_size"])
    for _ in range(NEWS):
        ids.append(int(logits_of(peer, ids)[-1].argmax()))
    theirs = logits_of(peer, ids)
    ours = run(opened, "numpy", [(ids, list(range(len(ids))))])
    assert distance(ours, theirs) < TYPES[kind]
    spread = np.sqrt(TYPES[kind] * (theirs**2).mean())
    for own, other in zip(ours, theirs, strict=True):
        assert own.argmax() == other.argmax() or other.max() - other[own.argmax()] < 6 * spread


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("case", "changes", "options"),
    [
        ("llama2", {}, {}),
        ("llama_one_kv", {}, {}),
        ("llama_linear", {}, {}),
        ("mistral", {}, {}),
        ("llama_yarn", {"max_position_embeddings": 256}, {}),
        ("llama_yarn", {"max_position_embeddings": 256, "rope_scaling": {**YARN, "attention_factor": 1.3}}, {}),
        (  # the peer takes these two from its caller, not from the file
            "llama_yarn",
            {"max_position_embeddings": 256, "rope_scaling": {**YARN, "beta_fast": 16.0, "beta_slow": 2.0}},
            {"yarn_beta_fast": 16.0, "yarn_beta_slow": 2.0},
        ),
        ("qwen2", {"rope_scaling": YARN}, {}),
        ("llama3", {"rope_scaling": {**LLAMA3, "factor": 32.0}}, {}),
        ("gemma3", {"final_logit_softcapping": 20.0, "rope_scaling": None}, {}),
        ("gemma3", {"layer_types": ["full_attention", *["sliding_attention"] * 6]}, {}),
        ("gemma2", {"query_pre_attn_scalar": 96}, {}),  # the peer knows the head's size only
        ("phi3", {"sliding_window": None}, {}),  # the peer takes no heed of it
        ("olmo3", {"rope_scaling": None}, {}),
        ("olmo3", {"max_position_embeddings": 256}, {}),
    ],
)
def test_variants_compute_the_same(
    case: str, changes: dict[str, Any], options: dict[str, Any], backend: str, tmp_path: Path
) -> None:
    path = converted(tmp_path, case, "F32", **changes)
    ids = tokens(CASES[case]["vocab_size"])
    theirs = logits_of(peer_of(path, logits_all=True, **options), ids)
    assert distance(run(open_model(path), backend, [(ids, list(range(len(ids))))]), theirs) < TYPES["F32"]


def test_a_world_vocabulary_gives_the_ids_and_texts_of_the_peer(tmp_path: Path) -> None:
    """But for names of tokens that are no text, which the peer finds in any text."""
    write_checkpoint(tmp_path, "rwkv7")
    puna.convert(tmp_path, tmp_path / "model.gguf")
    peer, ours = peer_of(tmp_path / "model.gguf", vocab_only=True), puna.load(tmp_path / "model.gguf").tokenizer
    assert (peer.token_bos(), peer.token_eos()) == (ours.bos_id, ours.eos_id) == (0, 0)
    texts = [text for text in NASTY if text and "<s>" not in text]
    for text in [*texts, "日本語 \n\n\n\n🦙🦙 it's \\x00\x00", "User: hi\n\nAssistant:"]:
        ids = peer.tokenize(text.encode(), add_bos=False, special=False)
        assert ours.encode(text, special=False) == ids, repr(text)
    assert ours.encode("a<s>b") == peer.tokenize(b"a<s>b", add_bos=False, special=True)
    for identity in range(1, 307):
        assert ours.bytes_of(identity) == peer.detokenize([identity], prev_tokens=[1]), identity


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_embeddings_are_the_same(mode: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.Pooling", "path": "1_Pooling"}]))
    path = converted(tmp_path, "bert", kind)
    peer = peer_of(path, embedding=True)
    texts = ["w5 w6 w7", "a b zebra", "w100 w101 w102 w103 word", "the quick brown fox w9 jumps over"]
    theirs = np.array([peer.embed(text, normalize=True) for text in texts])
    assert distance(puna.load(path, backend="numpy").embed(texts, normalize=True), theirs) < TYPES[kind]


SENTENCES = ["a text that has more tokens than the windows of these models reach, here, there and everywhere", "w5 a"]


def embedded_by_the_peer(path: Path) -> np.ndarray[Any, Any]:
    peer = peer_of(path, embedding=True, pooling_type=1, n_ctx=120, n_batch=120, n_ubatch=120)
    return np.array([peer.embed(text, normalize=True) for text in SENTENCES])


@pytest.mark.parametrize("case", ENCODERS)
def test_every_encoder_embeds_alike(case: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, case)
    puna.convert(tmp_path, tmp_path / "F32.gguf")
    theirs = embedded_by_the_peer(tmp_path / "F32.gguf")
    ours = puna.load(tmp_path / "F32.gguf", backend="numpy").embed(SENTENCES)
    assert distance(ours, theirs) < TYPES["F32"]
    for kind in ("Q8_0", "Q4_K_M"):  # quantizing turns embeddings no more here than there
        puna.convert(tmp_path, tmp_path / f"{kind}.gguf", quantize=kind)
        quantized = puna.load(tmp_path / f"{kind}.gguf").embed(SENTENCES)
        turned = 1 - cosine(theirs, embedded_by_the_peer(tmp_path / f"{kind}.gguf"))
        assert 1 - cosine(ours, quantized) < 1.1 * turned + 1e-4, kind
