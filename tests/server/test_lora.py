"""Models of one base that have adapters, in one process; and adapters by request."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from cli.tiny import weights
from create.adapters import matrices
from create.test_adapter_layers import write_lora
from puna.create.adapters.merge import merge
from puna.formats import write_gguf
from server.conftest import Live

OPTIONS = {"temperature": 1.0, "seed": 5, "num_predict": 24, "stop": []}
STRONG = 30.0


@pytest.fixture(scope="module")
def store(home: Path) -> Path:
    """Models of the tiny one: with an adapter, with another, with both, and one whose adapter replaces a norm."""
    for seed in (1, 2):
        write_lora(home / f"{seed}.gguf", seed, adapter__lora__alpha=STRONG)
    base = "FROM tiny\n"
    puna.create("one", f"{base}ADAPTER {home / '1.gguf'}\nSYSTEM You are one.\n")
    puna.create("two", f"{base}ADAPTER {home / '2.gguf'}\n")
    puna.create("both", f"{base}ADAPTER {home / '1.gguf'}\nADAPTER {home / '2.gguf'}\n")
    a, b = matrices(weights()["blk.1.ffn_up.weight"].shape, 3, 3)
    keys = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    keys |= {"adapter.lora.alpha": np.float32(STRONG)}
    parts = [(f"blk.1.ffn_up.weight.lora_{side}", m.shape, "F32", m) for side, m in (("a", a), ("b", b))]
    norm = weights()["output_norm.weight"] * 2
    write_gguf(home / "norm.gguf", keys, [*parts, ("output_norm.weight", norm.shape, "F32", norm)])
    puna.create("norm", f"{base}ADAPTER {home / 'norm.gguf'}\n")
    return home


@pytest.fixture(scope="module")
def expected(store: Path) -> dict[str, str]:
    """What each says when it is loaded by itself."""
    answers = {}
    for name in ("tiny", "one", "two", "both", "norm"):
        model = puna.load(name, context_length=256)
        answers[name] = "".join(chunk.text for chunk in model.generate("abc", ignore_eos=True, **OPTIONS))
    assert len(set(answers.values())) == 5
    return answers


def body(name: str, **more: Any) -> dict[str, Any]:
    return {
        "model": name,
        "prompt": "abc",
        "raw": True,
        "stream": False,
        "options": {**OPTIONS, "ignore_eos": True},
    } | more


def said(serve: Live, name: str, **more: Any) -> str:
    reply = serve("POST", "/api/generate", body(name, **more))
    assert reply.status == 200, reply.body
    return str(reply.json["response"])


def processes(serve: Live) -> set[int]:
    return {model.worker.pid for model in serve.models.loaded}


@pytest.fixture
def fresh(store: Path, live: Live) -> Iterator[Live]:
    yield live
    for model in [*live.models.loaded]:
        live("POST", "/api/generate", {"model": model.wanted.name, "keep_alive": 0})


def test_models_that_differ_in_adapters_and_words_are_in_one_process(fresh: Live, expected: dict[str, str]) -> None:
    names = ["tiny", "one", "two", "both", "one", "tiny"]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda name: said(fresh, name), names))
    assert answers == [expected[name] for name in names]
    assert len(processes(fresh)) == 1
    assert sorted(model["name"] for model in fresh("GET", "/api/ps").json["models"]) == [
        "both:latest", "one:latest", "tiny:latest", "two:latest",
    ]  # fmt: skip
    one = fresh("POST", "/api/chat", {"model": "one", "messages": [], "stream": False}).json
    assert one["done_reason"] == "load"
    rendered = fresh(
        "POST", "/api/apply-template", {"model": "one", "messages": [{"role": "user", "content": "x"}]}
    ).json
    assert "You are one." in json.dumps(rendered)


def test_one_of_them_is_unloaded_and_the_others_stay(fresh: Live, expected: dict[str, str]) -> None:
    assert [said(fresh, name) for name in ("one", "two")] == [expected["one"], expected["two"]]
    before = processes(fresh)
    fresh("POST", "/api/generate", {"model": "one", "keep_alive": 0})
    assert [model.wanted.name for model in fresh.models.loaded] == ["two:latest"]
    assert said(fresh, "one") == expected["one"]
    assert processes(fresh) == before


def test_a_model_whose_adapter_replaces_tensors_has_a_process_of_its_own(fresh: Live, expected: dict[str, str]) -> None:
    assert [said(fresh, name) for name in ("tiny", "norm")] == [expected["tiny"], expected["norm"]]
    assert len(processes(fresh)) == 2
    reply = fresh("POST", "/api/generate", body("norm", lora=[{"id": 0, "scale": 0.5}]))
    assert (reply.status, reply.json["error"]) == (400, "lora: this model has no adapter 0 to choose; it has none")


def test_a_request_says_how_much_of_each_adapter(fresh: Live, expected: dict[str, str]) -> None:
    assert said(fresh, "both", lora=[{"id": 0}, {"id": 1, "scale": 1.0}]) == expected["both"]
    assert said(fresh, "both", lora=[{"id": 1}]) == expected["two"]
    assert said(fresh, "both", lora=[]) == expected["tiny"]
    assert said(fresh, "one", lora=[{"id": 0, "scale": 0}, {"model": "two"}]) == expected["two"]
    assert said(fresh, "tiny", lora=[{"model": "both:latest"}]) == expected["both"]
    assert said(fresh, "both") == expected["both"]
    assert len(processes(fresh)) == 1


def test_openais_clients_say_it_too(fresh: Live, expected: dict[str, str]) -> None:
    ask = {"model": "both", "prompt": "abc", "max_tokens": 24, "seed": 5, "lora": [{"id": 1, "scale": 1.0}]}

    def completed(**more: Any) -> str:
        return str(fresh("POST", "/v1/completions", {**ask, **more}).json["choices"][0]["text"])

    assert completed() == completed(model="two", lora=None) != completed(lora=[])
    messages = {"model": "one", "messages": [{"role": "user", "content": "abc"}], "max_tokens": 9, "lora": [{"id": 0}]}
    assert fresh("POST", "/v1/chat/completions", messages).status == 200


@pytest.mark.parametrize(
    ("lora", "status", "error"),
    [
        ([{"id": 2}], 400, "lora: this model has no adapter 2 to choose; it has 0 to 1"),
        ([{"id": -1}], 400, "lora: this model has no adapter -1 to choose; it has 0 to 1"),
        ([{"scale": 1}], 400, "lora: this model has no adapter None to choose; it has 0 to 1"),
        ([{"model": "nobody"}], 404, "model 'nobody' not found"),
        ([{"model": "tiny"}], 400, "lora: 'tiny' has no adapters for the weights of 'both'"),
        ([{"id": "x"}], 400, None),
        ([{"id": 0, "of": ["one", "/etc"], "model": "other"}], 404, "model 'other' not found"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(fresh: Live, lora: Any, status: int, error: str | None) -> None:
    reply = fresh("POST", "/api/generate", body("both", lora=lora))
    assert reply.status == status
    assert error is None or reply.json["error"] == error


def test_figures_count_a_process_once(fresh: Live) -> None:
    for name in ("two", "one"):
        said(fresh, name)
    lines = fresh("GET", "/metrics").body.decode().splitlines()
    assert [line.split(" ")[0] for line in lines if line.startswith("puna_model_bytes")] == [
        'puna_model_bytes{model="one:latest"}'
    ]


def test_other_apis_say_how_much_of_each_adapter_too(fresh: Live) -> None:
    def message(**more: Any) -> Any:
        ask = {"model": "both", "messages": [{"role": "user", "content": "abc"}], "max_tokens": 12, "temperature": 0}
        return fresh("POST", "/v1/messages", {**ask, **more}).json["content"]

    def response(**more: Any) -> Any:
        ask = {"model": "both", "input": "abc", "max_output_tokens": 12, "temperature": 0}
        return fresh("POST", "/v1/responses", {**ask, **more}).json["output"][0]["content"][0]["text"]

    for said_by in (message, response):
        assert said_by(lora=[{"id": 1}]) == said_by(model="two") != said_by(lora=[])


def test_what_is_not_generated_has_a_models_own_adapters(fresh: Live) -> None:
    def decided(name: str) -> Any:
        ask = {"model": name, "prompt": "abc", "choices": ["d", "e", "zz"]}
        return fresh("POST", "/api/decide", ask).json

    def embedded(name: str) -> Any:
        return fresh("POST", "/api/embed", {"model": name, "input": ["abc"]}).json["embeddings"][0]

    assert decided("one") != decided("tiny") != decided("two")
    for name in ("tiny", "one"):
        want = puna.load(name, context_length=256).embed(["abc"])[0].tolist()
        assert embedded(name) == pytest.approx(want, abs=2e-3)
    assert embedded("one") != pytest.approx(embedded("tiny"), abs=1e-2)
    assert len(processes(fresh)) == 1


def test_decisions_and_vectors_have_the_adapters_that_a_request_names(fresh: Live, store: Path) -> None:
    def decided(name: str, **more: Any) -> dict[str, float]:
        ask = {"model": name, "prompt": "abc", "choices": ["d", "e", "zz"]}
        return dict(fresh("POST", "/api/decide", ask | more).json["probabilities"])

    def embedded(name: str, **more: Any) -> Any:
        return fresh("POST", "/api/embed", {"model": name, "input": ["abc"]} | more).json["embeddings"][0]

    merge("two", [], store / "merged.gguf")
    merged = puna.load(store / "merged.gguf", context_length=256)
    want, vector = merged.decide("abc", ["d", "e", "zz"]).probabilities, merged.embed(["abc"])[0].tolist()
    assert decided("tiny")["e"] < want["e"] / 10
    assert embedded("tiny") != pytest.approx(vector, abs=1e-2)
    for name, lora in (("two", None), ("tiny", [{"model": "two"}]), ("both", [{"id": 1}]), ("two", [{"id": 0}])):
        assert decided(name, lora=lora) == pytest.approx(want, rel=1e-2)
        assert embedded(name, lora=lora) == pytest.approx(vector, abs=2e-3)
    assert decided("both", lora=[]) == decided("tiny")
    for path, more in (("/api/embed", {"input": "x"}), ("/api/decide", {"prompt": "x", "choices": ["a", "b"]})):
        reply = fresh("POST", path, {"model": "both", "lora": [{"id": 2}], **more})
        assert (reply.status, reply.json["error"]) == (
            400,
            "lora: this model has no adapter 2 to choose; it has 0 to 1",
        )


def test_a_model_that_is_made_anew_answers_with_its_new_adapter(
    store: Path, fresh: Live, expected: dict[str, str]
) -> None:
    puna.create("changing", f"FROM tiny\nADAPTER {store / '1.gguf'}\n")
    assert [said(fresh, name) for name in ("tiny", "changing")] == [expected["tiny"], expected["one"]]
    puna.create("changing", f"FROM tiny\nADAPTER {store / '2.gguf'}\n")
    assert said(fresh, "changing") == expected["two"]
    assert len(processes(fresh)) == 1
