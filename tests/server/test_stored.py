"""Chat completions that clients come back to."""

import json

import pytest

from puna.server.settings import Settings
from server.conftest import Live

PATH = "/v1/chat/completions"


def ask(live, content="hello", **body):
    message = {"role": "user", "content": content}
    return live("POST", PATH, {"model": "tiny", "messages": [message], "max_tokens": 3, **body})


def test_an_answer_that_is_to_be_stored_is_read_changed_and_deleted(live):
    said = ask(live, store=True, metadata={"a": "b"}).json
    assert said["metadata"] == {"a": "b"}
    path = f"{PATH}/{said['id']}"
    assert live("GET", path).json == said
    assert live("POST", path, {"metadata": {"c": "d"}}).json["metadata"] == {"c": "d"}
    assert live("GET", path).json == said | {"metadata": {"c": "d"}}
    assert live("DELETE", path).json == {"id": said["id"], "object": "chat.completion.deleted", "deleted": True}
    for method, body in (("GET", None), ("POST", {"metadata": {}}), ("DELETE", None)):
        reply = live(method, path, body)
        assert (reply.status, reply.json["error"]["type"]) == (404, "not_found_error")


def test_an_answer_is_not_stored_unless_that_is_said(live):
    for more in ({}, {"store": False}, {"metadata": {"a": "b"}}):
        said = ask(live, **more).json
        assert "metadata" not in said
        assert live("GET", f"{PATH}/{said['id']}").status == 404


def test_a_stream_is_stored_whole(live):
    frames = ask(live, store=True, stream=True, n=2, seed=1).body.split(b"\n\n")
    identity = json.loads(frames[0].removeprefix(b"data: "))["id"]
    stored = live("GET", f"{PATH}/{identity}").json
    assert [choice["message"]["content"] for choice in stored["choices"]] == ["abc", "abc"]
    assert (stored["object"], stored["usage"]["completion_tokens"]) == ("chat.completion", 6)


def test_stored_answers_are_listed_by_model_and_metadata_page_by_page(live):
    names = [ask(live, store=True, metadata={"of": "list", "n": str(n)}).json["id"] for n in range(3)]
    listed = live("GET", f"{PATH}?metadata[of]=list").json
    assert ([each["id"] for each in listed["data"]], listed["has_more"]) == (names, False)
    page = live("GET", f"{PATH}?metadata[of]=list&order=desc&limit=2").json
    assert ([each["id"] for each in page["data"]], page["has_more"]) == (names[:0:-1], True)
    rest = live("GET", f"{PATH}?metadata[of]=list&order=desc&limit=2&after={page['last_id']}").json
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (names[:1], False)
    assert [each["id"] for each in live("GET", f"{PATH}?metadata[n]=1&metadata[of]=list").json["data"]] == names[1:2]
    assert live("GET", f"{PATH}?model=other").json["data"] == []
    assert {each["model"] for each in live("GET", f"{PATH}?model=tiny").json["data"]} == {"tiny"}


def test_what_led_to_a_stored_answer_is_listed(live):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    identity = ask(live, parts, store=True).json["id"]
    (message,) = live("GET", f"{PATH}/{identity}/messages").json["data"]
    assert message == {"id": f"{identity}-0", "role": "user", "content": "onetwo", "content_parts": parts}
    identity = ask(live, "one", store=True).json["id"]
    (message,) = live("GET", f"{PATH}/{identity}/messages").json["data"]
    assert (message["content"], message["content_parts"]) == ("one", None)


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=101", "order=up"])
def test_a_page_that_makes_no_sense_is_400(live, query):
    assert live("GET", f"{PATH}?{query}").status == 400


@pytest.mark.parametrize(
    "metadata", [{str(i): "" for i in range(17)}, {"k" * 65: ""}, {"k": "v" * 513}], ids=["pairs", "key", "value"]
)
def test_metadata_has_bounds(live, metadata):
    reply = ask(live, store=True, metadata=metadata)
    assert reply.status == 400
    assert "metadata" in reply.json["error"]["message"]
    identity = ask(live, store=True).json["id"]
    assert live("POST", f"{PATH}/{identity}", {"metadata": metadata}).status == 400


def test_each_key_lists_its_own(home):
    server = Live(Settings(keys={"one": "infer", "two": "infer"}))
    try:
        message = {"role": "user", "content": "hello"}
        body = {"model": "tiny", "messages": [message], "max_tokens": 1, "store": True}
        identity = server("POST", PATH, body, authorization="Bearer one").json["id"]
        mine = server("GET", PATH, authorization="Bearer one").json["data"]
        others = server("GET", PATH, authorization="Bearer two").json["data"]
        assert ([each["id"] for each in mine], others) == ([identity], [])
    finally:
        server.close()
