"""Conversations that are made to fit: what goes, what stays, and what is said of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import TemplateError
from puna.template import Message
from puna.template.fitting import fit_messages

SYSTEM, LATER = Message("system", "s"), Message("system", "l")
ASK, ANSWER = [Message("user", f"{n}" * 10) for n in range(5)], [Message("assistant", f"{n}" * 10) for n in range(5)]
TALK = [SYSTEM, ASK[0], ANSWER[0], ASK[1], ANSWER[1], ASK[2]]


def text(messages):
    return "".join(message.content for message in messages)


def fitted(messages, room):
    prompt, kept, dropped = fit_messages(messages, text, len, room)
    assert (prompt, dropped) == (text(kept), len(messages) - len(kept))
    return kept


def test_what_fits_stays_whole():
    assert fitted(TALK, 51) == TALK


@pytest.mark.parametrize("room", [50, 31])
def test_the_oldest_turn_goes_first(room):
    assert fitted(TALK, room) == [SYSTEM, ASK[1], ANSWER[1], ASK[2]]


def test_whole_turns_go_so_that_no_answer_comes_first():
    assert fitted(TALK, 30) == [SYSTEM, ASK[2]]


def test_system_messages_stay_wherever_they_are():
    assert fitted([ASK[0], LATER, ANSWER[0], ASK[1]], 11) == [LATER, ASK[1]]


def test_the_last_message_stays_although_it_is_too_long():
    assert fitted(TALK, 5) == [SYSTEM, ASK[2]]
    assert fitted([ASK[0]], 5) == [ASK[0]]
    assert fitted([], 5) == []


def test_within_the_last_turn_no_result_loses_its_call_unless_it_is_all_that_is_left():
    turn = [ASK[0], ANSWER[0], Message("tool", "r" * 10), ANSWER[1], Message("tool", "q" * 10)]
    assert fitted(turn, 49) == turn[1:]
    assert fitted(turn, 39) == turn[3:]
    assert fitted(turn, 19) == turn[4:]


def test_a_start_that_the_template_refuses_is_passed_over():
    def strict(messages):
        if messages[0].role == "assistant":
            raise TemplateError("an answer cannot come first")
        return text(messages)

    turn = [ASK[0], ANSWER[0], Message("tool", "r" * 10)]
    assert fit_messages(turn, strict, len, 20) == ("r" * 10, turn[2:], 2)
    assert fit_messages(turn[:2], strict, len, 10) == (text(turn[:2]), turn[:2], 0)


def test_a_conversation_that_cannot_be_rendered_is_an_error():
    def never(messages):
        raise TemplateError("no")

    with pytest.raises(TemplateError, match="no"):
        fit_messages(TALK, never, len, 100)


def test_a_long_conversation_is_rendered_a_few_times_only():
    rendered = []

    def counted(messages):
        rendered.append(len(messages))
        return text(messages)

    talk = [Message(("user", "assistant")[n % 2], "x" * 10) for n in range(2001)]
    assert len(fit_messages(talk, counted, len, 500).messages) == 49
    assert len(rendered) <= 13


roles = st.sampled_from(["system", "user", "assistant", "tool"])


@given(st.lists(st.builds(Message, roles, st.text(max_size=9)), max_size=12), st.integers(0, 60))
def test_of_all_places_to_begin_the_first_that_fits_is_taken(messages, room):
    asked = [i for i, message in enumerate(messages) if message.role == "user"]
    ends = [messages]
    for i in range(1, len(messages)):
        later = not asked or i > asked[-1]
        if i in asked or (later and messages[i].role in ("user", "assistant")) or i == len(messages) - 1:
            ends.append([m for m in messages[:i] if m.role == "system"] + messages[i:])
    short = [end for end in ends if len(text(end)) <= room]
    assert fitted(messages, room) == (short[0] if short else ends[-1])
