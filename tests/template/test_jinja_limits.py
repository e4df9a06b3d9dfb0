"""Hostile Jinja templates end in an error, soon and within memory; harmless ones do not."""

import time

import pytest

from puna.errors import TemplateError
from puna.template import render

DOUBLING = "{%% set ns = namespace(x=%s) %%}{%% for i in range(60) %%}%s{%% endfor %%}{{ ns.x }}"
TOO_MUCH = [
    "{% for i in range(10**9) %}{% endfor %}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [1] * 10**9 }}",
    "{{ 9**9**9**9 }}",
    "{{ 2.0**99999 }}",
    "{{ 'a' | center(10**9) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a'.zfill(10**9) }}",
    "{{ '\\t'.expandtabs(10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:1000000000d}'.format(1) }}",
    "{{ '{:{}d}'.format(1, 1000000000) }}",
    "{{ '{x:>{y}}'.format_map({'x': 1, 'y': 10**9}) }}",
    "{{ range(99999) | join('a' * 1000000) }}",
    "{{ ('a' * 1000000).join(range(99999) | map('string')) }}",
    "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
    "{{ ('a' * 1000000) | replace(new='b' * 1000000, old='a') }}",
    "{{ ('a' * 1000000).translate({97: 'b' * 1000000}) }}",
    "{{ ('{0}' * 1000000).format('a' * 1000000) }}",
    "{{ ('\\n' * 1000000) | indent(10000) }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{{ [1, 2] | batch(10**9, 'x') | list }}",
    "{% set x = 'a' * 9000000 %}{{ x ~ x ~ x }}",
    "{{ strftime_now('%1000000000d') }}",
    "{{ [[1]] | sum(start=[]) }}",
    "{{ lipsum(10**9) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for i in [[1]] recursive %}{{ loop([i]) }}{% endfor %}",
    "{{ " + "(" * 5000 + "x" + ")" * 5000 + " }}",
    "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
    DOUBLING % ("'aa'", "{% set ns.x = ns.x ~ ns.x %}"),
    DOUBLING % ("'aa'", "{% set ns.x = ns.x + ns.x %}"),
    DOUBLING % ("'aa'", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
    DOUBLING % ("'aa'", "{% set ns.x = ns.x | replace('a', 'aa') %}"),
    DOUBLING % ("'aa'", "{% set ns.x = '%s%s' % (ns.x, ns.x) %}"),
    DOUBLING % ("3", "{% set ns.x = ns.x * ns.x %}"),
]
BLOCKED = [
    "{{ self.__init__.__globals__.__builtins__.__import__('os').popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% for c in ().__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
    "{{ namespace.__init__.__globals__['os'] }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(role='x') }}",
    "{{ messages[0].clear() }}",
    "{{ (messages[0].content | attr('__class__')).__mro__ }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{% include 'x' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends 'x' %}",
]


@pytest.mark.parametrize("template", TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_a_template_that_asks_for_too_much_ends_in_an_error(template):
    began = time.thread_time()
    with pytest.raises(TemplateError, match=r"template: .+"):
        render(template, [{"role": "user", "content": "hi"}])
    assert time.thread_time() - began < 10


def test_loops_within_loops_end_in_an_error():
    template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateError, match="steps"):
        render(template, [])


def test_containers_that_double_by_reference_end_in_an_error():
    with pytest.raises(TemplateError, match="items"):
        render(DOUBLING % ("[1]", "{% set ns.x = [ns.x, ns.x] %}"), [])


@pytest.mark.parametrize("template", BLOCKED)
def test_a_known_injection_is_blocked(template):
    with pytest.raises(TemplateError, match=r"unsafe|undefined|loader|immutable|not safely callable"):
        render(template, [{"role": "user", "content": "hi"}])


def test_reading_an_internal_attribute_gives_nothing():
    assert render("{{ raise_exception.__globals__ }}{{ ''['__class__'] }}{{ environment }}{# #}", []) == ""


def test_a_long_conversation_stays_within_the_limits():
    chat = [{"role": role, "content": "word " * 100} for _ in range(1000) for role in ("user", "assistant")]
    template = (
        "{% for m in messages %}{{ '<' ~ m.role + '>' + m.content | trim | replace('w', 'W') + '\n' }}{% endfor %}"
    )
    text = "Word " * 99 + "Word"
    assert render(template, chat, add_generation_prompt=True) == f"<user>{text}\n<assistant>{text}\n" * 1000


def test_one_render_leaves_nothing_of_its_budget_to_the_next():
    template = "{% for i in range(9) %}{{ 'x' * 1000000 }}{% endfor %}"
    assert [len(render(template, [])) for _ in range(20)] == [9_000_000] * 20
