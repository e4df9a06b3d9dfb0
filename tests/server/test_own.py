import json

import numpy as np
import pytest

import puna

HELLO = [{"role": "user", "content": "hello"}]


def ask(live, path, **body):
    return live("POST", f"/api/{path}", {"model": "tiny", **body})


def test_text_becomes_tokens_and_tokens_text(live):
    reply = ask(live, "tokenize", text="ab<|end|>", pieces=True).json
    assert reply == {"tokens": [97, 98, 256], "pieces": ["a", "b", "<|end|>"]}
    assert ask(live, "detokenize", tokens=[97, 98]).json == {"text": "ab"}
    assert ask(live, "detokenize", tokens=[9999]).status == 400


def test_a_template_is_applied_and_counted(live):
    reply = ask(live, "apply-template", messages=HELLO).json
    assert reply["prompt"] == "<|start|>user\nhello<|end|>\n<|start|>assistant\n"
    assert (
        reply["count"]
        == len(reply["tokens"])
        == ask(live, "chat", messages=HELLO, stream=False).json["prompt_eval_count"]
    )


def test_a_choice_is_decided_by_the_probabilities_of_its_tokens(live, home):
    made = ask(live, "decide", prompt="\n", choices=["a", "b", "z"]).json
    assert made["value"] == "a"
    assert sum(made["probabilities"].values()) == pytest.approx(1)
    row = puna.load(home / "tiny.gguf").logits([10])[0].astype(np.float64)
    p = np.exp(row - row.max())[[97, 98, 122]]
    assert list(made["probabilities"].values()) == pytest.approx(p / p.sum(), abs=1e-5)
    longer = ask(live, "decide", prompt="\n", choices=["abc", "abd", "b"]).json
    assert longer["value"] == "abc"


def test_truth_and_scores_are_decided_too(live):
    assert ask(live, "decide", messages=HELLO, type="boolean").json["value"] in (True, False)
    assert 1 <= ask(live, "decide", messages=HELLO, type="score").json["value"] <= 5
    for wrong in (
        {"type": "choice"},
        {"type": "score", "low": 5, "high": 1},
        {"type": "mood"},
        {"choices": ["a", "a"]},
    ):
        assert ask(live, "decide", prompt="x", **wrong).status == 400


def test_a_model_that_cannot_rank_is_refused(live):
    reply = ask(live, "rerank", query="q", documents=["a"])
    assert reply.status == 400
    assert "no classifier" in reply.json["error"]


def test_the_server_says_how_it_is(live):
    ask(live, "chat", messages=HELLO, stream=False)
    ask(live, "chat", messages=HELLO, think=True)
    assert live("GET", "/health").json == {"status": "ok", "models": ["tiny:latest"]}
    text = live("GET", "/metrics").body.decode()
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(figures['puna_answers_total{model="tiny:latest"}']) >= 1
    assert float(figures['puna_tokens_total{model="tiny:latest"}']) >= 27
    accepted, proposed = (
        float(figures[f'puna_{n}_tokens_total{{model="tiny:latest"}}']) for n in ("accepted", "proposed")
    )
    assert 0 <= accepted <= proposed
    assert float(figures['puna_failures_total{status="400"}']) >= 1
    assert figures['puna_requests_running{model="tiny:latest"}'] == "0.0"


def test_the_document_names_every_endpoint_and_the_types_of_bodies(live):
    document = live("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    chat = document["paths"]["/api/chat"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert "messages" in document["components"]["schemas"][chat.rsplit("/")[-1]]["properties"]
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses/{response}", "/api/blobs/{digest}", "/metrics"):
        assert path in document["paths"]
    references = {text for text in json.dumps(document).split('"') if text.startswith("#/components/schemas/")}
    assert {ref.rsplit("/")[-1] for ref in references} <= set(document["components"]["schemas"])
