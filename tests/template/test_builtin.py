"""The built-in templates, how one is found for a Jinja template, and that importing the package stays light."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import TemplateError
from puna.template import builtin_parameters, builtin_template, match_template, render
from puna.template.match import edit_distance, fingerprint

NAMES = [
    "alfred",
    "alpaca",
    "chatml",
    "chatqa",
    "codellama-70b-instruct",
    "command-r",
    "falcon-instruct",
    "gemma-instruct",
    "gemma3-instruct",
    "granite-instruct",
    "llama2-chat",
    "llama3-instruct",
    "magicoder",
    "mistral-instruct",
    "openchat",
    "phi-3",
    "solar-instruct",
    "starcoder2-instruct",
    "vicuna",
    "zephyr",
]
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def test_there_are_the_twenty_names_of_ollama():
    assert sorted(builtin_parameters()) == NAMES
    assert builtin_parameters()["chatml"] == {"stop": ["<|im_start|>", "<|im_end|>"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_built_in_template_renders_the_words_of_the_user(name):
    assert "how are you" in render(builtin_template(name), [{"role": "user", "content": "how are you"}])


def test_chatml_renders_as_written_here():
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert render(builtin_template("chatml"), chat) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    )


def test_an_unknown_name_lists_the_names():
    with pytest.raises(
        TemplateError, match=r"'chatlm' is unknown; closest: chatml; there are alfred, alpaca, .*zephyr"
    ):
        builtin_template("chatlm")


def test_a_published_template_and_one_near_it_are_matched():
    assert match_template(CHATML) == "chatml"
    assert match_template("{{ bos_token }}" + CHATML.replace("'\\n'", '"\\n"')) == "chatml"
    assert match_template(CHATML + "{# " + "far away " * 12 + "#}") is None
    assert match_template("") is None


def test_the_edit_distance_of_known_words():
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("flaw", "lawn") == 2


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_the_edit_distance_equals_the_textbook_recurrence(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    assert edit_distance(a, b) == row[-1]


def test_a_fingerprint_has_a_digit_per_character():
    assert fingerprint("Az\n世") == "1aa6"


def test_importing_the_package_imports_neither_engine():
    code = "import sys, puna.template; print([m for m in ('jinja2', 'gotpl', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_jinja_template_does_not_import_the_go_engine():
    code = "import sys, puna.template as t; t.render('{{ messages }}', []); print('gotpl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
