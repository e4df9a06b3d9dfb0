import logging
import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from puna.create.modelfile import LIMITS, OPTIONS, Command, Modelfile, expand_path, parse_modelfile, parse_option
from puna.engine.sampler import RANGES
from puna.errors import ModelfileError

TEXTS = st.text(max_size=30) | st.text(alphabet="\"ab# \t\r\n{}'\u3000", max_size=20)
PLAIN = st.sampled_from(["license", "template", "system", "adapter", "renderer", "parser", "requires", "from"])
COMMANDS = st.lists(
    st.tuples(PLAIN, TEXTS)
    | st.tuples(st.just("parameter"), st.tuples(st.from_regex(r"[A-Za-z0-9_]{1,9}", fullmatch=True), TEXTS))
    | st.tuples(st.just("message"), st.tuples(st.sampled_from(["user", "system", "assistant"]), TEXTS)),
    max_size=6,
)


def test_every_kind_of_command_and_value() -> None:
    text = (
        '# a comment\r\nFROM ./m.gguf \r\nparameter stop "a b "\nPARAMETER temperature 0.5\n'
        'SYSTEM """\n  two\n# lines""" \nMESSAGE user say "hi"\n'
    )
    parsed = parse_modelfile(text)
    assert parsed.commands == [
        ("from", "./m.gguf"),
        ("parameter", ("stop", "a b ")),
        ("parameter", ("temperature", "0.5")),
        ("system", "\n  two\n# lines"),
        ("message", ("user", 'say "hi"')),
    ]
    assert parsed.lines == [2, 3, 4, 5, 8]


@given(COMMANDS)
@example([("system", 'a"""\nb')])
@example([("system", '""\nb"')])
@example([("system", '"'), ("template", '"""'), ("license", '"""x')])
def test_a_printed_modelfile_parses_to_itself_or_is_refused(commands: list[Command]) -> None:
    modelfile = Modelfile([("from", "m"), *commands])
    values = [value if isinstance(value, str) else value[1] for _, value in commands]
    try:
        text = str(modelfile)
    except ModelfileError:
        assert any('"""' in value for value in values)
        return
    assert parse_modelfile(text) == modelfile


@given(TEXTS | st.lists(st.sampled_from(["FROM m", "SYSTEM ", '"""', '"', "\n", "MESSAGE user x", "#"])).map("".join))
def test_whatever_parses_prints_and_parses_to_the_same(text: str) -> None:
    try:
        modelfile = parse_modelfile(text)
    except ModelfileError:
        return
    assert parse_modelfile(str(modelfile)) == modelfile


@given(st.binary(max_size=60))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    try:
        modelfile = parse_modelfile(b"FROM m\n" + data)
    except ModelfileError:
        return
    assert modelfile.commands[0] == ("from", "m")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_encoding_gives_the_same_commands(encoding: str) -> None:
    text = "FROM m\nSYSTEM 你好👋\n"
    assert parse_modelfile(text.encode(encoding)).commands == [("from", "m"), ("system", "你好👋")]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", None, "no FROM line"),
        ("FROM m\n\nNOPE x", 3, "command must be one of"),
        ("FROM m\nSYSTEM", 2, "has no value"),
        ("FROM m\nPARAMETER stop\n", 2, "an option name and a value work"),
        ("FROM m\nMESSAGE tool hi", 2, 'must be one of "system", "user", or "assistant"'),
        ('FROM m\n\nSYSTEM """a\nb', 3, "never closed"),
        (b"FROM m\nSYSTEM \xff", 2, "is not utf-8"),
    ],
)
def test_an_error_names_the_line(text: str | bytes, line: int | None, reason: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        parse_modelfile(text)
    assert caught.value.line == line
    assert reason in str(caught.value)


def test_the_create_request_has_typed_options(caplog: pytest.LogCaptureFixture) -> None:
    text = (
        "FROM m\nPARAMETER num_ctx 4096\nPARAMETER top_p 0.9\nPARAMETER use_mmap false\nPARAMETER stop a\n"
        "PARAMETER stop b\nPARAMETER mirostat 1\nLICENSE MIT\nSYSTEM one\nSYSTEM two\nMESSAGE user hi\nADAPTER ./a\n"
    )
    with caplog.at_level(logging.WARNING):
        request = parse_modelfile(text).request()
    assert request == {
        "from": "m",
        "system": "two",
        "license": ["MIT"],
        "adapters": ["./a"],
        "messages": [{"role": "user", "content": "hi"}],
        "parameters": {"num_ctx": 4096, "top_p": 0.9, "use_mmap": False, "stop": ["a", "b"]},
    }
    assert "PARAMETER mirostat is deprecated" in caplog.text


@pytest.mark.parametrize(
    ("option", "text", "reason"),
    [
        ("temprature", "1", "no such option; closest: temperature"),
        ("numa", "true", "no such option"),
        ("num_ctx", "1.5", "a whole number works"),
        ("num_ctx", "1_0", "a whole number works"),
        ("temperature", "hot", "a number works"),
        ("temperature", "nan", "a number works"),
        ("temperature", ".", "a number works"),
        ("temperature", "1e999", "a number works"),
        ("use_mmap", "yes", "true or false works"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_with_its_line(option: str, text: str, reason: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        parse_modelfile(f"FROM m\nPARAMETER {option} {text}").request()
    assert caught.value.line == 2
    assert reason in str(caught.value)


def test_numbers_in_the_usual_spellings_are_read() -> None:
    assert [parse_option("temperature", text) for text in ("1", "-.5", "1e-3", "+2.")] == [1.0, -0.5, 0.001, 2.0]
    assert [parse_option("seed", text) for text in ("-1", "+42", "007")] == [-1, 42, 7]


def test_several_lines_of_a_name_are_all_there_with_their_numbers() -> None:
    modelfile = parse_modelfile("FROM a\n\nFROM b\nDRAFT c")
    assert modelfile.request() == {"from": ["a", "b"], "draft": ["c"]}
    assert [modelfile.lines_of(name) for name in ("from", "draft", "system")] == [[1, 3], [4], []]


def test_paths_start_at_the_modelfile_or_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_path("~/m.gguf") == "/home/me/m.gguf"
    assert expand_path("../m.gguf", tmp_path / "sub") == str(tmp_path / "m.gguf")
    assert expand_path("/m.gguf", tmp_path) == "/m.gguf"
    with pytest.raises(ModelfileError, match="no such user"):
        expand_path("~nobody-of-this-name/m.gguf")


def test_the_limits_of_options_are_the_sampler_s() -> None:
    bounded = {name: limits for name, limits in RANGES.items() if name in OPTIONS and limits != (-math.inf, math.inf)}
    assert {name: LIMITS[name] for name in bounded} == bounded
    assert LIMITS.keys() - bounded.keys() == {"num_ctx", "num_thread"}


def test_a_command_without_a_value_is_told_of_the_next_line_only_where_there_is_one() -> None:
    with pytest.raises(ModelfileError, match=r"FROM has no value; it stands on the same line$"):
        parse_modelfile("FROM\n")
    with pytest.raises(ModelfileError, match=r"FROM has no value; it stands on the same line, not on line 2$"):
        parse_modelfile("FROM\nllama\n")
