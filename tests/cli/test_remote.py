"""Commands that ask a running server: the tiny model on a live one, and servers that answer badly."""

import json
import re
import socket
import threading
from datetime import UTC, datetime

import numpy as np
import pytest

import puna as library
from cli.tiny import write_tiny
from puna.cli.ps import until
from puna.cli.remote import Server, find_host, find_server, server_address
from puna.errors import ModelNotFound, PunaError, RequestError
from puna.server.settings import Settings
from server.conftest import Live


@pytest.fixture
def live(stored, monkeypatch):
    """A server with the model `tiny`, where commands look for one."""
    server = Live(Settings())
    monkeypatch.setenv("PUNA_HOST", f"127.0.0.1:{server.port}")
    yield server
    server.close()


@pytest.fixture
def nobody(monkeypatch):
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{taken.getsockname()[1]}")
        yield


@pytest.fixture
def answering():
    """A server that takes one request and answers with these bytes; gives it, and what it was asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked = []

    def begin(reply, **more):
        def serve():
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(reply)

        threading.Thread(target=serve).start()
        return Server("127.0.0.1", listener.getsockname()[1], **more), asked

    yield begin
    listener.close()


def test_a_loaded_model_is_listed_until_it_is_stopped(puna, live):
    live("POST", "/api/generate", {"model": "tiny", "keep_alive": "90m"})
    head, row = puna("ps").out.splitlines()
    assert head.split() == ["NAME", "ID", "SIZE", "CONTEXT", "UNTIL"]
    assert row.startswith("tiny")
    assert row.split()[-5:] == ["256", "1", "hour", "from", "now"]
    assert puna("stop", "tiny:latest") == (0, "", "")
    assert len(puna("ps").out.splitlines()) == 1


def test_what_is_not_loaded_cannot_be_stopped(puna, live):
    assert puna("stop", "tiny") == (1, "", "puna: tiny: it is not loaded; loaded: none\n")


@pytest.mark.parametrize("words", [("ps",), ("stop", "tiny")])
def test_without_a_server_a_line_says_where_it_would_be(puna, nobody, words):
    status, out, err = puna(*words)
    assert (status, out) == (1, "")
    assert err.startswith("puna: no server listens at 127.0.0.1:")
    assert err.count("\n") == 1


def test_vectors_are_the_same_from_a_server_and_from_this_process(puna, live, tiny):
    remote = puna("embed", "tiny", "one", "two")
    here = puna("embed", "--local", "tiny", "one", "two")
    assert live("GET", "/api/ps").json["models"]  # who computed the first
    expected = library.load(tiny).embed(["one", "two"])
    for status, out, err in (remote, here):
        assert (status, err) == (0, "")
        np.testing.assert_allclose([json.loads(line) for line in out.splitlines()], expected, atol=1e-5)


def test_lines_of_standard_input_are_embedded_without_a_server(puna, nobody, stored):
    status, out, _ = puna("embed", stored, "--dimensions", "3", typed="one\ntwo\n")
    assert status == 0
    assert [len(json.loads(line)) for line in out.splitlines()] == [3, 3]


def test_what_only_this_machine_has_is_computed_here(puna, live, tiny):
    assert puna("embed", tiny, "one").status == 0
    assert live("GET", "/api/ps").json == {"models": []}


def test_no_text_is_a_usage_error(puna, nobody):
    assert puna("embed", "tiny").status == 2


def test_a_line_of_an_answer_comes_at_a_time(live):
    server = find_server()
    lines = list(server.stream("/api/generate", {"model": "tiny", "prompt": "\n", "raw": True}))
    assert "".join(line["response"] for line in lines) == "abcdefghijklmnopqrstuvwxyz"
    assert [line["done"] for line in lines[-2:]] == [False, True]


def test_a_model_that_is_not_there_is_not_found(live):
    server = find_server()
    assert [bool(server.digest(name)) for name in ("tiny", "none", "/no/name")] == [True, False, False]
    with pytest.raises(ModelNotFound):
        server.ask("POST", "/api/show", {"model": "none"})


def test_where_nothing_listens_there_is_no_server(nobody):
    assert find_server() is None


@pytest.mark.parametrize(
    ("environ", "server"),
    [
        ({}, Server("127.0.0.1", 11434)),
        ({"OLLAMA_HOST": "0.0.0.0"}, Server("127.0.0.1", 11434)),
        ({"OLLAMA_HOST": "a:1", "PUNA_HOST": "b:2"}, Server("b", 2)),
        ({"PUNA_HOST": "https://b", "PUNA_API_KEY": "k"}, Server("b", 443, True, "k")),
    ],
)
def test_variables_say_where_the_server_is(environ, server):
    assert server_address(environ) == server


def test_what_is_no_address_is_named():
    with pytest.raises(RequestError, match="PUNA_HOST: 'a:b' is no address"):
        server_address({"PUNA_HOST": "a:b"})


def test_an_answer_that_breaks_off_is_an_error(answering):
    server, _ = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
    with pytest.raises(PunaError, match="the connection broke"):
        server.ask("GET", "/api/ps")


def test_the_key_is_sent_as_a_bearer(answering):
    server, asked = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", key="secret")
    assert server.ask("GET", "/api/ps") == {}
    assert b"\r\nAuthorization: Bearer secret\r\n" in asked[0]


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 16\r\n\r\n" + b'{"error":"full"}', "full"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n", "status 502"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "not JSON: b'hi'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + b'{"error":"ill"}', "ill"),
        (b"", "the connection broke"),
    ],
)
def test_what_a_server_does_wrong_is_an_error_that_says_so(answering, reply, wrong):
    server, _ = answering(reply)
    with pytest.raises(PunaError, match=wrong):
        list(server.stream("/api/generate", {}))


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ("2126-01-01T00:00:00Z", "for ever"),
        ("2026-01-03T01:00:00Z", "2 days from now"),
        ("2026-01-01T00:05:30Z", "5 minutes from now"),
        ("2026-01-01T00:00:30Z", "less than a minute from now"),
        ("2025-12-31T00:00:00Z", "now"),
    ],
)
def test_an_end_is_said_in_its_largest_unit(ends, said):
    assert until(ends, datetime(2026, 1, 1, tzinfo=UTC)) == said


RUN = ("run", "tiny", "hi")


def loaded(live):
    return [model["name"] for model in live("GET", "/api/ps").json["models"]]


def test_run_says_the_same_through_a_server_and_here(puna, live):
    for more in ((), ("--raw",), ("--system", "be kind"), ("-p", "num_predict=5"), ("--context-length", "40")):
        remote = puna(*RUN, *more)
        assert loaded(live) == ["tiny:latest"]
        assert remote == puna(*RUN, *more, "--local")
        assert remote.out.startswith("abcde"[: 5 if "--raw" not in more else 0])


def test_figures_are_the_same_but_for_time_and_place(puna, live):
    asked = ("run", "tiny", "q" * 80, "--verbose")
    puna(*asked)
    figures = (
        r"load +[\d.]+ s   backend cpu.*{}\n"
        r"prompt +[\d.]+ s   99 tokens, (\d+) of them cached, [\d.]+ tokens/s\n"
        r"answer +[\d.]+ s   27 tokens, [\d.]+ tokens/s(?:; computed in advance: .*)?\n"
    )
    there = re.fullmatch(figures.format(f" at {find_server()}"), puna(*asked).err)
    here = re.fullmatch(figures.format(""), puna(*asked, "--local").err)
    assert int(there[1]) >= 64
    assert int(here[1]) == 0


@pytest.mark.parametrize("words", [("--local",), ("--backend", "cpu"), ("-t", "1"), ("--kv-type", "f32")])
def test_what_concerns_this_process_computes_in_it(puna, live, words):
    assert puna(*RUN, *words).out == "abcdefghijklmnopqrstuvwxyz\n"
    assert loaded(live) == []


def test_what_the_server_does_not_have_runs_here_and_verbose_says_so(puna, live, tiny, home):
    assert puna("run", tiny, "hi", "-p", "temperature=0").out == "abcdefghijklmnopqrstuvwxyz\n"
    library.create("other", f"FROM {tiny}\n")
    assert find_host("other", {"PUNA_HOST": f"127.0.0.1:{live.port}"}) == (find_server(), ())
    assert find_host("none", {"PUNA_HOST": f"127.0.0.1:{live.port}"})[1][0].endswith("has no model 'none'")
    assert loaded(live) == []


def test_another_model_of_that_name_is_not_taken_for_ours(live, monkeypatch, tiny):
    usual = {"OLLAMA_HOST": f"127.0.0.1:{live.port}"}
    assert find_host("tiny", usual) == (find_server(), ())
    monkeypatch.setattr(Server, "digest", lambda server, model: "0" * 64)
    server, (note,) = find_host("tiny", usual)
    assert server is None
    assert "has another model 'tiny'" in note
    assert find_host("tiny", {"PUNA_HOST": f"127.0.0.1:{live.port}"})[0] == find_server()


def test_a_server_that_is_not_puna_is_asked_where_it_is_named(live, answering, monkeypatch):
    theirs, _ = answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\n\r\n404 page not found")
    assert (find_server().is_puna(), theirs.is_puna()) == (True, False)
    monkeypatch.setattr(Server, "is_puna", lambda server: False)
    address = f"127.0.0.1:{live.port}"
    assert find_host("tiny", {"OLLAMA_HOST": address}) == (
        None,
        (f"what listens at {address} is not Puna; PUNA_HOST={address} asks it all the same",),
    )
    assert find_host("tiny", {"PUNA_HOST": address})[0] == find_server()


def test_a_format_holds_an_answer_of_a_server_too(puna, live):
    schema = '{"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"], "additionalProperties": false}'
    for more in ((), ("--local",)):
        assert json.loads(puna(*RUN, "--format", schema, *more).out) == {"a": 1}
    assert puna(*RUN, "--format", "{").err.startswith("puna: format: ")


@pytest.mark.parametrize("words", [("--think",), ("--think=high",)])
def test_a_model_that_cannot_think_is_not_made_to(puna, live, words):
    for more in ((), ("--local",)):
        status, out, err = puna("run", *words, "tiny", "hi", *more)
        assert (status, out) == (1, "")
        assert "'tiny' does not support thinking" in err


def test_a_server_keeps_a_model_as_long_as_run_says(puna, live):
    puna(*RUN, "--keepalive", "3h")
    assert puna("ps").out.splitlines()[1].split()[-4:] == ["2", "hours", "from", "now"]
    puna(*RUN, "--keepalive", "0")
    assert loaded(live) == []


def test_a_model_that_is_removed_is_unloaded(puna, live):
    puna("cp", "tiny", "other")
    live("POST", "/api/generate", {"model": "other"})
    puna(*RUN)
    assert loaded(live) == ["tiny:latest", "other:latest"]
    assert puna("rm", "other").status == 0
    assert loaded(live) == ["tiny:latest"]
    assert live("DELETE", "/api/delete", {"model": "tiny"}).status == 200
    assert loaded(live) == []


def test_what_is_made_anew_answers_anew(puna, live, home, tiny):
    puna(*RUN)
    (home / "Modelfile").write_text(f"FROM {tiny}\nPARAMETER temperature 0\nPARAMETER num_predict 2\n")
    assert puna("create", "tiny").status == 0
    assert puna(*RUN).out == "ab\n"
    assert loaded(live) == ["tiny:latest"]


def test_a_server_that_will_not_unload_hinders_no_removal(puna, live, monkeypatch):
    puna(*RUN)

    def refuse(server, *words, **more):
        raise PunaError("no")

    monkeypatch.setattr(Server, "is_puna", lambda server: True)
    monkeypatch.setattr(Server, "ask", refuse)
    monkeypatch.delenv("PUNA_HOST")
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{live.port}")
    assert puna("rm", "tiny").err == "puna: tiny stays loaded: no\n"
    assert puna("list").out.split() == ["NAME", "ID", "SIZE", "MODIFIED"]


def test_the_usual_server_that_wants_a_key_is_left_alone_and_a_named_one_is_not(puna, stored, monkeypatch):
    server = Live(Settings(keys={"secret": "infer"}))
    try:
        address = f"127.0.0.1:{server.port}"
        monkeypatch.setenv("OLLAMA_HOST", address)
        there, _, note = puna(*RUN, "--verbose").err.partition("; computing here\n")
        assert there == f"{address}: an API key is needed: `Authorization: Bearer KEY`"
        assert f" at {address}" not in note
        monkeypatch.setenv("PUNA_HOST", address)
        assert "an API key is needed" in puna(*RUN).err
        monkeypatch.setenv("PUNA_API_KEY", "secret")
        assert f" at {address}\n" in puna(*RUN, "--verbose").err
    finally:
        server.close()


THINKING = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}\n{% endif %}"
)


def test_a_model_that_can_think_is_asked_the_same_here_and_there(puna, live, home):
    model = write_tiny(home / "thinker.gguf", tokenizer__chat_template=THINKING)
    library.create("thinker", f"FROM {model}\nPARAMETER temperature 0\n")
    counts = []
    for words in ((), ("--think",), ("--no-think",), ("--think=false",), ("--think=high", "--hidethinking")):
        asked = [puna("run", "thinker", "hi", *words, "--verbose", *more) for more in ((), ("--local",))]
        assert asked[0].out == asked[1].out
        there, here = (int(re.search(r"(\d+) tokens,", answer.err)[1]) for answer in asked)
        assert there == here
        counts.append(here)
    assert counts == [21, 21, 36, 36, 21]  # <think></think> are 15
