"""Calls that an answer is held to, by random logits: whatever the format, they are read and fit their schemas."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cli.tiny import metadata
from golden.checkpoints import alphabet
from puna.asking.answering import Answering, Words
from puna.calling.calls import Calls, calls_of
from puna.engine.engine import Engine
from puna.engine.limits import Limits
from puna.errors import RequestError
from puna.generation import parse_options
from puna.template.parsing import PARSERS, find_format, open_parser
from puna.tokenizer import load_tokenizer

END = 256
WRITTEN = [name for name in PARSERS if find_format(name).writes and find_format(name).name == name]
ENOUGH = 100
LIKELY = {'"': 5.0, "}": 3.0, "]": 3.0, " ": -3.0}


def tool(name, strict=None, **schema):
    function = {"name": name, "parameters": {"type": "object", **schema}}
    return {"type": "function", "function": function | ({} if strict is None else {"strict": strict})}


TEXT = {"type": "string", "maxLength": 4}
SCHEMAS = {
    "nothing": {},
    "listed": {"properties": {"a": TEXT, "b": {"type": "integer"}}, "required": ["a", "b"]},
    "optional": {"properties": {"a": TEXT, "b": {"type": "boolean"}, "c": {"type": "null"}}, "required": ["b"]},
    "bounds": {"properties": {"n": {"type": "integer", "minimum": 3, "maximum": 12}}, "required": ["n"]},
    "one of": {"properties": {"unit": {"enum": ["C", "F", 'a "quoted" one']}}, "required": ["unit"]},
    "constant": {"properties": {"kind": {"const": "x"}}, "required": ["kind"]},
    "either": {"properties": {"v": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}, "required": ["v"]},
    "list": {"properties": {"l": {"type": "array", "items": TEXT, "minItems": 1, "maxItems": 3}}, "required": ["l"]},
    "inner": {
        "properties": {"o": {"type": "object", "properties": {"p": {"type": "number"}}, "required": ["p"]}},
        "required": ["o"],
    },
    "pattern": {"properties": {"d": {"type": "string", "pattern": "^[0-9]{2}-[a-c]+$"}}, "required": ["d"]},
    "reference": {
        "properties": {"r": {"$ref": "#/$defs/half"}},
        "required": ["r"],
        "$defs": {"half": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}},
    },
}
STYLES = ("qwen3", "qwen3-coder", "glm-4.7", "minicpm", "glimmer", "olmo3", "lfm2", "gemma4", "functiongemma")
"""A format for each way to write arguments."""
HARDER = {
    "text or number": {"properties": {"v": {"anyOf": [{"type": "integer"}, TEXT]}}, "required": ["v"]},
    "text or few": {
        "properties": {"v": {"anyOf": [{"type": "integer", "minimum": 3, "maximum": 7}, TEXT]}},
        "required": ["v"],
    },
    "text or list": {
        "properties": {"v": {"anyOf": [{"type": "array", "items": {"type": "null"}}, TEXT]}},
        "required": ["v"],
    },
    "text like a number": {
        "properties": {"v": {"type": "string", "pattern": "^[0-9]{2}$"}, "w": {"type": ["string"], "enum": ["1e3"]}},
        "required": ["v", "w"],
    },
    "a pattern or another": {"properties": {"v": {"type": "string", "pattern": "^[nN]ull?$|^a/b$"}}, "required": ["v"]},
    "kinds listed": {"properties": {"v": {"enum": [1, 2.5, True, None, "x"]}}, "required": ["v"]},
    "formats": {
        "properties": {key: {"type": "string", "format": key} for key in ("date", "uuid", "ipv4", "time")},
        "required": ["date", "uuid", "ipv4", "time"],
    },
    "others": {"properties": {"a": TEXT}, "additionalProperties": {"type": "integer"}},
    "tree": {
        "properties": {"r": {"$ref": "#/$defs/tree"}},
        "required": ["r"],
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {
                    "v": {"type": "integer"},
                    "n-1": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
                },
                "required": ["v", "n-1"],
            }
        },
    },
    "names of any kind": {
        "properties": {"m": {"type": "object", "additionalProperties": {"type": "integer"}, "required": ["x"]}},
        "required": ["m"],
    },
    "numbers listed": {"properties": {"n": {"enum": [2.0, -1, 1e20]}}, "required": ["n"]},
    "many": {
        "properties": {"l": {"type": "array", "items": {"const": 1}, "minItems": 40, "maxItems": 1000}},
        "required": ["l"],
    },
    "a pair": {
        "properties": {
            "p": {"type": "array", "prefixItems": [{"type": "integer"}, TEXT], "minItems": 2, "maxItems": 2},
            "q": {
                "type": "array",
                "prefixItems": [{"type": "null"}, TEXT],
                "items": {"type": "boolean"},
                "minItems": 1,
            },
            "n": {"type": "array", "prefixItems": [{"type": "null"}], "items": False},
            "z": {"type": "array", "items": TEXT, "maxItems": 0},
        },
        "required": ["p", "q", "n", "z"],
    },
    "lists of lists": {
        "properties": {"l": {"type": "array", "items": {"type": "array", "items": TEXT, "maxItems": 2}}},
        "required": ["l"],
    },
    "all of": {
        "properties": {"v": {"allOf": [{"$ref": "#/$defs/few"}, {"minimum": 2}], "description": "d"}},
        "required": ["v"],
        "$defs": {"few": {"type": "number", "maximum": 5}},
    },
    "later": {"properties": {"a": TEXT, "b": TEXT, "c": {"type": "integer"}, "d": TEXT}, "required": ["c"]},
}
WRITTEN_AS = {
    "date": r"\d{4}-\d\d-\d\d",
    "time": r"\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)",
    "uuid": r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "ipv4": r"\d{1,3}(\.\d{1,3}){3}",
}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def fits(value, schema, root):
    """Whether a value follows a schema, as far as the schemas above go; no property is there that is not listed."""
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return any(fits(value, each, root) for each in schema["anyOf"])
    if "allOf" in schema and not all(fits(value, each, root) for each in schema["allOf"]):
        return False
    if isinstance(schema.get("type"), list):
        return any(fits(value, {**schema, "type": kind}, root) for kind in schema["type"])
    kind = schema.get("type")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if (kind == "integer" and not (number and value == int(value))) or (kind == "number" and not number):
        return False
    if kind in TYPES and not isinstance(value, TYPES[kind]):
        return False
    if ("enum" in schema and value not in schema["enum"]) or ("const" in schema and value != schema["const"]):
        return False
    if isinstance(value, dict):
        known, other = schema.get("properties"), schema.get("additionalProperties")
        return set(schema.get("required", ())) <= set(value) and (
            (known is None and other is None)
            or all(
                fits(each, (known or {})[name], root)
                if name in (known or {})
                else other is not None and fits(each, other, root)
                for name, each in value.items()
            )
        )
    if isinstance(value, list):
        low, high = schema.get("minItems", 0), schema.get("maxItems", 10**9)
        placed, alike = schema.get("prefixItems", []), schema.get("items", {})
        rest = all(alike is not False and fits(each, alike, root) for each in value[len(placed) :])
        return (
            low <= len(value) <= high
            and rest
            and all(fits(each, part, root) for each, part in zip(value, placed, strict=False))
        )
    if isinstance(value, str):
        written = re.fullmatch(WRITTEN_AS[schema["format"]], value) if "format" in schema else True
        long = len(value) > schema.get("maxLength", 10**9)
        return not long and bool(written) and bool(re.search(schema.get("pattern", ""), value))
    return value is None or schema.get("minimum", -(10**99)) <= value <= schema.get("maximum", 10**99)


class Noise:
    """A model that says what it is told and then goes on at random, with what ends things a little above the rest.

    Once it has said enough, it says over and over what it `closes` with, where it may.
    """

    recurrent = False
    limits = Limits(slots=8192, states=0, tokens=64, outputs=8, sequences=4, table=128)

    def __init__(self, tokenizer, seed, begins, closes):
        self.width = tokenizer.vocab_size
        self._begins = tokenizer.encode(begins)
        self._closes = tokenizer.encode(closes)
        self._rng = np.random.default_rng(seed)
        self._likely = np.zeros(self.width, np.float32)
        for character, more in LIKELY.items():
            self._likely[ord(character)] = more
        self._likely[END:] = 3

    def copy(self, *blocks):
        """Nothing is kept of what was computed."""

    @staticmethod
    def best(logits, count):
        return np.argsort(-logits, kind="stable")[:count]

    def step(self, parts, outputs):
        (part,) = parts
        logits = self._rng.normal(scale=3, size=(len(outputs), self.width)).astype(np.float32) + self._likely
        for row, output in zip(logits, outputs, strict=True):
            at = part.start + output - len(self._begins)
            if at < 0:
                row[self._begins[at]] += 1000
            elif at > ENOUGH and self._closes:
                row[self._closes[at % len(self._closes)]] += 1000
        return logits


def tags(format):
    """The control tokens of a format's models: its markup that looks like such."""
    marks = set(format.markup) | set(re.findall(r"<[|｜][^<>]*[|｜]>", "".join([*(format.writes or ()), format.heads])))
    return sorted(mark for mark in marks if re.fullmatch(r"<[^<>\s]+>|\[/?[A-Z_]+\]", mark))


def closing(format):
    """What ends an argument that is free text, and its call; nothing where that needs no help."""
    behind = getattr(format.style, "behind", "")
    return behind and behind + format.writes[1]


def answering(tokens, seed, begins, closes=""):
    more = {
        "tokenizer.ggml.tokens": [*alphabet(), "<|return|>", *(t for t in tokens if t != "<|return|>")],
        "tokenizer.ggml.token_type": [1] * 256 + [3] * (1 + len([t for t in tokens if t != "<|return|>"])),
    }
    tokenizer = load_tokenizer(metadata(**more))
    engine = Engine(Noise(tokenizer, seed, begins, closes), 8192)
    runtime = SimpleNamespace(
        context_length=8192, reads=False, hparams=SimpleNamespace(context_length=8192), engine=engine,
        prepare=lambda: None, chosen=lambda adapters: (), load_seconds=0.0,
    )  # fmt: skip
    return Answering(runtime, tokenizer, Words(lambda: tokenizer))


def answered(format, calls, *, special=True, seed=0, begins="", form=None, limit=3000):
    """What comes as content, thoughts and calls, and why it ended."""
    format = find_format(format) if isinstance(format, str) else format
    parser = open_parser(format, tools=calls.tools, think=False)
    options = parse_options({}, {"temperature": 1, "top_k": 0, "top_p": 1, "seed": seed, "num_predict": limit})
    source = answering(tags(format) if special else [], seed, begins, closing(format))
    chunks = list(source.answer([10], options, parser, form, {}, calls))
    said = [call for chunk in chunks for call in chunk.tool_calls]
    text, thinking = ("".join(getattr(chunk, kind) for chunk in chunks) for kind in ("text", "thinking"))
    return text, thinking, said, chunks[-1].done_reason


@pytest.mark.parametrize(
    ("name", "special"),
    [(name, special) for name in WRITTEN for special in (True, False) if special or not find_format(name).rules],
)
def test_a_call_that_is_forced_comes_and_is_read_whatever_the_weights(name, special):
    tools = [tool(f"t{i}", **schema) for i, schema in enumerate(SCHEMAS.values())]
    schemas = [each["function"]["parameters"] for each in tools]
    for seed in range(4):
        format = find_format(name) if special else replace(find_format(name), thinking=None)
        calls = Calls(tools, forced=True, several=False)
        text, _, said, reason = answered(format, calls, special=special, seed=seed)
        assert not text.strip() or name == "harmony"  # which may say something to the user before
        assert (reason, len(said)) == ("stop", 1)
        schema = schemas[int(said[0].name[1:])]
        assert fits(said[0].arguments, schema, schema)


@pytest.mark.parametrize(
    ("name", "special"),
    [(name, special) for name in STYLES for special in (True, False) if special or not find_format(name).rules],
)
@pytest.mark.parametrize("kind", [*SCHEMAS, *HARDER])
def test_the_arguments_of_a_call_fit_their_schema_in_every_style(name, special, kind):
    schema = {**SCHEMAS, **HARDER}[kind]
    format = find_format(name) if special else replace(find_format(name), thinking=None)
    for seed in range(2):
        calls = Calls([tool("one", **schema)], forced=True, several=False)
        _, _, said, reason = answered(format, calls, special=special, seed=seed, limit=6000)
        assert (reason, [call.name for call in said]) == ("stop", ["one"])
        assert fits(said[0].arguments, schema, schema), said[0].arguments


FREE = {"type": "object", "properties": {"s": {"type": "string"}, "v": {"type": ["integer", "string", "null"]}}}
PYTHONS = {"s": 'a\tb \\ "c"\n[d](e) ü', "v": "<b>"}


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    ("name", "written", "read"),
    [
        (
            "qwen3-coder",
            "<parameter=s>\n\n<tool_use> a & b </parameter \n\n</parameter>\n<parameter=v>\n12\n</parameter>\n",
            {"s": "\n<tool_use> a & b </parameter \n", "v": 12},
        ),
        (
            "qwen3-coder",
            "<parameter=s>\n12\n</parameter>\n<parameter=v>\n12 m\n</parameter>\n",
            {"s": "12", "v": "12 m"},
        ),
        (
            "glm-4.7",
            "<arg_key>s</arg_key><arg_value>\n{} \n</arg_value><arg_key>v</arg_key><arg_value>null</arg_value>",
            {"s": "\n{} \n", "v": None},
        ),
        ("minicpm", '<param name="s"> a\n"b"</param><param name="v">-3</param>', {"s": ' a\n"b"', "v": -3}),
        ("olmo3", 's="a\\tb \\\\ \\"c\\"\n[d](e) ü", v="<b>"', PYTHONS),
        ("lfm2", "s=\"C:\\new\\x 'y' ü\",v=7", {"s": "C:\\new\\x 'y' ü", "v": 7}),
        ("gemma4-no-thinking", 's:<|"|>a "b", c:1}<|"|>,v:<|"|>12<|"|>', {"s": 'a "b", c:1}', "v": "12"}),
        ("functiongemma", "s:<escape>\n\n<escape>,v:null", {"s": "\n\n", "v": None}),
    ],
)
def test_free_text_comes_as_it_is_and_as_its_schema_says(name, special, written, read):
    before, behind = find_format(name).call_around("one")
    calls = Calls([{"type": "function", "function": {"name": "one", "parameters": FREE}}], forced=True, several=False)
    _, _, said, reason = answered(name, calls, special=special, begins=before + written + behind)
    assert ([(call.name, call.arguments) for call in said], reason) == ([("one", read)], "stop")


def test_a_tag_that_the_parser_knows_for_text_is_text():
    tools = [{"name": "one", "parameters": FREE}]
    text = "<tool_call>\n<function=one>\n<parameter=s>\n</tool_call>\n</parameter>\n</function>\n</tool_call>"
    _, _, said, _ = answered("qwen3-coder", Calls(tools, forced=True, several=False), special=False, begins=text)
    assert [call.arguments for call in said] == [{"s": "</tool_call>"}]


@pytest.mark.parametrize("name", [name for name in WRITTEN if find_format(name).again])
def test_several_calls_that_are_forced_are_all_read(name):
    tools = [tool("one", properties={"a": TEXT}, required=["a"]), tool("two")]
    counts = set()
    for seed in range(12):
        _, _, said, reason = answered(name, Calls(tools, forced=True), seed=seed)
        assert reason == "stop"
        assert {call.name for call in said} <= {"one", "two"}
        assert all(set(call.arguments) == {"a"} for call in said if call.name == "one")
        counts.add(len(said))
    assert min(counts) == 1
    assert max(counts) > 1


@pytest.mark.parametrize(
    ("name", "special"),
    [(name, special) for name in WRITTEN for special in (True, False) if special or not find_format(name).rules],
)
def test_a_strict_tool_is_called_or_not_but_never_with_other_arguments(name, special):
    format, schema = find_format(name), SCHEMAS["listed"]
    tools = [tool("one", strict=True, **schema), tool("two")]
    begins = format.writes[0].partition("NAME")[0]
    begins = f"</think>{begins}" if open_parser(format).thinking and len(format.opens) == 3 else begins
    alone = format.rules or any(section.bare for section in format.sections if begins.startswith(section.open))
    begins = begins if alone else f"hm{begins}"
    open_ended = format.heads.startswith(begins)  # it may go on as an answer to the user
    names = set()
    for seed in range(8):
        begun = begins + ("one", "two")[seed % 2] * open_ended
        text, thinking, said, _ = answered(format, Calls(tools), special=special, seed=seed, limit=900, begins=begun)
        assert said, (text, thinking)
        assert all(call.name in ("one", "two") for call in said)
        assert all(fits(call.arguments, schema, schema) for call in said if call.name == "one")
        names |= {call.name for call in said}
    assert names == {"one", "two"}


@pytest.mark.parametrize("name", [name for name in WRITTEN if not find_format(name).rules])
def test_an_answer_with_a_strict_tool_may_be_any_text_without_a_call(name):
    for begins in ("", "hm {[(<", "<tool", "Action: "):
        text, thinking, said, _ = answered(
            name, Calls([tool("one", strict=True)]), special=False, limit=100, begins=begins
        )
        assert (text + thinking).startswith(begins)
        assert not said


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("lfm2", "[one(a='x')]"),
        ("lfm2", " [one(a='x')]"),
        ("laguna", 'hm {"name": "one", "arguments": {"a": "x"}}'),
        ("laguna", 'hm <user>one\n{"a": "x"}</user>'),
        ("llama3", '<|python_tag|>{"name": "one", "parameters": {"a": "x"}}'),
        (
            "glimmer",
            ' to=user<|message|><atem:function_calls><atem:invoke name="one"></atem:invoke></atem:function_calls>',
        ),
        ("glimmer", " to=user<|message|>hm<|eom|><|start|>assistant to=one<|message|><atem:function_calls>"),
        ("harmony", "<|channel|>final<|message|>hm<|end|><|start|>assistant to=functions.one<|message|>{}<|call|>"),
    ],
)
def test_a_strict_tool_is_not_called_past_its_schema_in_another_way_that_the_format_reads(name, begins, special):
    if not special and find_format(name).rules:
        begins, special = f"{begins} ", True
    tools = [tool("one", strict=True, properties={"b": {"type": "integer"}}, required=["b"])]
    for seed in range(3):
        text, thinking, said, _ = answered(name, Calls(tools), special=special, seed=seed, begins=begins, limit=300)
        assert all(set(call.arguments) == {"b"} for call in said), said
        assert text + thinking or said


def test_a_format_in_which_nothing_is_called_refuses_to_be_forced():
    with pytest.raises(RequestError, match=r"forced tool choice is not available .*passthrough"):
        answered("passthrough", Calls([tool("one")], forced=True))
    with pytest.raises(RequestError, match=r"strict tools is not available .*passthrough"):
        answered("passthrough", Calls([tool("one", strict=True)]))


def test_a_tool_that_does_not_fit_is_refused_by_its_name():
    with pytest.raises(RequestError, match=r"'two'.*unevaluatedProperties"):
        answered("qwen3", Calls([tool("one"), tool("two", unevaluatedProperties=False)], forced=True))
    with pytest.raises(RequestError, match="'odd name'"):
        answered("ministral", Calls([tool("odd name")], forced=True))
    with pytest.raises(RequestError, match="'one' are no schema of an object"):
        answered("qwen3", Calls([{"name": "one", "parameters": {"type": "string"}}], forced=True))


TEXTS = {"type": "string"}


@pytest.mark.parametrize(
    ("name", "schema", "what"),
    [
        ("qwen3-coder", {"properties": {"a": {"type": "object", "minProperties": 1}}}, "minProperties"),
        ("lfm2", {"patternProperties": {"^a": TEXTS}}, "patternProperties"),
        ("gemma4", {"properties": {"a": {"type": "object", "maxProperties": 1}}}, "maxProperties"),
        ("qwen3-coder", {"properties": {"a": {"enum": ["x", "null"]}}}, "'null' cannot be written"),
        ("glm-4.7", {"properties": {"a": {"enum": [1, "1"]}}}, "'1' cannot be written"),
        ("minicpm", {"properties": {"a": {"const": "x\n"}}}, r"'x.*' cannot be written"),
        ("glm-4.7", {"properties": {"a": {"const": "</arg_value>"}}}, "'</arg_value>' cannot be written"),
        ("lfm2", {"properties": {"a": {"const": "'\""}}}, "cannot be written"),
        ("olmo3", {"properties": {"a": {"const": "\x01"}}}, "cannot be written"),
        ("gemma4", {"properties": {"a": {"const": '<|"|>'}}}, "cannot be written"),
        ("gemma4", {"properties": {"o": {"type": "object", "properties": {"a b": TEXTS}}}}, "'a b' cannot be written"),
        ("qwen3-coder", {"properties": {"a>b": TEXTS}}, "'a>b', for which"),
        ("olmo3", {"properties": {"a b": TEXTS}}, "'a b', for which"),
        ("qwen3-coder", {"properties": {"a": {"type": "string", "format": "regex"}}}, "format: regex"),
        ("olmo3", {"properties": {"a": {"allOf": [{"minimum": 1, "type": "integer"}, {"minimum": 2}]}}}, "minimum"),
        ("olmo3", {"properties": {"a": {}}, "required": ["b"]}, "'b' is unsatisfiable"),
    ],
)
def test_what_a_format_cannot_write_is_refused_by_tool_and_keyword(name, schema, what):
    with pytest.raises(RequestError, match=f"'two'.*{what}"):
        answered(name, Calls([tool("one"), tool("two", **schema)], forced=True))


@pytest.mark.parametrize("name", ["qwen3", "qwen3-coder", "harmony", "lfm2"])
def test_only_tools_that_are_allowed_are_called(name):
    tools = [tool(each, properties={"a": TEXT}, required=["a"]) for each in ("one", "two", "three")]
    names = set()
    for seed in range(8):
        calls = calls_of(tools, "required", False, ["two", "three"])
        _, _, said, _ = answered(name, calls, seed=seed)
        names |= {call.name for call in said}
    assert names == {"two", "three"}
    before, _ = find_format(name).call_around("o")
    _, _, said, _ = answered(name, calls_of(tools, "auto", False, ["two"]), begins=before)
    assert [call.name for call in said] == ["two"]


def test_what_may_be_called_follows_from_the_choice():
    tools = [tool("one")]
    assert calls_of(tools) == calls_of(tools, "auto") == Calls(tools)
    assert calls_of(tools, "required", False) == Calls(tools, forced=True, several=False)
    assert calls_of(tools, "auto", None, ["one"]) == Calls(tools, allowed=frozenset({"one"}))
    with pytest.raises(RequestError, match="'two'"):
        calls_of(tools, allowed=["two"])
    assert calls_of(tools, "none") is calls_of([]) is calls_of(None, "auto") is None
    for choice in ("required", "perhaps"):
        with pytest.raises(RequestError, match="tool_choice"):
            calls_of([], choice)


GO = (
    ("<call>", '{"name": "{{ .Function.Name }}", "args": {{ .Function.Arguments }}}', "</call>"),
    ("", '{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}', ""),
    ("[", '{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}', "]"),
    ("<|use|>", "{{ .Function.Name }}", ""),
)
JINJA = (
    "<call>{{ call.function | tojson }}</call>",
    '<x:call><invoke name="{{ call.function.name }}">{% for k, v in call.function.arguments.items() %}'
    '<parameter name="{{ k }}">{{ v }}</parameter>{% endfor %}</invoke></x:call>',
    "<call>{{ call.function.name }}({% for k, v in call.function.arguments.items() %}"
    "{{ k }}='{{ v }}'{% endfor %})</call>",
    "[CALLS]{{ call.function.name }}{{ call.function.arguments | tojson }}",
)
TEMPLATES = [
    *(
        "{{ range .Messages }}{{ .Content }}{{ if .ToolCalls }}" + open_ + "{{ range .ToolCalls }}" + each
        + "{{ end }}" + close + "{{ end }}{{ end }}"
        for open_, each, close in GO
    ),
    *(
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}{% for call in m.tool_calls or [] %}"
        + each + "{% endfor %}<|end|>{% endfor %}"
        for each in JINJA
    ),
]  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", [*SCHEMAS, *HARDER])
def test_calls_in_a_format_that_is_known_by_a_template_fit_their_schemas(template, kind):
    schema = {**SCHEMAS, **HARDER}[kind]
    _, _, said, reason = answered(template, Calls([tool("one", **schema)], forced=True), limit=6000)
    assert (reason, {call.name for call in said}) == ("stop", {"one"})
    assert all(fits(call.arguments, schema, schema) for call in said)


@pytest.mark.parametrize("name", WRITTEN)
def test_without_several_calls_an_answer_ends_at_the_first(name):
    format = find_format(name)
    before, behind = format.call_around("one")
    begins = (
        "</think>" if open_parser(format).thinking and len(format.opens) == 3 else ""
    ) + f"{before}{'' if format.style else '{}'}{behind}"
    _, _, said, reason = answered(name, Calls([tool("one")], several=False), begins=begins * 2, limit=400)
    assert ([call.name for call in said], reason) == (["one"], "stop")


def test_an_answer_in_a_format_may_be_a_call_instead():
    form = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    text, _, said, _ = answered("qwen3-vl-instruct", Calls([tool("one")]), form=form, begins="<tool_call>")
    assert (text, [call.name for call in said][:1]) == ("", ["one"])
    text, _, said, _ = answered("qwen3-vl-instruct", Calls([tool("one")]), form=form, begins="{")
    assert re.fullmatch(r'\{\s*"x"\s*:\s*-?\d+\s*\}', text)
    assert not said
