from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import InvalidName
from puna.store import ModelName

FIRST = "abcXYZ019_"
PARTS = {
    "host": st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,30}", fullmatch=True),
    "namespace": st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", fullmatch=True),
    "model": st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", fullmatch=True),
    "tag": st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", fullmatch=True),
}
NAMES = st.builds(ModelName, **PARTS)


def test_missing_parts_are_the_defaults() -> None:
    assert ModelName.parse("smollm2") == ModelName("registry.ollama.ai", "library", "smollm2", "latest")
    assert str(ModelName.parse("me/m:1")) == "registry.ollama.ai/me/m:1"


@given(NAMES)
def test_a_printed_name_parses_to_itself(name: ModelName) -> None:
    assert ModelName.parse(str(name)) == name


@given(NAMES)
def test_the_short_form_means_the_same_name(name: ModelName) -> None:
    assert ModelName.parse(name.short).matches(name)


@given(NAMES)
def test_the_manifest_path_gives_the_name_back(name: ModelName) -> None:
    assert name.path.parts == (name.host, name.namespace, name.model, name.tag)
    assert ModelName.from_path(name.path) == name


@given(st.text(max_size=40) | st.text(alphabet="ab./:-_@ \n", max_size=20))
def test_any_text_is_a_name_or_is_refused_and_never_leaves_the_folder(text: str) -> None:
    try:
        path = ModelName.parse(text).path
    except InvalidName:
        return
    assert not path.is_absolute()
    assert len(path.parts) == 4
    assert not {"..", "."} & set(path.parts)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the model is empty"),
        ("model:", "the tag is empty"),
        ("//m", "the host is empty"),
        ("../../etc/passwd", "4 parts"),
        ("../m", "the namespace starts with '.'"),
        ("m@sha256", "the model holds '@'"),
        ("a.b/m", "the namespace holds '.'"),
        ("m\n", "the model holds '\\n'"),
        ("modèle", "the model holds 'è'"),
        ("m" * 81, "the model has 81 characters; at most 80"),
        ("h" * 351 + "/n/m", "the host has 351 characters; at most 350"),
    ],
)
def test_a_refusal_says_which_part_is_wrong_and_why(text: str, reason: str) -> None:
    with pytest.raises(InvalidName) as caught:
        ModelName.parse(text)
    assert reason in str(caught.value)


def test_a_name_cannot_be_built_with_an_illegal_part() -> None:
    with pytest.raises(InvalidName):
        ModelName("registry.ollama.ai", "library", "../x", "latest")


def test_letter_case_does_not_count_when_names_are_compared() -> None:
    assert ModelName.parse("LIBRARY/Model:Latest").matches(ModelName.parse("model"))
    assert not ModelName.parse("model:a").matches(ModelName.parse("model:b"))


def test_a_path_of_another_depth_is_no_name() -> None:
    with pytest.raises(InvalidName, match="3 parts"):
        ModelName.from_path(Path("a/b/c"))
