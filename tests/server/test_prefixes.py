"""Beginnings on disk, by name."""

import pytest

SYSTEM = [{"role": "system", "content": "Answer with letters. " * 4}]
HELLO = [*SYSTEM, {"role": "user", "content": "hello"}]


def asked(live, messages):
    ask = {"model": "tiny", "messages": messages, "max_tokens": 2}
    return live("POST", "/v1/chat/completions", ask).json["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_a_prefix_outlives_the_model_that_computed_it(live, home):
    saved = live("PUT", "/api/prefixes/letters", {"model": "tiny", "messages": SYSTEM}).json
    assert saved == {"name": "letters", "model": "tiny", "tokens": len("<|start|>system\n") - 8 + 21 * 4 + 2}
    live("POST", "/api/chat", {"model": "tiny", "messages": [], "keep_alive": 0})
    assert asked(live, HELLO) == 0
    live("POST", "/api/chat", {"model": "tiny", "messages": [], "keep_alive": 0})
    assert live("POST", "/api/prefixes/letters/load", {"model": "tiny"}).json["tokens"] == saved["tokens"]
    assert asked(live, HELLO) == saved["tokens"]
    (listed,) = live("GET", "/api/prefixes").json["prefixes"]
    path = home / "models" / "prefixes" / "letters.safetensors"
    assert (listed["name"], listed["size"]) == ("letters", path.stat().st_size)
    assert live("DELETE", "/api/prefixes/letters").status == 200
    assert not path.exists()
    assert live("POST", "/api/prefixes/letters/load", {"model": "tiny"}).status == 404


@pytest.mark.parametrize("name", [".hidden", "..", "a%2Fb", "%2e%2e%2fup", "a" * 101, "-x", "a b".replace(" ", "%20")])
def test_a_name_is_no_path(live, name):
    reply = live("PUT", f"/api/prefixes/{name}", {"model": "tiny", "prompt": "abc"})
    assert reply.status in (400, 404, 405)
    assert live("GET", "/api/prefixes").json == {"prefixes": []}


def test_what_is_no_prefix_is_refused_without_its_path(live, home):
    folder = home / "models" / "prefixes"
    folder.mkdir(exist_ok=True)
    (folder / "broken.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    reply = live("POST", "/api/prefixes/broken/load", {"model": "tiny"})
    assert reply.status == 400
    assert "no prefix of version 1" in reply.json["error"]
    assert str(home) not in reply.json["error"]
    live("DELETE", "/api/prefixes/broken")
    assert live("PUT", "/api/prefixes/empty", {"model": "tiny"}).status == 400
    assert live("PUT", "/api/prefixes/long", {"model": "tiny", "prompt": "x" * 300}).status == 400
    assert live("GET", "/api/prefixes").json == {"prefixes": []}
