"""What models say comes apart into content, thinking and tool calls; the expected parts are written out by hand."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import puna
from puna.errors import RequestError
from puna.template.parsing import PARSERS, find_format, open_parser, parse_text

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "tags": {"type": "array"}},
            "required": ["city"],
        },
    },
}
RAIN = ("weather", {"city": "Hilo", "days": 2})
SUN = ("weather", {"city": "Kona"})

# format, think, what the model says, and its content, thinking and calls
SAID = [
    ("passthrough", None, "<think>a</think> <tool_call>", "<think>a</think> <tool_call>", "", []),
    (
        "hermes",
        None,
        "<think>\nHm.\n</think>\n\nLet me see.\n<tool_call>\n"
        '{"name": "weather", "arguments": {"city": "Hilo", "days": 2}}\n</tool_call>',
        "Let me see.",
        "Hm.",
        [RAIN],
    ),
    (
        "hermes",
        None,
        '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>!',
        "!",
        "",
        [("f", {"a": "</tool_call>"})],
    ),
    ("hermes", None, "I write <tool_call> and </tool_call>.", "I write <tool_call> and </tool_call>.", "", []),
    ("hermes", None, "I write <tool_call> like this.", "I write  like this.", "", []),
    ("qwen3", True, "Hm.</think>\n\nYes.", "Yes.", "Hm.", []),
    ("qwen3", True, "I could say <tool_call> here.</think>No.", "No.", "I could say <tool_call> here.", []),
    ("hermes", None, 'So: <tool_call>{"name": "weather", "arguments": {"city": "Kona"}}</tool_call>', "So:", "", [SUN]),
    (
        "qwen3.5",
        True,
        "Hm.\n</think>\n\n<tool_call>\n<function=weather>\n<parameter=city>\nHilo\n</parameter>\n<parameter=days>\n2\n"
        "</parameter>\n</function>\n</tool_call>",
        "",
        "Hm.",
        [RAIN],
    ),
    (
        "qwen3-coder",
        None,
        "<tool_call>\n<function=f>\n<parameter=code>\nif a < b:\n    print('</tool_call>')\n</parameter>\n</function>\n"
        "</tool_call>",
        "",
        "",
        [("f", {"code": "if a < b:\n    print('</tool_call>')"})],
    ),
    (
        "llama3",
        None,
        '{"name": "weather", "parameters": {"city": "Kona"}}',
        "",
        "",
        [SUN],
    ),
    ("llama3", None, '<|python_tag|>{"name": "weather", "parameters": {"city": "Kona"}}<|eom_id|>', "", "", [SUN]),
    ("llama3", None, '{"size": 3}', '{"size": 3}', "", []),
    ("llama3", None, '{"name": "Kona", "size": 3}', '{"name": "Kona", "size": 3}', "", []),
    (
        "mistral",
        None,
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Hilo", "days": 2}}, {"name": "weather", "arguments": '
        '{"city": "Kona"}}]',
        "",
        "",
        [RAIN, SUN],
    ),
    ("mistral", None, 'Wait.[TOOL_CALLS]weather[CALL_ID]a1[ARGS]{"city": "Kona"}', "Wait.", "", [SUN]),
    ("ministral", None, '[THINK]Hm.[/THINK]So.[TOOL_CALLS]weather[ARGS]{"city": "Kona"}', "So.", "Hm.", [SUN]),
    (
        "deepseek3",
        True,
        "Hm.</think>Both.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>"
        '{"city": "Hilo", "days": 2}<｜tool▁call▁end｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>'
        '{"city": "Kona"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        "Both.",
        "Hm.",
        [RAIN, SUN],
    ),
    (
        "deepseek3",
        None,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
        '{"city": "Kona"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        "",
        "",
        [SUN],
    ),
    (
        "gemma4",
        True,
        '<|channel>thought\nHm.<channel|>So.<|tool_call>call:weather{city:<|"|>Hilo<|"|>,days:2}<tool_call|>',
        "So.",
        "Hm.",
        [RAIN],
    ),
    (
        "functiongemma",
        None,
        "<start_function_call>call:weather{city:<escape>Hilo<escape>,days:2}<end_function_call>",
        "",
        "",
        [RAIN],
    ),
    (
        "harmony",
        None,
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>Let me see.<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"
        '{"city": "Kona"}<|call|>',
        "Let me see.",
        "Hm.",
        [SUN],
    ),
    ("harmony", None, "<|channel|>final<|message|>Yes, 1 < 2 <|x|>.", "Yes, 1 < 2 <|x|>.", "", []),
    ("harmony", None, "It was trained to say this.", "It was trained to say this.", "", []),
    (
        "glm-4.7",
        None,
        "Hm.</think>So.\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Hilo</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
        "So.",
        "Hm.",
        [RAIN],
    ),
    (
        "granite",
        None,
        '<think>Hm.</think><|tool_call|>[{"name": "weather", "arguments": {"city": "Kona"}}]',
        "",
        "Hm.",
        [SUN],
    ),
    (
        "command-r",
        None,
        'Action: ```json\n[{"tool_name": "weather", "parameters": {"city": "Kona"}}]\n```',
        "",
        "",
        [SUN],
    ),
    (
        "cohere",
        None,
        "Hm.<|END_THINKING|><|START_ACTION|>"
        '[{"tool_call_id": "0", "tool_name": "weather", "parameters": {"city": "Kona"}}]<|END_ACTION|>',
        "",
        "Hm.",
        [SUN],
    ),
    (
        "minicpm",
        None,
        'So.<function name="weather"><param name="city">Hilo</param><param name="days">2</param></function>',
        "So.",
        "",
        [RAIN],
    ),
    (
        "kimi",
        None,
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
        '{"city": "Kona"}<|tool_call_end|><|tool_calls_section_end|>',
        "",
        "",
        [SUN],
    ),
    ("phi4", None, '<|tool_call|>[{"name": "weather", "arguments": {"city": "Kona"}}]<|/tool_call|>', "", "", [SUN]),
    (
        "olmo3",
        None,
        "So.<function_calls>weather(city=\"Hilo\", days=2)\nweather(city='Kona')</function_calls>",
        "So.",
        "",
        [RAIN, SUN],
    ),
    ("lfm2", None, '<|tool_call_start|>[weather(city="Hilo", days=2)]<|tool_call_end|>So.', "So.", "", [RAIN]),
    ("laguna", True, 'Hm.</think>\n<tool_call>weather\n{"city": "Kona"}</tool_call>', "", "Hm.", [SUN]),
    (
        "glimmer",
        None,
        ' to=self<|message|>Hm.<|eom|><|start|>assistant to=weather<|message|><atem:function_calls><atem:invoke name="'
        'weather"><atem:parameter name="city">Kona</atem:parameter></atem:invoke></atem:function_calls><|eot|>',
        "",
        "Hm.",
        [SUN],
    ),
]


def parts(message):
    return message.content, message.thinking, [(call.name, call.arguments) for call in message.tool_calls]


def said(name, text, **more):
    return parts(puna.parse_output(name, text, **more))


@pytest.mark.parametrize(("name", "think", "text", "content", "thinking", "calls"), SAID)
def test_an_answer_comes_apart_whole_and_in_single_characters(name, think, text, content, thinking, calls):
    expected = (content, thinking, calls)
    assert said(name, text, tools=[WEATHER], think=think) == expected
    assert said(name, list(text), tools=[WEATHER], think=think) == expected


@pytest.mark.parametrize(("name", "think", "text"), [row[:3] for row in SAID])
def test_an_answer_that_breaks_off_anywhere_comes_apart_the_same_however_it_is_cut(name, think, text):
    for end in range(len(text)):
        whole = said(name, text[:end], tools=[WEATHER], think=think)
        assert said(name, list(text[:end]), tools=[WEATHER], think=think) == whole


# What random answers are made of: tags of every format, pieces of calls, space, and words that are found again.
TAGS = sorted({tag for name in PARSERS for tag in find_format(name).markup})
PIECES = [
    '{"name": "WORD", "arguments": {"WORD": 1}}',
    "[",
    "]",
    "{",
    "}",
    '"',
    "<",
    "</",
    "\n",
    "  ",
    "call:",
    "WORD(",
]
ANSWERS = st.lists(st.sampled_from([*TAGS, *PIECES]) | st.just("WORD"), max_size=12).map("".join)


def numbered(text):
    """The text with each WORD another one."""
    numbers = iter(range(1000))
    return re.sub("WORD", lambda _: f"w{next(numbers):03}w", text)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=25)
@given(ANSWERS, st.sampled_from([None, True, False]), st.booleans(), st.integers(0, 2**32))
def test_how_an_answer_is_cut_changes_nothing(name, text, think, offered, seed):
    tools = [WEATHER] if offered else None
    chance = random.Random(seed)
    cuts = sorted(chance.randrange(len(text) + 1) for _ in range(5))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = said(name, text, tools=tools, think=think)
    assert said(name, pieces, tools=tools, think=think) == whole
    assert said(name, list(text), tools=tools, think=think) == whole


# Harmony's and Glimmer's headers say whom a message is for, and Cogito's outputs of tools are none of the answer.
KEEPING = [name for name in PARSERS if name not in ("harmony", "glimmer", "cogito")]


@pytest.mark.parametrize("name", KEEPING)
@settings(max_examples=25)
@given(ANSWERS, st.booleans())
def test_no_word_of_an_answer_is_lost(name, text, offered):
    text = numbered(text)
    found = repr(said(name, text, tools=[WEATHER] if offered else None, think=True))
    assert [word for word in re.findall(r"w\d+w", text) if word not in found] == []


def test_what_is_certain_comes_at_once_and_what_may_begin_a_tag_waits():
    parser = open_parser("hermes", tools=[WEATHER])
    steps = ["Hi", " the", "re <tool", "box>", "<tool_call>", '{"name": "f"', "}</tool_call>"]
    deltas = [*map(parser.push, steps), parser.close()]
    assert [delta.content for delta in deltas] == ["Hi", " the", "re", " <toolbox>", "", "", "", ""]
    assert [len(delta.tool_calls) for delta in deltas] == [0, 0, 0, 0, 0, 0, 1, 0]


def test_calls_are_numbered_in_the_order_in_which_they_come():
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    message = puna.parse_output("hermes", call * 3)
    assert [each.index for each in message.tool_calls] == [0, 1, 2]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<|assistant|>", ("a</think>b", "", [])),
        ("<|assistant|>\n<think>\n", ("b", "a", [])),
        ("<|assistant|>\n<think>\n\n</think>\n\n", ("a</think>b", "", [])),
    ],
)
def test_the_end_of_the_prompt_shows_whether_thinking_is_open(prompt, expected):
    assert parts(parse_text(open_parser("hermes", prompt=prompt), ["a</think>b"])) == expected


def test_a_prompt_that_opens_no_thinking_says_more_than_the_request():
    parser = open_parser("cohere", think=True, prompt="<|CHATBOT_TOKEN|>")
    assert parts(parse_text(parser, ["<|START_RESPONSE|>a<|END_RESPONSE|>"])) == ("a", "", [])


def test_an_answer_that_goes_on_a_message_of_the_assistant_goes_on_where_it_stopped():
    assert said("qwen3.5", " b", last_message={"role": "assistant", "content": "a"}) == (" b", "", [])
    assert said("hermes", " b</think>c", last_message={"role": "assistant", "thinking": "a"}) == ("c", "b", [])


def test_a_message_of_the_assistant_that_the_prompt_does_not_end_with_is_not_gone_on():
    last = {"role": "assistant", "content": "earlier"}
    parser = open_parser("hermes", last_message=last, prompt="earlier<|im_end|><|im_start|>assistant\n")
    assert parts(parse_text(parser, ["<think>a</think>b"])) == ("b", "a", [])


@pytest.mark.parametrize(
    ("types", "text", "value"),
    [
        (["string"], "12", "12"),
        (["integer"], "12", 12),
        (["integer"], "1.5", "1.5"),
        (["number"], "1.50", 1.5),
        (["number"], "2e3", 2000),
        (["number"], "nan", "nan"),
        (["boolean"], "True", True),
        (["boolean"], "yes", False),
        (["array", "string"], "[1", "[1"),
        (["array"], '[1, "a"]', [1, "a"]),
        (["object"], '{"a": null}', {"a": None}),
        (["string", "null"], "null", None),
        (["string", "integer"], "7", 7),
        ([], "7", "7"),
    ],
)
def test_values_without_types_are_typed_by_the_schema(types, text, value):
    tool = {"function": {"name": "f", "parameters": {"properties": {"a": {"type": types}}}}}
    call = f"<tool_call><function=f><parameter=a>\n{text}\n</parameter></function></tool_call>"
    assert said("qwen3-coder", call, tools=[tool]) == ("", "", [("f", {"a": value})])


GO = '{{ if .ToolCalls }}%s{{ range .ToolCalls }}{"name": "{{ .Function.Name }}"}{{ end }}{{ end }}'


@pytest.mark.parametrize(
    ("template", "text", "expected"),
    [
        (
            GO % "<call>",
            'So. <call>{"name": "weather", "arguments": {"city": "Kona"}}</call> Now.',
            ("So. Now.", "", [SUN]),
        ),
        (GO % "<call>", '<call>weather({"city": "Kona"})', ("", "", [SUN])),
        (GO % "<call>", '<call>{"weather": {"city": "Kona"}}</call>', ("", "", [SUN])),
        (GO % "<call>", "<call>I cannot do that</call>", ("<call>I cannot do that", "", [])),
        (GO % "", '{"name": "weather", "arguments": {"city": "Kona"}}', ("", "", [SUN])),
        (GO % "", '{"name": "Kona"}', ('{"name": "Kona"}', "", [])),
        (GO % "", "for {x} in", ("for {x} in", "", [])),
        (GO % "[", '[{"name": "weather", "parameters": {"city": "Kona"}}]', ("", "", [SUN])),
        (GO % "[", "[1, 2] is a list", ("[1, 2] is a list", "", [])),
    ],
)
def test_a_go_template_shows_where_calls_are(template, text, expected):
    assert said(template, text, tools=[WEATHER]) == expected
    assert said(template, list(text), tools=[WEATHER]) == expected


def test_a_go_template_shows_how_thinking_is_written():
    template = "{{ range .Messages }}{{ if .Thinking }}<hm>{{ .Thinking }}</hm>{{ end }}{{ .Content }}{{ end }}"
    assert said(template, " <hm> a</hm>\nb") == ("b", "a", [])
    assert said(template, "b <hm> a</hm>") == ("b <hm> a</hm>", "", [])


def test_an_unknown_name_is_one_error():
    with pytest.raises(RequestError, match=r"parser 'qwen9' is unknown; there are .*qwen3"):
        open_parser("qwen9")


def test_a_format_tells_what_begins_a_call_and_what_ends_thinking():
    assert find_format("hermes").call_begins == ("<tool_call>",)
    assert find_format("hermes").thinking_ends == "</think>"
    assert find_format("laguna").call_begins == find_format("glm-4.7").call_begins == ("<tool_call>",)
    assert find_format("cogito").call_begins == ("<｜tool▁call▁begin｜>",)
    assert find_format("harmony").call_begins == ("<|channel|>commentary to=functions.",)
    assert find_format("passthrough").call_begins == ()
    assert find_format("passthrough").thinking_ends == ""


WRITTEN = [name for name in PARSERS if find_format(name).writes]


def test_most_formats_write_arguments_as_json():
    assert {"hermes", "qwen3", "llama3", "mistral", "ministral", "deepseek3", "harmony", "granite", "cohere"} < {
        *WRITTEN
    }
    assert find_format("hermes").call_around("f") == ('<tool_call>\n{"name": "f", "arguments": ', "}\n</tool_call>")
    assert find_format("qwen3-coder").call_around("f") == (
        "<tool_call>\n<function=f>\n",
        "</function>\n</tool_call>",
    )
    assert find_format("passthrough").call_around("f") is None


ARGUMENTS = {
    "<function=": "<parameter=city>\nKona\n</parameter>\n",
    "<tool_call>NAME": "<arg_key>city</arg_key><arg_value>Kona</arg_value>",
    "<function name": '<param name="city">Kona</param>',
    "<atem": '<atem:parameter name="city">Kona</atem:parameter>\n',
    "NAME(": 'city="Kona"',
    "<|tool_call>call:NAME{": 'city:<|"|>Kona<|"|>',
    "<start_function_call>call:NAME{": "city:<escape>Kona<escape>",
    "": '{"city": "Kona"}',
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_call_that_is_written_as_a_format_says_is_read(name):
    format = find_format(name)
    before, behind = format.call_around("weather")
    written = next(text for part, text in ARGUMENTS.items() if part in format.writes[0] and (format.style or not part))
    assert said(name, before + written + behind, tools=[WEATHER], think=False) == ("", "", [SUN])


JINJA = """{%% for m in messages %%}<|{{ m.role }}|>
{%% if m.reasoning_content %%}<hm>{{ m.reasoning_content }}</hm>{%% endif %%}{{ m.content or '' }}\
{%% for call in m.tool_calls or [] %%}%s{%% endfor %%}<|end|>
{%% endfor %%}{%% if add_generation_prompt %%}<|assistant|>
{%% endif %%}"""


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            "<call>{{ call.function | tojson }}</call>",
            '<call>{"name": "weather", "arguments": {"city": "Kona"}}</call>',
        ),
        (
            "<go><call>{{ call.function.name }}<of>{{ call.function.arguments | tojson }}</of></call></go>",
            '<go><call>weather<of>{"city": "Kona"}</of></call></go>',
        ),
        (
            '<x:call><invoke name="{{ call.function.name }}">{% for k, v in call.function.arguments.items() %}'
            '<parameter name="{{ k }}">{{ v }}</parameter>{% endfor %}</invoke></x:call>',
            '<x:call><invoke name="weather"><parameter name="city">Kona</parameter></invoke></x:call>',
        ),
        (
            "<x:call><function={{ call.function.name }}>{% for k, v in call.function.arguments.items() %}"
            "<parameter={{ k }}>{{ v }}</parameter>{% endfor %}</function></x:call>",
            "<x:call><function=weather><parameter=city>Kona</parameter></function></x:call>",
        ),
        ("{{ call.function | tojson }}", '{"name": "weather", "arguments": {"city": "Kona"}}'),
        ("[CALLS]{{ call.function.name }}{{ call.function.arguments | tojson }}", '[CALLS]weather{"city": "Kona"}'),
    ],
)
def test_a_jinja_template_shows_how_answers_are_written(call, text):
    template = JINJA % call
    assert said(template, f"<hm>a</hm>{text}", tools=[WEATHER]) == ("", "a", [SUN])
    assert said(template, list(f"<hm>a</hm>{text}"), tools=[WEATHER]) == ("", "a", [SUN])
    assert said(template, "<hm>a</hm> {b}", tools=[WEATHER]) == ("{b}", "a", [])
    format = find_format(template)
    before, behind = format.call_around("weather")
    tags = (format.style.before.replace("KEY", "city"), format.style.behind) if format.style else ('{"city": "', '"}')
    assert before + "Kona".join(tags) + behind == text


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ('<call>{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}</call>', None),
        ('{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}', None),
        ('[CALLS][{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}]', None),
        ("<call>{{ .Function.Name }}", '<call>{"name": "weather", "arguments": {"city":"Kona"}}</call>'),
        ("[{{ .Function.Name }}]", '[{"name": "weather", "arguments": {"city":"Kona"}}]'),
    ],
)
def test_a_go_template_shows_how_calls_are_written_or_they_are_json_behind_its_tag(shown, text):
    template = (
        "{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}{{ if .ToolCalls }}"
        + re.sub(r"^(<call>|\[CALLS\]\[|\[|)(.*?)(</call>|\]|)$", r"\1{{ range .ToolCalls }}\2{{ end }}\3", shown)
        + "{{ end }}{{ end }}"
    )
    format = find_format(template)
    before, behind = format.call_around("weather")
    rendered = shown.replace("{{ .Function.Name }}", "weather").replace("{{ .Function.Arguments }}", '{"city":"Kona"}')
    assert before + '{"city":"Kona"}' + behind == (text or rendered)
    assert said(template, text or rendered, tools=[WEATHER]) == ("", "", [SUN])


def test_a_known_format_is_written_as_its_template_lays_it_out():
    call = (
        "<tool_call>{{ call.function.name }}\n{% for k, v in call.function.arguments.items() %}"
        "<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>\n{% endfor %}</tool_call>"
    )
    format = find_format(JINJA.replace("<hm>", "<think>").replace("</hm>", "</think>") % call)
    assert (format.name, format.writes) == ("glm-4.7", ("<tool_call>NAME\n", "</tool_call>"))
    assert (format.style.before, format.style.behind) == ("<arg_key>KEY</arg_key>\n<arg_value>", "</arg_value>\n")


# What is in the published templates of each family, with what its models answer.
MARKS = {
    "harmony": "<|start|>assistant<|channel|>final<|message|>",
    "cohere": "<|START_ACTION|>",
    "command-r": "Action:\n```json\n",
    "deepseek3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
    "ministral": "[THINK] [TOOL_CALLS]name[ARGS]",
    "mistral": "[TOOL_CALLS] [",
    "glm-4.7": "<tool_call>f<arg_key>",
    "qwen3-coder": "<tool_call><function=f><parameter=a>",
    "qwen3.5": "<think><tool_call><function=f><parameter=a>",
    "granite": "<|tool_call|>[",
    "phi4": "<|tool_call|>[]<|/tool_call|>",
    "llama3": "<|python_tag|>",
    "hermes": '<tool_call>\n{"name"',
    "gemma4": "<|tool_call>call:",
    "kimi": "<|tool_call_begin|>",
    "minicpm": '<function name="f"><param name="a">1</param></function>',
}


@pytest.mark.parametrize("name", MARKS)
def test_the_families_in_use_are_known_by_their_templates(name):
    assert find_format("{% for m in messages %}" + MARKS[name] + "{% endfor %}").name == name


def test_a_template_that_shows_nothing_leaves_answers_as_they_are():
    assert said("{% for m in messages %}{{ m.content }}{% endfor %}", "<a>b</a>{}", tools=[WEATHER]) == (
        "<a>b</a>{}",
        "",
        [],
    )
    assert said("{{ raise_exception('no') }}{% if 0 %}{% endif %}", "<a>b</a>", tools=[WEATHER]) == ("<a>b</a>", "", [])


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    "text", ["[", '{"a":', "<tool_call>", "</think>", "<think>", "f(a=[", "call:f{a:{b:", "<|message|>"]
)
def test_what_is_repeated_without_end_is_read_to_the_end(name, text):
    begin, _ = find_format(name).call_around("weather") or ("".join(find_format(name).call_begins), "")
    content, thinking, calls = said(name, begin + text * 5000 + "end", tools=[WEATHER], think=True)
    assert (content or thinking).endswith("end")
    assert calls == []


def test_gemma_goes_on_thinking_behind_what_a_tool_said_with_or_without_its_tag():
    last = {"role": "tool", "content": "rain"}
    assert said("gemma4", "a<channel|>b", think=True, last_message=last) == ("b", "a", [])
    assert said("gemma4", "<|channel>thought\na<channel|>b", think=True, last_message=last) == ("b", "a", [])
    parser = open_parser("gemma4", prompt="<|turn>model\n<|channel>thought\n")
    assert parts(parse_text(parser, ["a<channel|>b"])) == ("b", "a", [])
