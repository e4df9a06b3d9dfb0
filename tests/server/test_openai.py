import base64
import json
import string

import numpy as np
import pytest

from puna.server import translate_request
from puna.server.errors import Refused
from puna.server.openai.messages import native_messages

HELLO = [{"role": "user", "content": "hello"}]


def ask(live, path="chat/completions", **body):
    given = {"messages": HELLO} if path == "chat/completions" else {}
    return live("POST", f"/v1/{path}", {"model": "tiny", "temperature": 0, **given, **body})


def frames(reply):
    data = [line.removeprefix(b"data: ") for line in reply.body.split(b"\n") if line]
    assert data[-1] == b"[DONE]"
    return [json.loads(each) for each in data[:-1]]


def test_an_answer_has_its_choice_and_usage(live):
    answer = ask(live).json
    assert answer["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": string.ascii_lowercase}, "finish_reason": "stop"}
    ]
    usage = answer["usage"]
    assert usage["completion_tokens"] == 27
    assert usage["total_tokens"] == usage["prompt_tokens"] + 27


def test_a_prompt_that_was_seen_before_is_counted_as_cached(live):
    text = [{"role": "user", "content": "x" * 120}]
    ask(live, messages=text)
    assert ask(live, messages=text).json["usage"]["prompt_tokens_details"]["cached_tokens"] >= 64


def test_a_stream_begins_with_the_role_and_ends_with_a_reason(live):
    chunks = frames(ask(live, stream=True, stream_options={"include_usage": True}, max_tokens=3))
    assert [c["choices"][0]["delta"] for c in chunks[:-1]] == [
        {"role": "assistant", "content": "a"},
        {"content": "b"},
        {"content": "c"},
        {},
    ]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None, None, None, "length"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3


def test_several_choices_come_side_by_side_each_drawn_by_itself(live):
    answer = ask(live, n=3, temperature=4, seed=1, max_tokens=8).json
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert answer["usage"]["completion_tokens"] <= 24
    chunks = frames(ask(live, n=2, stream=True, max_tokens=2))
    assert {c["choices"][0]["index"] for c in chunks} == {0, 1}


@pytest.mark.parametrize(
    ("prompt", "said"), [("\n", ["ab"]), (["\n", "b"], ["ab", "cd"]), ([10], ["ab"]), ([[10], [98]], ["ab", "cd"])]
)
def test_a_completion_goes_on_from_texts_or_tokens(live, prompt, said):
    answer = ask(live, "completions", prompt=prompt, max_tokens=2).json
    assert [choice["text"][:2] for choice in answer["choices"]] == said


def test_vectors_come_as_numbers_or_base64(live):
    plain = ask(live, "embeddings", input=["a", "b"]).json
    assert [each["index"] for each in plain["data"]] == [0, 1]
    packed = ask(live, "embeddings", input="a", encoding_format="base64").json["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(packed), "<f4") == pytest.approx(plain["data"][0]["embedding"])


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": [{"role": "user", "content": 5}]},
        {"n": 0},
        {"max_tokens": -5},
        {"max_completion_tokens": 0},
        {"stop": [1]},
        {"top_p": 7},
        {"reasoning_effort": "extreme"},
        {"response_format": {"type": "xml"}},
    ],
)
def test_what_makes_no_sense_is_400_in_openais_form(live, body):
    reply = ask(live, **body)
    assert reply.status == 400
    assert reply.json["error"]["type"] == "invalid_request_error"


def test_an_unknown_model_is_404(live):
    assert ask(live, model="nope").json["error"]["message"].startswith("model 'nope' not found")
    assert live("GET", "/v1/models/nope").status == 404
    assert [m["id"] for m in live("GET", "/v1/models").json["data"]] == ["tiny:latest"]


def test_a_request_becomes_the_native_one_that_it_means():
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "max_tokens": 5}
    assert translate_request("/v1/chat/completions", body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "a"}],
        "stream": False,
        "options": {"num_predict": 5, "temperature": 1.0, "top_p": 1.0},
    }
    with pytest.raises(Refused, match="too short"):
        translate_request("/v1/chat/completions", {"model": "m"})


def test_reasoning_may_have_a_budget():
    body = {"model": "m", "messages": HELLO, "reasoning": {"effort": "low", "max_tokens": 50}}
    native = translate_request("/v1/chat/completions", body)
    assert (native["think"], native["options"]["num_think"]) == ("low", 50)


def test_a_top_p_of_nothing_takes_the_best():
    body = {"model": "m", "messages": HELLO, "top_p": 0}
    assert translate_request("/v1/chat/completions", body)["options"]["top_p"] == 0


def test_null_means_not_given(live):
    assert ask(live, stream=None, max_tokens=2, stop=None, n=None).json["choices"][0]["message"]["content"] == "ab"
    assert frames(ask(live, stream=True, max_tokens=2, stream_options={"include_usage": None}))[-1]["choices"]


def test_what_is_not_said_of_streaming_is_no():
    assert translate_request("/v1/completions", {"model": "m", "prompt": "p"})["stream"] is False
    assert translate_request("/v1/completions", {"model": "m", "prompt": "p", "stream": None})["stream"] is False


def test_several_answers_compute_their_prompt_once(live):
    def cached():
        lines = live("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("puna_cached_tokens_total{"))

    before = cached()
    reply = live("POST", "/v1/completions", {"model": "tiny", "prompt": "q" * 150, "n": 4, "max_tokens": 2}).json
    assert len(reply["choices"]) == 4
    assert reply["usage"]["prompt_tokens"] == 150
    assert reply["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert cached() - before == 3 * 149  # what comes after the last token is computed by each


def test_a_token_that_is_part_of_a_character_has_its_own_bytes(live):
    answer = ask(live, logprobs=True, top_logprobs=1, max_tokens=1, logit_bias={"195": 100}).json
    (first,) = answer["choices"][0]["logprobs"]["content"]
    assert (first["token"], first["bytes"]) == ("�", [0xC3])


def test_a_developers_message_is_the_systems():
    assert native_messages([{"role": "developer", "content": "be brief"}]) == [
        {"role": "system", "content": "be brief"}
    ]


def test_what_an_assistant_said_in_older_ways_or_refused_is_told(live):
    call = {"id": "", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
    said = [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}},
        {"role": "function", "name": "f", "content": "12"},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "never"}]},
    ]
    assert native_messages(said) == [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "12", "tool_name": "f"},
        {"role": "assistant", "content": "no"},
        {"role": "assistant", "content": "never"},
    ]
    spoken = {"role": "assistant", "audio": {"id": "a"}}
    assert ask(live, messages=[*HELLO, spoken]).status == 400


@pytest.mark.parametrize(
    "more",
    [
        {"functions": [{"name": "f"}]},
        {"function_call": "auto"},
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "alloy"}},
        {"web_search_options": {"search_context_size": "low"}},
        {"moderation": {"model": "m"}},
        {"verbosity": "low"},
        {"top_logprobs": 2},
        {"stop": 5},
        {"tools": [{"type": "custom", "custom": {"name": "f"}}]},
        {"prediction": {"type": "image", "content": "x"}},
    ],
)
def test_what_is_not_supported_is_refused_by_what_works_instead(live, more):
    reply = ask(live, **more)
    assert reply.status == 400
    assert "would work" in reply.json["error"]["message"]
    assert next(iter(more)) in reply.json["error"]["message"]


def test_what_says_nothing_of_the_answer_changes_nothing(live):
    more = {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "prompt_cache_retention": "24h"}
    more |= {"verbosity": "medium", "metadata": {"a": "b"}, "store": False, "functions": [], "web_search_options": {}}
    said = ask(live, max_tokens=2, service_tier="flex", **more).json
    assert said["choices"][0]["message"]["content"] == "ab"
    assert said["service_tier"] == "default"
    assert "service_tier" not in ask(live, max_tokens=2).json


@pytest.mark.parametrize(
    ("content", "counts"),
    [
        (string.ascii_lowercase, {"accepted_prediction_tokens": 26, "rejected_prediction_tokens": 0}),
        (
            [{"type": "text", "text": "abcd"}, {"type": "text", "text": "xxx"}],
            {"accepted_prediction_tokens": 4, "rejected_prediction_tokens": 3},
        ),
        ("0123", {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 4}),
    ],
)
def test_a_predicted_answer_is_the_same_and_says_how_much_of_the_prediction_came(live, content, counts):
    said = ask(live, prediction={"type": "content", "content": content}).json
    assert said["choices"][0]["message"]["content"] == string.ascii_lowercase
    assert said["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0} | counts


def test_of_several_candidates_the_most_probable_are_given(live):
    body = {"prompt": "\n", "max_tokens": 3, "temperature": 3, "seed": 1}
    drawn = ask(live, "completions", n=6, logprobs=0, **body).json["choices"]
    mean = {choice["text"]: sum(choice["logprobs"]["token_logprobs"]) / 3 for choice in drawn}
    assert len(mean) > 2
    best = ask(live, "completions", best_of=6, n=2, **body).json
    assert [choice["text"] for choice in best["choices"]] == sorted(mean, key=mean.get, reverse=True)[:2]
    assert (best["usage"]["completion_tokens"], "logprobs" in best["choices"][0]) == (18, False)


def test_a_prompt_is_said_before_its_answer_where_that_is_asked_for(live):
    body = {"max_tokens": 2, "temperature": 0, "echo": True}
    for prompt in (["m", "x"], [[109], [120]]):
        said = ask(live, "completions", prompt=prompt, n=2, **body).json["choices"]
        assert [choice["text"] for choice in said] == ["mno", "mno", "xyz", "xyz"]


@pytest.mark.parametrize("most", [0, 2])
@pytest.mark.parametrize("prompt", ["\nabx", [10, 97, 98, 120]], ids=["text", "tokens"])
def test_an_echo_says_how_probable_its_tokens_were(live, prompt, most):
    answer = ask(live, "completions", prompt=prompt, max_tokens=most, echo=True, logprobs=2).json
    (said,) = answer["choices"]
    assert said["text"] == "\nabx" + "yz"[:most]
    found = said["logprobs"]
    assert found["tokens"] == list("\nabxyz"[: 4 + most])
    assert found["text_offset"] == list(range(4 + most))
    assert (found["token_logprobs"][0], found["top_logprobs"][0]) == (None, None)
    assert [max(top, key=top.get) for top in found["top_logprobs"][1:]] == list("abcyz"[: 3 + most])
    assert [len(top) for top in found["top_logprobs"][1:]] == [2] * (3 + most)
    a, b, x = found["token_logprobs"][1:4]
    assert max(found["top_logprobs"][1].values()) == a
    assert x < min(a, b)
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (4, most)


def test_several_prompts_are_all_counted(live):
    answer = ask(live, "completions", prompt=["m", "\nab"], n=2, max_tokens=1).json
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (4, 4)


@pytest.mark.parametrize(
    "more",
    [
        {"best_of": 2, "n": 3},
        {"best_of": 40},
        {"best_of": 2, "stream": True},
        {"best_of": 0},
        {"n": 0},
        {"n": -3},
        {"echo": True, "logprobs": 1, "stream": True},
        {"echo": True, "logprobs": 1, "lora": [{"id": 0}]},
        {"max_tokens": 0},
        {"logprobs": True},
    ],
)
def test_completions_refuse_what_they_cannot(live, more):
    reply = ask(live, "completions", prompt="x", **more)
    assert reply.status == 400
    assert next(iter(more)) in reply.json["error"]["message"]
