import hashlib
import http.client
import json
import os
import signal
import string
import threading
import time

import pytest

import puna
from puna.store import Store

HELLO = [{"role": "user", "content": "hello"}]


def chat(live, **more):
    return live("POST", "/api/chat", {"model": "tiny", "messages": HELLO, "stream": False, **more})


def test_an_answer_comes_whole_with_figures(live):
    answer = chat(live).json
    assert answer["message"] == {"role": "assistant", "content": string.ascii_lowercase}
    assert (answer["done"], answer["done_reason"], answer["eval_count"]) == (True, "stop", 27)  # the end is a token too
    assert answer["prompt_eval_count"] > 10
    assert answer["total_duration"] >= answer["eval_duration"] > 0


def test_an_answer_comes_line_by_line(live):
    lines = live("POST", "/api/chat", {"model": "tiny", "messages": HELLO}).lines
    assert "".join(line["message"]["content"] for line in lines) == string.ascii_lowercase
    assert [line["done"] for line in lines] == [False] * 26 + [True]


def test_a_prompt_that_does_not_fit_is_refused_with_both_counts(live):
    reply = chat(live, messages=[{"role": "user", "content": "x" * 300}])
    assert reply.status == 400
    assert "the prompt has 319 tokens, the context holds 256" in reply.json["error"]


def test_the_oldest_turns_go_where_truncation_is_asked_for_and_the_answer_says_so(live):
    long = [{"role": "user", "content": "x" * 150}, {"role": "assistant", "content": "y" * 70}, *HELLO]
    assert chat(live, messages=long, options={"num_predict": 1}).status == 400
    answer = chat(live, messages=long, truncate=True, options={"num_predict": 1}).json
    assert answer["message"]["content"] == "a"
    assert answer["dropped"] == {"messages": 2}  # an answer does not stay without its question


def test_a_full_context_ends_the_answer_unless_it_may_shift(live):
    ask = {"model": "tiny", "prompt": "a", "raw": True, "stream": False}
    options = {"ignore_eos": True, "num_predict": 300}
    ended = live("POST", "/api/generate", {**ask, "options": options}).json
    assert (ended["done_reason"], ended["eval_count"], "dropped" in ended) == ("length", 255, False)
    shifted = live("POST", "/api/generate", {**ask, "shift": True, "options": options}).json
    assert (shifted["done_reason"], shifted["eval_count"]) == ("length", 300)
    assert shifted["dropped"] == {"tokens": 126}  # half of 256 less the first 4
    assert len(live("POST", "/api/generate", {**ask, "shift": False, "options": options}).json["response"]) > 200


def test_a_prompt_is_shown_and_not_answered(live):
    ask = {"model": "tiny", "_debug_render_only": True}
    shown = live("POST", "/api/chat", {**ask, "messages": HELLO}).json
    assert shown["_debug_info"] == {
        "rendered_template": "<|start|>user\nhello<|end|>\n<|start|>assistant\n",
        "image_count": 0,
    }
    more = {"prompt": "hello", "system": "Be brief."}
    shown = live("POST", "/api/generate", {**ask, **more}).json["_debug_info"]["rendered_template"]
    assert shown == "<|start|>system\nBe brief.<|end|>\n<|start|>user\nhello<|end|>\n<|start|>assistant\n"
    shown = live("POST", "/api/generate", {**ask, "prompt": "hello", "raw": True}).json
    assert shown["_debug_info"]["rendered_template"] == "hello"


def test_a_model_that_can_think_does_unless_told_otherwise(live, home):
    puna.create("thinker", f"FROM {home / 'tiny.gguf'}\nRENDERER glm-4.7\nPARSER glm-4.7\n")
    ask = {"model": "thinker", "messages": HELLO, "_debug_render_only": True}
    ends = {}
    for think in (None, True, False):
        shown = live("POST", "/api/chat", {**ask, "think": think}).json["_debug_info"]["rendered_template"]
        ends[think] = shown.partition("hello")[2]
    assert ends == {None: "<|assistant|><think>", True: "<|assistant|><think>", False: "<|assistant|></think>"}
    assert live("POST", "/api/apply-template", ask).json["prompt"].endswith(ends[None])
    refused = live("POST", "/api/chat", {**ask, "model": "tiny", "think": True})
    assert (refused.status, refused.json) == (400, {"error": "'tiny' does not support thinking"})
    live("POST", "/api/chat", {"model": "thinker", "keep_alive": 0})


def test_many_clients_at_once_get_what_each_would_get_alone(live):
    said = {}

    def ask(i):
        said[i] = chat(live, messages=[{"role": "user", "content": "hi " * i}]).json["message"]["content"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == dict.fromkeys(range(1, 13), string.ascii_lowercase)


def test_a_client_that_leaves_ends_its_sequence(live):
    connection = http.client.HTTPConnection("127.0.0.1", live.port)
    body = {"model": "tiny", "prompt": "\n", "raw": True, "options": {"ignore_eos": True, "num_predict": 200}}
    connection.request("POST", "/api/generate", json.dumps(body))
    connection.getresponse().read(20)
    worker = live.models.loaded[0].worker
    connection.close()
    until(lambda: worker.jobs == 0)


def test_a_worker_that_is_killed_is_reported_and_the_next_request_gets_another(live):
    chat(live)
    old = live.models.loaded[0].worker
    os.kill(old.pid, signal.SIGKILL)
    until(lambda: not old.alive)
    assert chat(live).json["message"]["content"] == string.ascii_lowercase
    assert live.models.loaded[0].worker.pid != old.pid


def test_a_request_under_way_on_a_killed_worker_is_told(live):
    chat(live)
    lines = []

    def ask():
        body = {"model": "tiny", "prompt": "\n", "raw": True, "options": {"ignore_eos": True}}
        lines.extend(live("POST", "/api/generate", body).lines)

    os.kill(live.models.loaded[0].worker.pid, signal.SIGSTOP)
    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: live.models.loaded[0].worker.jobs == 1)
    os.kill(live.models.loaded[0].worker.pid, signal.SIGKILL)
    thread.join()
    assert "process ended (signal 9)" in lines[-1]["error"]


def test_no_path_of_this_machine_is_in_an_error(live, home):
    data = b"GGUF" + b"x" * 100
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    assert live("POST", f"/api/blobs/{digest}", data).status == 201
    reply = live("POST", "/api/create", {"model": "x", "files": {"a.gguf": digest}, "stream": False})
    assert reply.status == 400
    assert str(home) not in reply.json["error"]


def test_a_model_is_made_of_models_not_of_files_on_this_machine(live, home):
    for path in (str(home / "tiny.gguf"), "tiny.gguf", "../tiny.gguf"):
        reply = live("POST", "/api/create", {"model": "x", "from": path, "stream": False})
        assert reply.status == 404
        assert "not found" in reply.json["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b'{"model": 5}'])
def test_a_body_that_makes_no_sense_is_400(live, body):
    assert live("POST", "/api/chat", body).status == 400


def test_an_unknown_path_is_404_in_the_form_of_its_api(live):
    assert live("GET", "/api/nope").json["error"].startswith("/api/nope")
    assert live("GET", "/v1/nope").json["error"]["type"] == "not_found_error"
    assert live("GET", "/v1/messages/nope").json["type"] == "error"


def test_keep_alive_0_unloads(live):
    chat(live, keep_alive=0)
    until(lambda: live("GET", "/api/ps").json == {"models": []})


def until(true):
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("it did not come true within 5 s")


def test_an_answer_matches_the_format_it_is_asked_in(live):
    schema = {
        "type": "object",
        "properties": {"n": {"enum": [1, 22]}},
        "required": ["n"],
        "additionalProperties": False,
    }
    answer = chat(live, format=schema, options={"temperature": 1, "seed": 3}).json["message"]["content"]
    assert json.loads(answer)["n"] in (1, 22)
    refused = chat(live, format={"type": "object", "unevaluatedProperties": False})
    assert refused.status == 400
    assert "unevaluatedProperties" in refused.json["error"]


def test_a_model_that_was_deleted_while_loaded_hinders_no_list(live):
    live("POST", "/api/copy", {"source": "tiny", "destination": "second"})
    chat(live, model="second", options={"num_predict": 1})
    Store().remove("second")  # by another process
    running = live("GET", "/api/ps")
    assert running.status == 200
    assert [model["details"] for model in running.json["models"] if model["name"] == "second:latest"] == [{}]
    assert live("POST", "/api/generate", {"model": "second", "keep_alive": 0}).status == 200
    assert "second:latest" not in [model["name"] for model in live("GET", "/api/ps").json["models"]]


@pytest.mark.parametrize("length", [-4, "many", 1.5, True])
def test_a_context_that_makes_no_sense_is_refused_by_its_name(live, length):
    reply = chat(live, options={"num_ctx": length})
    assert reply.status == 400
    assert "num_ctx" in reply.json["error"]


@pytest.mark.parametrize("role", ["banana", "", None])
def test_a_role_that_no_model_knows_is_refused_with_those_that_work(live, role):
    reply = chat(live, messages=[*HELLO, {"role": role, "content": "x"}])
    assert reply.status == 400
    assert reply.json["error"].startswith(f"message 1: role is {role!r}; system, user, assistant, tool would work")
