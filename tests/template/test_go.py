"""Go templates render as Go and Ollama would; the expected texts are written out by hand."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import TemplateError
from puna.template import compile_template, infer_tags, render, template_fields, template_kind
from puna.template.gosource import cut_after_response

CHAT = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
]
TOOL = {
    "type": "function",
    "function": {
        "parameters": {"properties": {"z": {"enum": ["x", "y"], "type": "string"}, "a": {"type": ["integer", "null"]}}},
        "name": "f",
        "description": "<d>",
    },
}
OVER_TOOLS = "{{ range .Messages }}{{ end }}{{ range .Tools }}%s{{ end }}"


def test_messages_are_ranged_over_with_trimmed_space():
    template = (
        '{{- range $i, $m := .Messages }}\n{{- if eq .Role "user" }}[{{ $i }}:{{ .Content -}} ]\n{{ end }}{{ end }}!'
    )
    assert render(template, CHAT) == "[1:one]\n[3:three]\n!"


def test_system_texts_are_joined_and_stay_among_the_messages():
    chat = [CHAT[0], CHAT[1], {"role": "system", "content": "T"}]
    assert render("{{ .System }}|{{ range .Messages }}{{ .Role }} {{ end }}", chat) == "S\n\nT|system user system "


def test_neighbours_of_one_role_are_joined_but_not_tool_results():
    chat = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "tool", "content": "c", "tool_name": "f"},
        {"role": "tool", "content": "d", "tool_name": "g"},
    ]
    expected = "[user//a\n\nb][tool/f/c][tool/g/d]"
    assert render("{{ range .Messages }}[{{ .Role }}/{{ .ToolName }}/{{ .Content }}]{{ end }}", chat) == expected


def test_a_template_without_messages_renders_turn_by_turn_and_stops_at_the_response():
    template = "{{ if .System }}<{{ .System }}>{{ end }}Q:{{ .Prompt }} A:{{ .Response }};"
    assert render(template, CHAT) == "<S>Q:one A:two;Q:three A:"


def test_a_response_is_appended_where_none_is_asked_for():
    assert render("[{{ .Prompt }}]", CHAT[1:]) == "[one]two[three]"
    assert template_fields("[{{ .Prompt }}]") == {"prompt", "response"}


def test_the_cut_behind_the_response_closes_what_is_open():
    source = '{{ if .System }}{{ with "}}" }}{{ .Response }}x{{ end }}y{{ end }}z'
    assert cut_after_response(source) == '{{ if .System }}{{ with "}}" }}{{ .Response }}{{ end }}{{ end }}'
    assert render("{{ if .Response }}{{ .Response }}{{ else }}none{{ end }}!", CHAT[:2]) == ""


def test_a_suffix_fills_in_the_middle():
    template = "{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ else }}{{ .Prompt }}{{ end }}"
    assert render(template, [], prompt="def f(", suffix="return") == "<P>def f(<S>return<M>"
    assert render(template, [], prompt="def f(") == "def f("


def test_arguments_print_as_json_and_range_in_order():
    call = {"function": {"name": "f", "arguments": {"b": {"c": "<é>"}, "a": 3.0}}}
    chat = [{"role": "assistant", "tool_calls": [call]}]
    loop = "{{ range .Messages }}{{ range .ToolCalls }}%s{{ end }}{{ end }}"
    assert render(loop % "{{ .Function.Arguments }}", chat) == '{"a":3,"b":{"c":"\\u003cé\\u003e"}}'
    assert render(loop % "{{ range $k, $v := .Function.Arguments }}{{ $k }}={{ $v }};{{ end }}", chat) == (
        "a=3;b=map[c:<é>];"
    )


def test_tools_print_as_json_in_the_order_of_ollama():
    assert render(OVER_TOOLS % "{{ . }}", CHAT, tools=[TOOL]) == (
        '{"type":"function","function":{"name":"f","description":"\\u003cd\\u003e","parameters":{"properties":'
        '{"a":{"type":["integer","null"]},"z":{"type":"string","enum":["x","y"]}}}}}'
    )


def test_properties_range_in_the_order_of_their_names_with_types():
    shown = "{{ $n }} {{ $p.Enum }} {{ toTypeScriptType $p }};"
    action = "{{ range $n, $p := .Function.Parameters.Properties }}" + shown + "{{ end }}"
    assert render(OVER_TOOLS % action, CHAT, tools=[TOOL]) == "a [] number | null;z [x y] string;"


def test_the_list_of_tools_can_be_sliced_and_counted():
    action = "{{ range .Messages }}{{ end }}{{ len .Tools }}{{ range slice .Tools 1 }}{{ .Function.Name }}{{ end }}"
    other = {"type": "function", "function": {"name": "g"}}
    assert render(action, CHAT, tools=[TOOL, other]) == "2g"


@pytest.mark.parametrize(
    ("think", "expected"), [(None, "false  false"), (True, "true  true"), ("low", "true low true")]
)
def test_thinking_is_on_off_a_level_or_unset(think, expected):
    template = "{{ range .Messages }}{{ end }}{{ .Think }} {{ .ThinkLevel }} {{ .IsThinkSet }}"
    assert render(template, CHAT, think=think) == expected


def test_the_day_and_the_day_before():
    before = datetime.date.today()
    got = render("{{ range .Messages }}{{ end }}{{ currentDate }} {{ yesterdayDate }}", CHAT)
    days = [before, datetime.date.today()]
    assert got in [f"{day} {day - datetime.timedelta(1)}" for day in days]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ('{{ print 1 2 "a" "b" 3 }}', "1 2ab3"),
        ('{{ println "a" true }}', "a true\n"),
        ('{{ printf "%5.2f|%-4s|%q" 3.14159 "x" "q\\"" }}', ' 3.14|x   |"q\\""'),
        ('{{ html "<a&\'>" }}', "&lt;a&amp;&#39;&gt;"),
        ('{{ js "it\'s <b>\\n" }}', "it\\'s \\u003Cb\\u003E\\u000A"),
        ('{{ urlquery "a b&c" }}', "a+b%26c"),
        ('{{ slice "héllo" 0 3 }}', "hé"),
        ('{{ json "<é>" }}', '"\\u003cé\\u003e"'),
        ("{{ and 1 0 }}{{ or 0 3 }}{{ not 0 }}{{ len .Messages }}", "03true4"),
        ("{{ .Nothing }}", "<no value>"),
    ],
)
def test_functions_give_what_go_gives(action, expected):
    assert render("{{ range .Messages }}{{ end }}" + action, CHAT) == expected


def test_a_missing_field_of_a_message_is_an_error_that_lists_the_fields():
    with pytest.raises(TemplateError, match=r"line 2: a message has no field Nope; it has Role, Content"):
        render("{{ range .Messages }}\n{{ .Nope }}{{ end }}", CHAT)


@pytest.mark.parametrize(
    "template",
    ["{{ .Prompt ", "{{ if .Prompt }}a", "{{ end }}", "{{ else }}", "{{ .Prompt }}{{ nope }}", '{{ .Prompt }}{{ "a }}'],
)
def test_a_broken_template_is_refused(template):
    with pytest.raises(TemplateError, match="template: "):
        render(template, CHAT)


HOSTILE = [
    "{{ range 1000000000 }}{{ end }}{{ .Prompt }}",
    '{{ printf "%1000000000d" 1 }}',
    '{{ printf "%*d" 1000000000 1 }}',
    '{{ $x := "aaaaaaaaaa" }}{{ range 60 }}{{ $x = print $x $x }}{{ end }}{{ $x }}',
    '{{ $x := "aaaaaaaaaa" }}{{ range 60 }}{{ $x = printf "%s%s" $x $x }}{{ end }}{{ $x }}',
    '{{ $x := "\\\\" }}{{ range 60 }}{{ $x = printf "%q" $x }}{{ end }}{{ $x }}',
    '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}',
    "{{ range 999999 }}" + "x" * 1000 + "{{ end }}",
    "{{ if 1 }}" * 3000 + "{{ end }}" * 3000,
    "{{ .Prompt }}{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ .Prompt.__class__ }}",
    "{{ range .Messages }}{{ .__class__ }}{{ end }}",
    "{{ range .Messages }}{{ .fields }}{{ end }}",
    "{{ .Prompt.upper }}",
]


@pytest.mark.parametrize("template", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_template_ends_in_an_error(template):
    with pytest.raises(TemplateError, match="template: "):
        render(template, CHAT[:2])


def test_templates_that_call_one_another_without_end_run_out_of_time():
    pair = '{{ define "a%d" }}{{ template "a%d" . }}{{ template "a%d" . }}{{ end }}'
    template = "".join(pair % (i, i + 1, i + 1) for i in range(40)) + '{{ define "a40" }}{{ end }}{{ template "a0" . }}'
    with pytest.raises(TemplateError, match=r"seconds|budget"):
        render(template, CHAT)


def test_tags_are_read_off_the_template():
    template = (
        "{{ range .Messages }}{{ if and $.IsThinkSet .Thinking }}<think>\n{{ .Thinking }}\n</think>{{ end }}"
        '{{ if .ToolCalls }}\n{{ range .ToolCalls }}<tool_call>\n{"name": "{{ .Function.Name }}"}{{ end }}'
        "{{ end }}{{ end }}"
    )
    assert infer_tags(template) == {"thinking": ("<think>", "</think>"), "tool": "<tool_call>"}
    assert infer_tags("{{ .Prompt }}") == {"thinking": ("", ""), "tool": "{"}


def test_fields_are_found_in_every_place():
    template = (
        '{{ define "m" }}{{ .Content }}{{ end }}{{ $last := 1 }}{{ if and .A (eq .B.C "no.Text .Nor" `.This`) }}'
        "{{ else if $.D }}{{ else }}{{ (index .E 0).F }}{{ end }}{{/* .Comment */}}"
        '{{ template "m" $last }}{{ .Response }}'
    )
    assert template_fields(template) == {"content", "a", "b", "c", "$", "d", "e", "f", "$last", "response"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{{ .Prompt }}", "go"),
        ("{{- if .System }}x{{ end }}", "go"),
        ("{{- range $i, $_ := .Messages }}{{ end }}", "go"),
        ("{{ (index .Messages 0).Content }}", "go"),
        ("no marks at all", "go"),
        ("{{ bos_token }}", "jinja"),
        ("{{ 'x' }}", "jinja"),
        ("{{ ('{0}' * 3).format(1) }}", "jinja"),
        ("{%- for m in messages %}{{ m['content'] }}{%- endfor %}", "jinja"),
        ("{{ range(3) | join }}", "jinja"),
    ],
)
def test_the_kind_of_a_template_is_seen_from_its_text(text, kind):
    assert template_kind(text) == compile_template(text).kind == kind


@given(st.text(alphabet="{}-/*.`\"'| \nABif", max_size=40))
def test_any_text_renders_or_is_a_template_error(text):
    try:
        prompt = render(text, CHAT)
    except TemplateError as e:
        assert str(e).startswith("template: ")  # noqa: PT017, either outcome is right
    else:
        assert isinstance(prompt, str)


def test_a_go_template_that_lacks_its_end_is_not_taken_for_jinja():
    assert template_kind("{{ if .System }}x") == "go"
    with pytest.raises(TemplateError, match=r"\{\{ if \}\} lacks its \{\{ end \}\}"):
        compile_template("{{ if .System }}x")
