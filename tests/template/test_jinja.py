"""Jinja chat templates render as transformers renders them, with the same environment built here from jinja2 alone."""

import datetime
import json

import jinja2.ext
import jinja2.sandbox
import pytest

from puna.errors import TemplateError
from puna.template import compile_template, render

CHAT = [
    {"role": "system", "content": "Be brief & <kind>."},
    {"role": "user", "content": " Grüße, 世界! "},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
]
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "it's <b>", "parameters": {"n": 1.5}}}]

CHATML = """{% for message in messages %}
    {% if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nDefault<|im_end|>\\n' -}}
    {% endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message.content | trim + '<|im_end|>' + '\\n' -}}
{% endfor %}
{% if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' -}}
{% endif %}
"""
WITH_TOOLS = """{{ bos_token }}{%- set ns = namespace(n=0) -%}
{%- macro show(tool, pad=2) -%}{{ tool | tojson(indent=pad) }}{%- endmacro -%}
{%- for tool in tools %}{{ show(tool) }}{{ show(tool, none) }}{{ tool.function | tojson }}{% endfor %}
{%- for message in messages[::-1] if message.role != 'system' %}
{%- if message.role == 'assistant' %}{% continue %}{% endif %}
{%- set ns.n = ns.n + 1 %}[{{ loop.index }}/{{ ns.n }}] {{ message.content.strip().split(' ')[0] ~ eos_token }}
{%- if ns.n == 2 %}{% break %}{% endif %}
{% endfor %}{{ {'a': 1, 'b': [messages | length, 2]} | tojson }}{{ '%s-%02d' % ('x', 7) }}{{ '{:>4}'.format('y') }}
{{- (messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list)[-1] }}{{ missing }}"""


def transformers_render(template, **variables):
    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    return environment.from_string(template).render(**variables)


@pytest.mark.parametrize("template", [CHATML, WITH_TOOLS])
@pytest.mark.parametrize("chat", [CHAT, CHAT[1:], CHAT[1:2]])
def test_a_template_renders_as_in_the_environment_of_transformers(template, chat):
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    expected = transformers_render(template, messages=chat, tools=TOOLS, add_generation_prompt=True, **tokens)
    assert render(template, chat, tools=TOOLS, **tokens) == expected


def test_chatml_gives_the_prompt_written_here():
    assert render(CHATML, CHAT[1:2]) == (
        "<|im_start|>system\nDefault<|im_end|>\n<|im_start|>user\nGrüße, 世界!<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_last_assistant_message_is_continued_where_that_is_asked_for():
    assert render(CHATML, CHAT[:3], add_generation_prompt=None).endswith("<|im_start|>assistant\nHello.")
    closed = render(CHATML, CHAT[:3])
    assert closed.endswith("<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>assistant\n")


def test_json_is_neither_ascii_nor_html_escaped():
    assert render("{{ tools | tojson }}{# #}", [], tools=[{"name": "é<&'"}]) == '[{"name": "é<&\'"}]'


def test_a_generation_block_renders_as_its_body():
    template = "{% for m in messages %}{% generation %}{{ m.content }}|{% endgeneration %}{% endfor %}"
    assert render(template, [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]) == "a|b|"


def test_strftime_now_prints_the_day():
    before = datetime.datetime.now().strftime("%d %b %Y")
    got = render("{{ strftime_now('%d %b %Y') }}", [])
    assert got in (before, datetime.datetime.now().strftime("%d %b %Y"))


def test_raise_exception_is_an_error_with_its_words_and_line():
    with pytest.raises(TemplateError, match=r"line 3: roles must alternate"):
        render("{% if true %}\n\n{{ raise_exception('roles must alternate') }}{% endif %}", CHAT)


def test_a_syntax_error_names_its_line():
    with pytest.raises(TemplateError, match="line 2"):
        compile_template("{% if true %}\n{{ 1 + }}{% endif %}")


def test_tool_calls_and_thinking_reach_the_template():
    template = (
        "{% for m in messages %}{{ m.role }}:{{ m.reasoning_content }}:"
        "{% for c in m.tool_calls %}{{ c.id }} {{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}"
        "{{ m.name }}{{ m.tool_call_id }};{% endfor %}{{ enable_thinking }} {{ reasoning_effort }}"
    )
    call = {"id": "c1", "function": {"name": "f", "arguments": '{"b": 1, "a": [2]}'}}
    chat = [
        {"role": "assistant", "thinking": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_name": "f", "tool_call_id": "c1"},
    ]
    assert render(template, chat, think="low") == 'assistant:hm:c1 f {"b": 1, "a": [2]};tool::fc1;True low'
    assert render("{{ enable_thinking is defined }}", chat) == "False"
    assert render("{{ enable_thinking }}", chat, think=False) == "False"


def test_images_are_parts_before_the_text():
    chat = [{"role": "user", "content": "what?", "images": [b"x", b"y"]}]
    template = "{% for part in messages[0].content %}{{ part.type }}{{ part.text }};{% endfor %}"
    assert render(template, chat) == "image;image;textwhat?;"


def test_the_system_text_comes_first_unless_there_is_one():
    template = "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}"
    assert render(template, CHAT[3:], system="S") == "system=S;user=Bye;"
    assert render(template, [CHAT[0]], system="S") == "system=Be brief & <kind>.;"


def test_a_prompt_is_a_user_message():
    assert render("{% for m in messages %}{{ m.role }}={{ m.content }}{% endfor %}", [], prompt="hi") == "user=hi"


def test_filling_in_the_middle_is_refused():
    with pytest.raises(TemplateError, match="fill in the middle"):
        render("{{ messages }}", [], prompt="a", suffix="b")


def test_the_fields_are_the_names_that_the_template_reads():
    fields = compile_template(CHATML).fields
    assert fields == {"messages", "add_generation_prompt"}
    assert compile_template(CHATML).kind == "jinja"
    assert compile_template(CHATML) is compile_template(CHATML)
