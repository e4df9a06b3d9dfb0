import pytest
from hypothesis import given
from hypothesis import strategies as st

import puna
from cli.tiny import write_tiny
from puna.engine.sampler import Choice
from puna.errors import RequestError
from puna.generation import Answer, Chunk, StopText, chunks, parse_options
from puna.template.parsing import open_parser


def through(stops, pieces):
    stop = StopText(stops)
    out = [stop.push(piece) for piece in pieces]
    return out if stop.stopped else [*out, stop.flush()], stop.stopped


def test_a_stop_string_is_found_across_pieces_and_not_given():
    assert through(["END"], ["ab E", "N", "D more", "never"]) == (["ab ", "", "", ""], True)


def test_what_only_looks_like_a_stop_is_given_late():
    assert through(["END"], ["xE", "N", "x", "EN"]) == (["x", "", "ENx", "", "EN"], False)


def test_the_stop_that_is_complete_first_counts():
    assert through(["yy", "x"], ["a x yy"])[0] == ["a "]
    assert through(["a", "EaE"], ["EaE"])[0] == ["E"]
    assert through(["aE", "EaE"], ["EaE"])[0] == [""]


@given(
    st.text("abE", max_size=30),
    st.lists(st.integers(1, 5), max_size=20),
    st.lists(st.text("abE", min_size=1, max_size=3), max_size=3),
)
def test_text_is_the_same_however_it_is_cut(text, cuts, stops):
    pieces, rest = [], text
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    complete = next((n for n in range(len(text) + 1) if text[:n].endswith(tuple(stops))), None)
    longest = max((len(s) for s in stops if complete and text[:complete].endswith(s)), default=0)
    expected = text if complete is None else text[: complete - longest]
    assert "".join(through(stops, [*pieces, rest])[0]) == expected


def test_options_of_the_caller_win_over_the_models():
    options = parse_options({"temperature": 0.1, "stop": ["a"], "num_ctx": 99}, {"temperature": 0.5, "seed": 3})
    assert (options.sampling.temperature, options.sampling.seed, options.stop) == (0.5, 3, ("a",))


def test_logprobs_ask_for_the_chosen_tokens_only():
    assert parse_options({}, {"logprobs": True}).sampling.top_logprobs == 0
    assert parse_options({}, {"logprobs": True, "top_logprobs": 4}).sampling.top_logprobs == 4
    assert parse_options({}, {}).sampling.top_logprobs is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temprature": 1}, "closest: temperature"),
        ({"num_ctx": 1}, "context_length"),
        ({"stop": [""]}, "stop"),
        ({"num_predict": "9"}, "num_predict"),
    ],
)
def test_a_wrong_option_is_named(options, words):
    with pytest.raises(RequestError, match=words):
        parse_options({}, options)


def test_an_answer_that_is_cancelled_before_it_begins_ends_as_soon_as_it_does():
    ended = []

    def begin(begun):
        begun(lambda: ended.append("ended"), lambda: None)
        yield Chunk(done=True, done_reason="cancelled" if ended else "stop")

    answer = Answer(begin)
    answer.cancel()
    assert [chunk.done_reason for chunk in answer] == ["cancelled"]


def test_an_answer_that_has_nothing_yet_waits_for_who_reads_it_and_says_so_to_who_does_not_wait():
    came = []

    def begin(begun):
        begun(lambda: None, lambda: came.append("a step"))
        yield Chunk("a")
        while not came:
            yield None
        yield Chunk("b")

    assert "".join(chunk.text for chunk in Answer(begin)) == "ab"
    came.clear()
    answer = Answer(begin)
    assert [chunk.text for chunk in answer.ready()] == ["a"]
    assert [chunk.text for chunk in answer.ready()] == []
    came.append("a step")
    assert [chunk.text for chunk in answer.ready()] == ["b"]


def test_an_answer_under_way_is_cancelled_once_more_by_nobody_who_comes_late():
    ended = []

    def begin(begun):
        begun(lambda: ended.append("ended"), lambda: None)
        yield Chunk("a")
        yield Chunk("b")

    answer = Answer(begin)
    assert next(answer).text == "a"
    answer.cancel()
    assert ended == ["ended"]
    answer.close()
    assert list(answer) == []


def choices(tokenizer, text):
    return (Choice(token, None, ()) for token in tokenizer.encode(text, add_bos=False))


def test_control_tokens_that_a_format_is_written_with_are_read_and_others_left_out(tmp_path):
    tokenizer = puna.load(write_tiny(tmp_path / "tiny.gguf")).tokenizer
    text = "<|channel|>analysis<|message|>ab<|end|><|start|>assistant<|channel|>final<|message|>cd"
    steps = chunks(choices(tokenizer, text), tokenizer, StopText([]), open_parser("harmony"))
    made = list(steps)
    assert "".join(chunk.thinking for chunk in made) == "ab"
    assert "".join(chunk.text for chunk in made) == "cd"
    plain = chunks(choices(tokenizer, "a<|end|>b"), tokenizer, StopText([]), open_parser("hermes"))
    assert "".join(chunk.text for chunk in plain) == "ab"


def test_a_stop_string_ends_an_answer_and_what_was_held_back_is_given(tmp_path):
    tokenizer = puna.load(write_tiny(tmp_path / "tiny.gguf")).tokenizer
    made = chunks(choices(tokenizer, "ab <toSTOPcd"), tokenizer, StopText(["STOP"]), open_parser("hermes"))
    said = [next(made), next(made)]
    with pytest.raises(StopIteration) as end:
        next(made)
    last = end.value.value
    assert ["".join(chunk.text for chunk in said), last.text, last.done_reason] == ["ab", " <to", "stop"]
    assert sum((chunk.tokens for chunk in [*said, last]), ()) == tuple(tokenizer.encode("ab <toSTOP", add_bos=False))
