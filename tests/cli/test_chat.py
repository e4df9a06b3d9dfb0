"""The interactive prompt, with typed lines from a list and the tiny model that says the alphabet."""

import re

import pytest

import puna as library
from puna.cli.answer import echoed
from puna.cli.asking import Asking
from puna.cli.chat import Chat
from puna.cli.display import Manner, open_display
from puna.cli.partners import Local, Running, find_partner
from puna.generation import Chunk
from puna.server.settings import Settings
from puna.template import ToolCall
from server.conftest import Live

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
        chat = Chat(partner, Asking({"temperature": 0}), **settings)
        chat.loop(ask)
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
    assert re.search(r"^parameters +94,784$", out, re.MULTILINE)


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
    monkeypatch.setenv("TERM", "dumb")
    list(echoed(chunks, open_display(Manner())))
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


# ---- models that are saved, loaded and listed, in this process and of a server --------------------------------------


@pytest.fixture(params=["here", "server"])
def partner(request, stored, monkeypatch):
    """The model `tiny` of the store, in this process or of a live server."""
    if request.param == "here":
        yield Local("tiny", backend="numpy")
        return
    server = Live(Settings())
    monkeypatch.setenv("PUNA_HOST", f"127.0.0.1:{server.port}")
    yield find_partner("tiny", {})[0]
    server.close()


def test_a_conversation_is_the_same_here_and_with_a_server(talk, partner):
    chat, out, err = talk("hi", "/set parameter num_predict 2", "more", "/show parameters", model=partner)
    assert (out, err) == (f"{ALPHABET}\n\nab\n\ntemperature 0\nnum_predict 2\n", "")
    assert [type(chat.partner).__name__] == [type(partner).__name__]


def test_what_is_saved_is_a_model_that_goes_on_from_there(talk, partner, home):
    _, out, err = talk("/set system be kind", "/set parameter num_predict 3", "hi", "/save mine", model=partner)
    assert (out, err) == ("abc\n\nSaved as mine\n", "")
    saved = library.load("mine", backend="numpy")
    assert saved.opened.system == "be kind"
    assert saved.opened.params == {"temperature": 0, "num_predict": 3}
    assert [tuple(m.values()) for m in saved.opened.messages] == [("user", "hi"), ("assistant", "abc")]
    _, out, err = talk("/load mine", "more", "/save again", "/show system", "/list", model=partner, find=found)
    assert out.startswith("Loading mine\nabc\n\nSaved as again\nbe kind\nNAME")
    assert [line.split()[0] for line in out.splitlines()[6:]] == ["again:latest", "mine:latest", "tiny:latest"]
    again = library.load("again", backend="numpy").opened
    assert [m["content"] for m in again.messages] == ["hi", "abc", "more", "abc"]


def found(name):
    return find_partner(name, {})[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/load", "which model?"),
        ("/load none", "none"),
        ("/save", "under which name?"),
        ("/save a b", "model name 'a b'"),
        ("/set think", "'tiny' does not support thinking"),
        ("/set think hard", "think is 'hard'; true, false, low"),
        ("/set format {", "format: "),
        ("/show modelfil", "closest: /show modelfile"),
    ],
)
def test_a_command_that_cannot_be_done_is_one_line(talk, partner, line, words):
    chat, out, err = talk(line, "hi", model=partner, find=found)
    assert out == f"{ALPHABET}\n\n"
    assert words in err
    assert err.count("\n") == 1
    assert chat.partner is partner


def test_a_format_is_set_and_taken_back(talk, partner):
    schema = '{"enum": [1]}'
    _, out, err = talk(f"/set format {schema}", "hi", "/set noformat", "hi", model=partner)
    assert (out, err) == (f"1\n\n{ALPHABET}\n\n", "")


def test_a_longer_context_is_loaded_when_it_is_asked_for(talk, stored):
    partner = Local("tiny", backend="numpy", context_length=25)
    _, out, err = talk("/set parameter num_predict 30", "/set parameter num_ctx 64", "hi", model=partner)
    assert (out, err) == (f"{ALPHABET}\n\n", "")


def test_a_picture_is_refused_and_its_mention_is_not(talk, home):
    (home / "a b.png").touch()
    _, out, err = talk(f"what is in {home}/a\\ b.png?", "what is x.png?", "and ./none.jpg")
    assert out == f"{ALPHABET}\n\n" * 2
    assert err == f"{home}/a b.png: 'tiny' reads text only, not what is in a picture; leave the file out\n"


def test_switches_change_how_answers_are_shown_and_remembered(talk):
    off = ("/set nohistory", "/set nowordwrap", "/set nomarkdown", "/set nothink")
    chat, _, err = talk(*off)
    assert (chat.remember, chat.manner, chat.asking.think, err) == (False, Manner(False, False), False, "")
    chat, _, err = talk(*off, "/set history", "/set wordwrap", "/set markdown")
    assert (chat.remember, chat.manner, err) == (True, Manner(), "")


def test_shortcuts_are_told():
    from puna.cli import slash

    assert "Ctrl-G" in slash.SHORTCUTS
    named = {word for line in slash.HELP.splitlines() if line.startswith("/set") for word in re.findall("[a-z]+", line)}
    assert set(slash.SETTINGS) <= named
