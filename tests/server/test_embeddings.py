"""Vectors and rankings of a live server, in each API's form."""

import base64
import json

import numpy as np
import pytest

import puna
from create.adapters import matrices
from golden import rerankers, sentences
from puna.create.adapters.merge import merge
from puna.formats import write_gguf

TEXTS = ["a text", "another w7", "x"]


@pytest.fixture(scope="module")
def e5(home):
    path = home / "e5.gguf"
    puna.convert(sentences.write(home / "e5", "e5"), path)
    puna.create("e5", f"FROM {path}\n")
    return puna.load(path)


@pytest.fixture(scope="module")
def judge(home):
    path, shapes = home / "judge.gguf", json.loads(rerankers.RECORD.read_text("utf-8"))["bert"]["tensors"]
    puna.convert(rerankers.write(home / "judge", "bert", shapes), path)
    puna.create("judge", f"FROM {path}\n")
    return puna.load(path)


def embed(live, **body):
    return live("POST", "/api/embed", {"model": "e5", "input": TEXTS, **body})


def test_vectors_have_the_prompt_that_is_asked_for(live, e5):
    for said, name in (
        ({}, None),
        ({"prompt_name": "query"}, "query"),
        ({"input_type": "search_query"}, "query"),
        ({"input_type": "passage"}, "document"),
    ):
        want = e5.embed(TEXTS, prompt_name=name)
        assert np.allclose(embed(live, **said).json["embeddings"], want, atol=1e-6)
        reply = live("POST", "/v1/embeddings", {"model": "e5", "input": TEXTS, **said}).json
        assert np.allclose([each["embedding"] for each in reply["data"]], want, atol=1e-6)
    assert np.allclose(embed(live, prompt="so: ").json["embeddings"], e5.embed(TEXTS, prompt="so: "), atol=1e-6)


def test_an_unknown_prompt_is_told(live, e5):
    reply = embed(live, prompt_name="q")
    assert (reply.status, reply.json["error"]) == (400, "embed: the model has no prompt 'q'; it has query, document")
    assert embed(live, input_type="image").status == 400


def test_vectors_are_cut_counted_and_packed(live, e5):
    body = {"model": "e5", "input": ["a text", "x " * 40], "dimensions": 16, "encoding_format": "base64"}
    reply = live("POST", "/v1/embeddings", body).json
    rows = [np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in reply["data"]]
    assert np.allclose(rows, e5.embed(body["input"], dimensions=16, truncate=True), atol=1e-6)
    count = len(e5.tokenizer.encode("a text")) + 32
    assert reply["usage"] == {"prompt_tokens": count, "total_tokens": count}
    for wrong, message in (
        ({"dimensions": 129}, "this model gives 1 to 128"),
        ({"encoding_format": "hex"}, "Supported values"),
        ({"truncate": False}, "42 tokens, the context holds 32"),
        ({"input": []}, "invalid input"),
        ({"input": [[1, 2], [9999]]}, "outside the vocabulary"),
    ):
        reply = live("POST", "/v1/embeddings", {**body, **wrong})
        assert reply.status == 400
        assert message in reply.json["error"]["message"]


def test_token_ids_are_texts_too(live, e5):
    ids = [e5.tokenizer.encode(text) for text in TEXTS]
    reply = live("POST", "/v1/embeddings", {"model": "e5", "input": ids}).json
    assert np.allclose([each["embedding"] for each in reply["data"]], e5.embed(TEXTS), atol=1e-6)


@pytest.mark.parametrize("path", ["/api/rerank", "/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_come_in_the_order_of_their_scores(live, judge, path):
    documents = ["w1 w2", "w3", "w9 w8 w7 w6"]
    body = {"model": "judge", "query": "w1", "documents": [documents[0], {"text": documents[1]}, documents[2]]}
    scores = judge.rerank("w1", documents)
    order = [int(i) for i in np.argsort(-scores)]
    reply = live("POST", path, {**body, "return_documents": True}).json
    assert [each["index"] for each in reply["results"]] == order
    assert [each["document"] for each in reply["results"]] == [{"text": documents[i]} for i in order]
    assert [each["relevance_score"] for each in reply["results"]] == pytest.approx(scores[order].tolist(), abs=1e-6)
    tokens = sum(len(judge.tokenizer.encode(text)) + 2 for text in documents)
    assert reply["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    best = live("POST", path, {**body, "top_n": 1}).json["results"]
    assert [set(each) for each in best] == [{"index", "relevance_score"}]
    assert [each["index"] for each in best] == order[:1]


def test_a_wrong_request_for_a_ranking_is_told(live, judge):
    for wrong in ({"top_n": 0}, {"documents": [{"title": "a"}]}, {"documents": "a"}):
        body = {"model": "judge", "query": "w1", "documents": ["a"], **wrong}
        assert live("POST", "/v1/rerank", body).status == 400


def test_numbers_that_have_no_place_are_told(live):
    for body in ({"options": {"x": 10**30}}, {"context": [-(10**30)]}):
        reply = live("POST", "/api/generate", {"model": "tiny", "prompt": "a", **body})
        assert reply.status == 400
    assert live("POST", "/v1/completions", {"model": "tiny", "prompt": "a", "n": -1}).status == 400


def test_the_document_says_what_every_endpoint_gives(live):
    paths = live("GET", "/openapi.json").json["paths"]
    said = {f"{method} {path}": each["responses"] for path, ways in paths.items() for method, each in ways.items()}
    silent = {
        name for name, answers in said.items() if any("content" not in answers[s] for s in answers if s[0] == "2")
    }
    blobs = {f"{method} /api/blobs/{{digest}}" for method in ("head", "post")}
    assert silent == {*blobs, "post /api/copy", "delete /api/delete", "delete /api/prefixes/{name}"}
    error = paths["/v1/embeddings"]["post"]["responses"]["default"]["content"]["application/json"]["schema"]
    assert error == {"$ref": "#/components/schemas/OpenaiError"}
    digest = paths["/api/blobs/{digest}"]["head"]
    assert digest["parameters"][0]["schema"]["pattern"].startswith("^sha256")
    assert "content" not in digest["responses"]["200"]


@pytest.fixture(scope="module")
def tuned(home, e5):
    """Vectors of the model with an adapter folded in; a model `e5-tuned` has it beside the same weights."""
    name, keys = "blk.1.ffn_up.weight", {"general.type": "adapter", "adapter.type": "lora"}
    keys |= {"general.architecture": e5.arch, "adapter.lora.alpha": np.float32(6)}
    a, b = matrices(e5.opened.tensors[name].shape, 3, 1)
    parts = [(f"{name}.lora_{side}", m.shape, "F32", m) for side, m in (("a", a), ("b", b))]
    write_gguf(home / "e5-lora.gguf", keys, parts)
    puna.create("e5-tuned", f"FROM e5\nADAPTER {home / 'e5-lora.gguf'}\n")
    merge(home / "e5.gguf", [home / "e5-lora.gguf"], home / "merged.gguf")
    vectors = puna.load(home / "merged.gguf").embed(TEXTS)
    assert np.abs(vectors - e5.embed(TEXTS)).max() > 0.01
    return vectors


def test_vectors_by_an_adapter_are_those_of_the_merged_model(live, e5, tuned):
    def vectors(**body):
        reply = embed(live, **body)
        assert reply.status == 200, reply.body
        return reply.json["embeddings"]

    np.testing.assert_allclose(vectors(model="e5-tuned"), tuned, atol=1e-5)
    np.testing.assert_allclose(vectors(lora=[{"model": "e5-tuned"}]), tuned, atol=1e-5)
    np.testing.assert_allclose(vectors(model="e5-tuned", lora=[{"id": 0}]), tuned, atol=1e-5)
    reply = live("POST", "/v1/embeddings", {"model": "e5", "input": TEXTS, "lora": [{"model": "e5-tuned"}]}).json
    np.testing.assert_allclose([each["embedding"] for each in reply["data"]], tuned, atol=1e-5)
    for body in ({}, {"model": "e5-tuned", "lora": []}, {"lora": [{"model": "e5-tuned", "scale": 0}]}):
        np.testing.assert_allclose(vectors(**body), e5.embed(TEXTS), atol=1e-6)
    assert len({model.worker.pid for model in live.models.loaded if model.wanted.name.startswith("e5")}) == 1
    assert embed(live, lora=[{"id": 0}]).json["error"] == "lora: this model has no adapter 0 to choose; it has none"


def test_an_encoder_has_adapters_at_hand_by_name(home, e5, tuned):
    model = puna.load(home / "e5.gguf")
    plain = model.embed(TEXTS)
    model.add_adapter("tuned", home / "e5-lora.gguf")
    np.testing.assert_allclose(model.embed(TEXTS, adapters="tuned"), tuned, atol=1e-6)
    np.testing.assert_array_equal(model.embed(TEXTS), plain)
