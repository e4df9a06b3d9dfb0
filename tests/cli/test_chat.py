"""The interactive prompt, with typed lines from a list and the tiny model that says the alphabet."""

import re

import pytest

import puna as library
from puna.cli.answer import echoed
from puna.cli.asking import Asking
from puna.cli.chat import Chat
from puna.cli.partners import Local, Running
from puna.generation import Chunk
from puna.template import ToolCall

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from cli.tiny import write_tiny

    return library.load(write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf"), backend="numpy")


@pytest.fixture
def talk(model, capsys):
    """Types the lines in a new chat; gives it with what it wrote to stdout and stderr."""

    def talk(*lines, model=model, **settings):
        typed = iter(lines)

        def ask(prompt):
            line = next(typed, None)
            if line is None:
                raise EOFError
            if isinstance(line, BaseException):
                raise line
            return line

        partner = Local("tiny", model) if isinstance(model, library.Model) else model
        chat = Chat(partner, Asking({"temperature": 0}), ask=ask, **settings)
        chat.loop()
        return chat, *capsys.readouterr()

    return talk


def roles(chat):
    return [(message["role"], message["content"]) for message in chat.messages]


def test_questions_are_answered_and_the_conversation_is_kept(talk):
    chat, out, err = talk("hi", "more", "/bye", "never asked")
    assert (out, err) == (f"{ALPHABET}\n\n{ALPHABET}\n\n", "")
    assert roles(chat) == [("user", "hi"), ("assistant", ALPHABET), ("user", "more"), ("assistant", ALPHABET)]


def test_nothing_is_asked_by_an_empty_line(talk):
    assert talk("", "   ")[1:] == ("", "")


def test_triple_quotes_hold_text_of_several_lines(talk):
    chat, _, _ = talk('"""one', "/two", 'three"""', '"""', "four", '"""', '"""five"""')
    assert [text for role, text in roles(chat) if role == "user"] == ["one\n/two\nthree", "four", "five"]


def test_an_answer_that_the_context_cuts_short_is_said(talk, tmp_path):
    from cli.tiny import write_tiny

    small = library.load(write_tiny(tmp_path / "tiny.gguf"), backend="numpy", context_length=25)
    _, out, err = talk("hi", model=small)
    assert out.startswith("abc")
    assert err == "the answer is cut short: the context of 25 positions is full; /clear begins anew\n"
    assert talk("/set parameter num_predict 1", "hi", model=small)[2] == ""


def test_clear_forgets_the_conversation(talk):
    chat, _, _ = talk("hi", "/clear", "again")
    assert roles(chat) == [("user", "again"), ("assistant", ALPHABET)]


def test_parameters_are_set_and_shown(talk):
    _, out, err = talk("/set parameter num_predict 3", "hi", "/set parameter stop b z", "hi", "/show parameters")
    assert out == 'abc\n\na\n\ntemperature 0\nnum_predict 3\nstop "b"\nstop "z"\n'
    assert err == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/set parameter heat 1", "PARAMETER heat: no such option"),
        ("/set parameter top_p 3", "option 'top_p' is 3.0"),
        ("/set parameter top_k many", "PARAMETER top_k: 'many' does not fit"),
        ("/set verbos", "closest: /set verbose"),
        ("/shwo", "closest: /show"),
        ("/xyzzy", "there are help, ?, bye"),
        ("/show", "there are info, license"),
    ],
)
def test_a_wrong_command_is_one_line_and_the_loop_goes_on(talk, line, words):
    _, out, err = talk(line, "hi")
    assert out == f"{ALPHABET}\n\n"
    assert words in err
    assert err.count("\n") == 1


def test_the_system_message_is_set_and_shown(talk):
    chat, out, _ = talk(
        "/show system", "/set system be kind", "/show system", '/set system """a', 'b"""', "/show system"
    )
    assert out == "There is no system message.\nbe kind\na\nb\n"
    assert chat.asking.system == "a\nb"


def test_the_template_and_a_summary_are_shown(talk):
    _, out, _ = talk("/show template", "/show info")
    assert out.startswith("{% for m in messages %}")
    assert re.search(r"^architecture +llama$", out, re.MULTILINE)


def test_verbose_gives_figures_after_each_answer(talk):
    _, _, err = talk("/set verbose", "hi", "/set quiet", "hi", verbose=False)
    assert [line.split()[0] for line in err.splitlines() if line] == ["load", "prompt", "answer"]
    assert "27 tokens" in err


def test_help_lists_the_commands(talk):
    assert "/set parameter NAME VALUE" in talk("/?")[1]
    assert talk("/help")[1] == talk("/?")[1]


def test_a_full_context_is_one_line_and_the_question_is_forgotten(talk):
    chat, _, err = talk("hi", "a" * 300, "ok")
    assert err.count("\n") == 1
    assert "the context holds 256" in err
    assert [text for role, text in roles(chat) if role == "user"] == ["hi", "ok"]


def test_ctrl_c_at_the_prompt_tells_how_to_end(talk):
    _, out, err = talk(KeyboardInterrupt(), "hi")
    assert (out, err) == (f"{ALPHABET}\n\n", "\nCtrl-D or /bye ends.\n")


class Interrupted:
    """A model whose second answer is stopped by Ctrl-C."""

    name, facts, running = "none", {}, Running("none", 0)

    def __init__(self):
        self.asked = []

    def prepare(self):
        raise library.errors.ModelError("said again when a question is asked")

    def answer(self, ask):
        self.asked.append(ask)
        yield Chunk("one ")
        if len(self.asked) == 2:
            raise KeyboardInterrupt
        yield Chunk("two", done=True)


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(talk):
    chat, out, err = talk("a", "b", "c", model=Interrupted())
    assert (out, err) == ("one two\n\none  ...\n\none two\n\n", "")
    assert [text for role, text in roles(chat) if role == "assistant"] == ["one two", "one ", "one two"]


def echo(chunks, capsys, monkeypatch, terminal):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    list(echoed(chunks))
    return capsys.readouterr().out


CALL = ToolCall("f", {"a": "\u00e9"})
THOUGHT = [Chunk(thinking="Hm"), Chunk(thinking="."), Chunk("So"), Chunk("."), Chunk(tool_calls=(CALL, CALL)), Chunk()]
LINES = '{"name": "f", "arguments": {"a": "\u00e9"}}\n{"name": "f", "arguments": {"a": "\u00e9"}}'


def test_thinking_is_dimmed_on_a_terminal_and_left_out_elsewhere(capsys, monkeypatch):
    dimmed = "\x1b[2mHm\x1b[0m\x1b[2m.\x1b[0m\n\n"
    assert echo(THOUGHT, capsys, monkeypatch, terminal=True) == f"{dimmed}So.\n{LINES}"
    assert echo(THOUGHT, capsys, monkeypatch, terminal=False) == f"So.\n{LINES}"


def test_tool_calls_alone_are_lines_of_json(capsys, monkeypatch):
    assert echo(THOUGHT[4:], capsys, monkeypatch, terminal=False) == LINES
