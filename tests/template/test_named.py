"""Renderers by name: for each family a prompt that is written out, and what they refuse."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import puna
from puna.errors import TemplateError
from puna.template import Message, ToolCall, named_renderer
from puna.template.named import _TABLE, FOLDER, sized
from puna.template.parsing import open_parser, parse_text

BREW = {
    "type": "function",
    "function": {
        "name": "brew",
        "description": "Make tea",
        "parameters": {
            "type": "object",
            "required": ["kind"],
            "properties": {
                "kind": {"type": "string", "description": "Which tea", "enum": ["green", "black"]},
                "cups": {"type": "integer"},
            },
        },
    },
}
BREW_JSON = (
    '{"type": "function", "function": {"name": "brew", "description": "Make tea", "parameters": {"type": "object", '
    '"required": ["kind"], "properties": {"kind": {"type": "string", "description": "Which tea", '
    '"enum": ["green", "black"]}, "cups": {"type": "integer"}}}}}'
)
SYSTEM = {"role": "system", "content": "Be kind."}
TEA = {"role": "user", "content": "Tea, please"}
CALL = {
    "role": "assistant",
    "content": "",
    "thinking": "They want tea.",
    "tool_calls": [{"id": "c1", "function": {"name": "brew", "arguments": {"kind": "green & mild", "cups": 2}}}],
}
DONE = {"role": "tool", "content": "ready", "tool_call_id": "c1"}
SERVED = {"role": "assistant", "content": "Here you are."}
THANKS = {"role": "user", "content": "Thanks"}
TALK = [SYSTEM, TEA, CALL, DONE, SERVED, THANKS]

# What each says of TALK, without tools and with nothing said about thinking.
PROMPTS = {
    "cogito": "<｜begin▁of▁sentence｜>You are Cogito, an AI assistant created by Deep Cogito, which is an AI "
    "research lab "
    "based in San Francisco.\n\nBe kind.<｜User｜>Tea, please<｜Assistant｜><｜tool▁calls▁begin｜>"
    '<｜tool▁call▁begin｜>function<｜tool▁sep｜>brew\n```json\n{"kind":"green & mild","cups":2}\n```<｜tool▁call▁end｜>'
    "<｜tool▁calls▁end｜><｜end▁of▁sentence｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>ready<｜tool▁output▁end｜>"
    "<｜tool▁outputs▁end｜>Here you are.<｜end▁of▁sentence｜><｜User｜>Thanks<｜Assistant｜>",
    "cohere": "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><|START_TEXT|>Be kind.\n\n\n\n# Available "
    "Tools\n```json\n[\n\n\n\n]\n"
    "```<|END_TEXT|><|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|><|START_TEXT|>Tea, please<|END_TEXT|>"
    "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>\n            \n                <|START_THINKING|>"
    'They want tea.<|END_THINKING|><|START_ACTION|>[\n\n    {"tool_call_id": "0", "tool_name": "brew", "parameters": '
    '{"kind": "green & mild", "cups": 2}}\n\n]<|END_ACTION|><|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>'
    '<|SYSTEM_TOKEN|><|START_TOOL_RESULT|>[\n    {\n        "tool_call_id": "0",\n        "results": {\n\n'
    '            \n            "0": {"content": "ready"}\n\n        },\n        "is_error": null\n    }\n\n]'
    "<|END_TOOL_RESULT|><|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_TEXT|>Here you are."
    "<|END_TEXT|><|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|><|START_TEXT|>Thanks<|END_TEXT|>"
    "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|>",
    "deepseek3.1": "<｜begin▁of▁sentence｜>Be kind.<｜User｜>Tea, please<｜Assistant｜></think><｜tool▁calls▁begin｜>"
    '<｜tool▁call▁begin｜>brew<｜tool▁sep｜>{"kind":"green & mild","cups":2}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
    "<｜end▁of▁sentence｜><｜tool▁output▁begin｜>ready<｜tool▁output▁end｜>Here you are.<｜end▁of▁sentence｜>"
    "<｜User｜>Thanks<｜Assistant｜></think>",
    "functiongemma": "<bos><start_of_turn>developer\nBe kind.<end_of_turn>\n<start_of_turn>user\nTea, "
    "please<end_of_turn>\n"
    "<start_of_turn>model\n<start_function_call>call:brew{cups:2,kind:<escape>green & mild<escape>}<end_function_call>"
    "<start_function_response>response:brew{<escape>ready<escape>}<end_function_response>Here you are.<end_of_turn>\n"
    "<start_of_turn>user\nThanks<end_of_turn>\n<start_of_turn>model\n",
    "gemma4": "<bos><|turn>system\nBe kind.<turn|>\n<|turn>user\nTea, please<turn|>\n<|turn>model\n"
    '<|tool_call>call:brew{cups:2,kind:<|"|>green & mild<|"|>}<tool_call|>'
    '<|tool_response>response:brew{value:<|"|>ready<|"|>}<tool_response|>Here you are.<turn|>\n'
    "<|turn>user\nThanks<turn|>\n<|turn>model\n",
    "glimmer": "<|begin_of_text|><|start|>system<|message|>Be kind.\n\nReasoning strength: high.\n\n# Valid "
    'recipients: "self", '
    '"user".<|eot|><|start|>user<|message|>Tea, please<|eot|><|start|>assistant to=self<|message|>They want tea.<|eom|>'
    '<|start|>assistant to=brew<|message|><atem:function_calls>\n<atem:invoke name="brew">\n'
    '<atem:parameter name="kind">green & mild</atem:parameter>\n<atem:parameter name="cups">2</atem:parameter>\n'
    '</atem:invoke>\n</atem:function_calls><|eot|><|start|>tool brew<|message|><tool_output name="brew">\nready\n'
    "</tool_output><|eot|><|start|>assistant to=user<|message|>Here you are.<|eot|><|start|>user<|message|>"
    "Thanks<|eot|>"
    "<|start|>assistant",
    "glm-4.7": "[gMASK]<sop><|system|>Be kind.<|user|>Tea, please<|assistant|><think>They want tea.</think>"
    "<tool_call>brew"
    "<arg_key>kind</arg_key><arg_value>green & mild</arg_value><arg_key>cups</arg_key><arg_value>2</arg_value>"
    "</tool_call>"
    "<|observation|><tool_response>ready</tool_response><|assistant|></think>Here you are.<|user|>"
    "Thanks<|assistant|><think>",
    "glm-ocr": "[gMASK]<sop><|system|>\nBe kind.\n<|user|>\nTea, please<|assistant|>\n<think>They want tea.</think>\n"
    "<tool_call>brew<arg_key>kind</arg_key><arg_value>green & mild</arg_value><arg_key>cups</arg_key><arg_value>2"
    "</arg_value></tool_call>\n<|observation|>\n<tool_response>\nready\n</tool_response>\n<|assistant|>\n<think>"
    "</think>\n"
    "Here you are.\n<|user|>\nThanks<|assistant|>\n",
    "laguna": "〈|EOS|〉<system>\n\nBe kind.\n</system>\n<user>\nTea, please\n</user>\n<assistant>\n<think>\nThey "
    "want tea.\n"
    "</think>\n<tool_call>brew\n<arg_key>kind</arg_key>\n<arg_value>green & mild</arg_value>\n<arg_key>cups</arg_key>\n"
    "<arg_value>2</arg_value>\n</tool_call>\n</assistant>\n<tool_response>\nready\n</tool_response>\n<assistant>\n"
    "</think>\nHere you are.\n</assistant>\n<user>\nThanks\n</user>\n<assistant>\n</think>",
    "lfm2": "<|startoftext|><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nTea, please<|im_end|>\n"
    '<|im_start|>assistant\n<|tool_call_start|>[brew(cups=2,kind="green & mild")]<|tool_call_end|><|im_end|>\n'
    "<|im_start|>tool\n<|tool_response_start|>ready<|tool_response_end|><|im_end|>\n<|im_start|>assistant\nHere "
    "you are."
    "<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n",
    "nemotron-3-nano": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nTea, please<|im_end|>"
    "\n<|im_start|>assistant\n"
    "<think></think>\n<tool_call>\n<function=brew>\n<parameter=kind>\ngreen & mild\n</parameter>\n<parameter=cups>\n2\n"
    "</parameter>\n</function>\n</tool_call>\n<|im_end|>\n<|im_start|>user\n<tool_response>\nready\n</tool_response>\n"
    "<|im_end|>\n<|im_start|>assistant\n<think></think>Here you are.<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n",
    "olmo3": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nTea, please<|im_end|>\n<|im_start|>assistant\n"
    '<function_calls>brew(cups=2, kind="green & mild")</function_calls><|im_end|>\n<|im_start|>environment\nready'
    "<|im_end|>\n<|im_start|>assistant\nHere you are.<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n"
    "<|im_start|>assistant\n",
    "olmo3-think": "<|im_start|>system\nBe kind. You do not currently have access to any functions. <functions>"
    "</functions>"
    "<|im_end|>\n<|im_start|>user\nTea, please<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n"
    "Here you are.<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n<think>",
    "poolside-v1": "〈|EOS|〉<system>Be kind.</system>\n<user>Tea, please</user>\n<assistant></think><tool_call>"
    "brew<arg_key>"
    "kind</arg_key><arg_value>green & mild</arg_value><arg_key>cups</arg_key><arg_value>2</arg_value></tool_call>"
    "</assistant>\n<tool_response>ready</tool_response>\n<assistant></think>Here you are.</assistant>\n"
    "<user>Thanks</user>\n<assistant></think>",
    "qwen3-coder": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nTea, please<|im_end|>"
    "\n<|im_start|>assistant\n\n"
    "<tool_call>\n<function=brew>\n<parameter=kind>\ngreen & mild\n</parameter>\n<parameter=cups>\n2\n</parameter>\n"
    "</function>\n</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\nready\n</tool_response><|im_end|>\n"
    "<|im_start|>assistant\nHere you are.<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n",
    "qwen3-vl-thinking": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nTea, please<|im_end|>\n"
    '<|im_start|>assistant\n<tool_call>\n{"name": "brew", "arguments": {"kind": "green & mild", "cups": '
    "2}}\n</tool_call>"
    "<|im_end|>\n<|im_start|>user\n<tool_response>\nready\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    "Here you are.<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n<think>\n",
    "qwen3.5": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nTea, please<|im_end|>\n<|im_start|>"
    "assistant\n"
    "<tool_call>\n<function=brew>\n<parameter=kind>\ngreen & mild\n</parameter>\n<parameter=cups>\n2\n</parameter>\n"
    "</function>\n</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\nready\n</tool_response><|im_end|>\n"
    "<|im_start|>assistant\nHere you are.<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>"
    "assistant\n<think>\n",
}

# The part of the prompt for TEA in which each declares BREW.
DECLARATIONS = {
    "cohere": '# Available Tools\n```json\n[\n\n    {"name": "brew", "description": "Make tea", "parameters": '
    '{"type": "object"',
    "deepseek3.1": "## Tools\nYou have access to the following tools:\n\n### brew\nDescription: Make "
    "tea\n\nParameters: "
    '{"type":"object","required":["kind"],"properties":{"kind":{"type":"string",',
    "functiongemma": "<start_function_declaration>declaration:brew{description:<escape>Make tea<escape>"
    ",parameters:{properties:{"
    "cups:{description:<escape><escape>,type:<escape>INTEGER<escape>},kind:{description:<escape>Which tea<escape>,"
    "type:<escape>STRING<escape>}},required:[<escape>kind<escape>],type:<escape>OBJECT<escape>"
    "}}<end_function_declaration>",
    "gemma4": '<|tool>declaration:brew{description:<|"|>Make tea<|"|>,parameters:{properties:{cups:{type:<|"|>'
    'INTEGER<|"|>},'
    'kind:{description:<|"|>Which tea<|"|>,enum:[<|"|>green<|"|>,<|"|>black<|"|>],type:<|"|>STRING<|"|>}},'
    'required:[<|"|>kind<|"|>],type:<|"|>OBJECT<|"|>}}<tool|>',
    "glimmer": '// Tool metadata\n{"name": "brew", "description": ""}\n// Function schemas\n{"name": "brew", '
    '"description": ',
    "glm-4.7": f"<tools>\n{BREW_JSON}\n</tools>",
    "laguna": f"<available_tools>\n{BREW_JSON}\n</available_tools>",
    "lfm2": 'List of tools: <|tool_list_start|>[{"name": "brew", "description": "Make tea", "parameters": '
    '{"type": "object", ',
    "nemotron-3-nano": "<tools>\n<function>\n<name>brew</name>\n<description>Make tea</description>"
    "\n<parameters>\n<parameter>\n"
    '<name>kind</name>\n<type>string</type>\n<description>Which tea</description>\n<enum>["green", "black"]</enum>\n'
    "</parameter>\n<parameter>\n<name>cups</name>\n<type>integer</type>\n</parameter>\n"
    '<required>["kind"]</required>\n</parameters>\n</function>\n</tools>',
    "olmo3": f"XML tags. Do not make assumptions about what values to plug into functions.<functions>"
    f"[{BREW_JSON}]</functions>",
    "poolside-v1": f"<available_tools>\n{BREW_JSON}\n</available_tools></system>",
    "qwen3-coder": "<tools>\n<function>\n<name>brew</name>\n<description>Make tea</description>\n<parameters>"
    "\n<parameter>\n"
    "<name>kind</name>\n<type>string</type>\n<description>Which tea</description>\n"
    '<enum>["green","black"]</enum>\n</parameter>\n<parameter>\n<name>cups</name>\n<type>integer</type>\n</parameter>\n'
    '<required>["kind"]</required>\n</parameters>\n</function>\n</tools>',
    "qwen3-vl-instruct": f"<tools>\n{BREW_JSON}\n</tools>",
    "qwen3.5": f"<tools>\n{BREW_JSON}\n</tools>\n\nIf you choose to call a function ONLY reply in the following format",
}


@pytest.mark.parametrize(("name", "prompt"), PROMPTS.items())
def test_a_conversation_with_a_call_becomes_the_prompt_written_here(name, prompt):
    assert puna.render(name, TALK) == prompt


@pytest.mark.parametrize(("name", "part"), DECLARATIONS.items())
def test_a_function_is_declared_as_written_here(name, part):
    assert part in puna.render(name, [TEA], tools=[BREW])


@pytest.mark.parametrize(
    ("name", "thinks", "silent"),
    [
        ("cogito", "<｜Assistant｜><think>\n", "<｜Assistant｜>"),
        ("cohere", "<|CHATBOT_TOKEN|><|START_THINKING|>", "<|START_THINKING|><|END_THINKING|>"),
        ("deepseek3.1", "<｜Assistant｜><think>", "<｜Assistant｜></think>"),
        ("gemma4-large", "<|turn>model\n", "<|turn>model\n<|channel>thought\n<channel|>"),
        ("glm-4.7", "<|assistant|><think>", "<|assistant|></think>"),
        ("glm-ocr", "please<|assistant|>\n", "please/nothink<|assistant|>\n<think></think>\n"),
        ("laguna", "<assistant>\n<think>", "<assistant>\n</think>"),
        ("nemotron-3.5-nano", "assistant\n<think>\n", "assistant\n<think></think>"),
        ("poolside-v1", "<assistant><think>", "<assistant></think>"),
        ("qwen3-vl-instruct", "assistant\n<think>\n", "assistant\n"),
        ("qwen3.5", "assistant\n<think>\n", "assistant\n<think>\n\n</think>\n\n"),
    ],
)
def test_thinking_is_turned_on_and_off(name, thinks, silent):
    assert puna.render(name, [TEA], think=True).endswith(thinks)
    assert puna.render(name, [TEA], think=False).endswith(silent)


# One cannot think, and one cannot do otherwise, whatever it is told.
ASKED = {(name, think) for name in puna.RENDERERS for think in (None, True, False)}
ASKED -= {("qwen3-vl-instruct", True), ("qwen3-vl-thinking", False)}


@pytest.mark.parametrize(("name", "think"), sorted(ASKED, key=str))
def test_an_answer_is_read_as_the_renderer_of_that_name_leaves_it_open(name, think):
    prompt = puna.render(name, [TEA], think=think)
    parser = open_parser(name, think=think, last_message=TEA, prompt=prompt)
    open_thought = prompt.rstrip().endswith(("<think>", "<|START_THINKING|>"))
    said = parse_text(parser, ["Hm", parser.format.thinking_ends, "Tea!"] if open_thought else ["Tea!"])
    assert (said.thinking, said.content) == (("Hm", "Tea!") if open_thought else ("", "Tea!"))


def test_gemma_is_told_in_the_system_turn_to_think():
    assert puna.render("gemma4", [TEA], think=True).startswith("<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\n")


@pytest.mark.parametrize(
    ("think", "words"), [(None, "set to xhigh."), ("max", "set to xhigh."), ("low", "set to low."), ("medium", "")]
)
def test_qwen_3_8_is_told_how_hard_to_think(think, words):
    prompt = puna.render("qwen3.8", [TEA], think=think)
    assert prompt.startswith(f"<|im_start|>system\nReasoning effort is {words}" if words else "<|im_start|>user\nTea")


def test_qwen_3_8_has_one_system_message():
    prompt = puna.render("qwen3.8", [TEA, SYSTEM, {"role": "developer", "content": "In verse."}], think="medium")
    assert prompt.startswith(
        "<|im_start|>system\nBe kind.\n\nIn verse.<|im_end|>\n<|im_start|>user\nTea, please<|im_end|>\n"
    )


def test_a_last_answer_is_continued_although_instructions_follow_it():
    begun = [TEA, {"role": "assistant", "content": "With"}, {"role": "developer", "content": "In verse."}]
    assert puna.render("qwen3.8", begun, think="medium").endswith("<think>\n\n</think>\n\nWith")


def test_earlier_thoughts_stay_where_the_family_keeps_them():
    assert "<think>\nThey want tea.\n</think>\n\n<tool_call>" in puna.render("ornith", TALK)
    assert "<think>They want tea.</think><|tool_call_start|>" in puna.render("lfm2-thinking", TALK, think=True)
    assert "They want tea" not in puna.render("lfm2-thinking", TALK)


def test_what_olmo_is_told_first_depends_on_its_name():
    assert puna.render("olmo3", [TEA]).startswith(
        "<|im_start|>system\nYou are a helpful function-calling AI assistant. You do not currently have access to any "
        "functions. <functions></functions><|im_end|>\n"
    )
    assert puna.render("olmo3.1", [TEA]).startswith("<|im_start|>system\nYou are Olmo, a helpful AI assistant")
    assert puna.render("olmo3-32b-think", [TEA]).startswith(
        "<|im_start|>system\nYou are a helpful AI assistant.<|im_end|>"
    )


def test_a_last_answer_is_left_open_where_the_family_continues_it():
    begun = [TEA, {"role": "assistant", "content": "With"}]
    for name in ("qwen3-coder", "qwen3-vl-instruct", "qwen3.5", "olmo3", "lfm2"):
        assert puna.render(name, begun).endswith("With")
    assert puna.render("laguna", begun).endswith("<assistant>\n</think>\nWith\n")
    assert puna.render("cohere", begun).endswith("<|START_TEXT|>With")


def test_toggles_in_the_text_are_read_and_taken_out():
    quiet = puna.render("nemotron-3-nano", [{"role": "user", "content": "Tea /no_think"}], think=True)
    assert quiet.endswith("user\nTea<|im_end|>\n<|im_start|>assistant\n<think></think>")
    plain = puna.render("nemotron-3.5-nano", [{"role": "user", "content": "Tea /no_think"}], think=True)
    assert plain.endswith("user\nTea /no_think<|im_end|>\n<|im_start|>assistant\n<think>\n")


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("qwen3-vl-instruct", "What?", "user\n" + "<|vision_start|><|image_pad|><|vision_end|>" * 2 + "What?"),
        ("lfm2", "What?", "user\n<image><image>What?"),
        ("glimmer", "What?", "<|start|>user<|message|><|patch|><|patch|>What?"),
        ("nemotron-3-nano", "What?", "user\n[img-0][img-1] What?"),
        ("nemotron-3-nano", "What? [img]", "user\n[img-1] What? [img-0]"),
        ("nemotron-3-nano", "[img-1] or [img-0]?", "user\n[img-1] or [img-0]?"),
    ],
)
def test_images_leave_their_mark_in_the_text(name, content, shown):
    assert shown in puna.render(name, [{"role": "user", "content": content, "images": [b"1", b"2"]}])


def test_a_result_finds_its_call_by_id_by_name_and_by_place():
    calls = [{"id": i, "function": {"name": n, "arguments": {}}} for i, n in (("1", "one"), ("2", "two"))]
    asked = [TEA, {"role": "assistant", "tool_calls": calls}]
    swapped = [{"role": "tool", "content": i, "tool_call_id": i} for i in "21"]
    assert "response:two{<escape>2<escape>}" in puna.render("functiongemma", [*asked, *swapped])
    named = [{"role": "tool", "content": "x", "tool_name": "two"}]
    assert 'response:two{value:<|"|>x<|"|>}' in puna.render("gemma4", [*asked, *named])
    placed = puna.render("functiongemma", [*asked, *({"role": "tool", "content": i} for i in "ab")])
    assert "response:one{<escape>a<escape>}" in placed
    assert "response:two{<escape>b<escape>}" in placed


def test_types_that_are_a_choice_are_written_as_gemma_was_taught():
    fields = {
        "a": {"type": ["string", "null"]},
        "b": {"anyOf": [{"type": "string"}, {"type": "number"}]},
        "c": {"type": "array", "items": {"type": ["string", "null"]}},
        "d": {"type": ["string", "null"], "enum": ["x"]},
        "e": {"type": ["string"], "enum": ["x"]},
    }
    function = {"name": "f", "parameters": {"type": "object", "properties": fields}}
    prompt = puna.render("gemma4", [TEA], tools=[{"type": "function", "function": function}])
    assert "a:{type:<|\"|>['STRING', 'NULL']<|\"|>},b:{type:<|\"|>['STRING', 'NUMBER']<|\"|>}," in prompt
    assert 'c:{items:{type:[<|"|>STRING<|"|>,<|"|>NULL<|"|>]},type:<|"|>ARRAY<|"|>}' in prompt
    assert "d:{type:<|\"|>['STRING', 'NULL']<|\"|>}," in prompt
    assert 'e:{enum:[<|"|>x<|"|>],type:<|"|>STRING<|"|>}' in prompt


def test_gemma_4_alone_stands_for_the_size_of_the_model():
    assert sized("gemma4", 8_000_000_000) == "gemma4"
    assert sized("gemma4", 12_000_000_000) == "gemma4-large"
    assert sized("cogito", 12_000_000_000) == "cogito"


def test_an_unknown_renderer_is_an_error_that_names_the_closest():
    with pytest.raises(
        TemplateError, match=r"renderer 'gemma-4' is unknown; closest: gemma4; there are cogito, cohere,"
    ):
        named_renderer("gemma-4")


@pytest.mark.parametrize("tool", [{}, {"type": "function"}, {"function": {}}, {"function": {"name": 1}}])
def test_a_tool_without_a_function_is_one_error(tool):
    with pytest.raises(TemplateError, match=r"tool 1: .* names no function; it needs function.name"):
        puna.render("cogito", [TEA], tools=[BREW, tool])


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "this model answers a question"),
        ([SYSTEM], "this model answers a question"),
        ([{**SYSTEM, "images": [b"1"]}, TEA], "a system message cannot have images"),
    ],
)
def test_qwen_3_8_refuses_a_conversation_without_a_question(messages, words):
    with pytest.raises(TemplateError, match=words):
        puna.render("qwen3.8", messages)


def test_a_renderer_does_not_fill_in_the_middle():
    with pytest.raises(TemplateError, match="cannot fill in the middle"):
        puna.render("cogito", [], prompt="def f(", suffix="return")


def test_every_template_has_a_name_and_every_name_its_templates():
    used = {file for files, _ in _TABLE.values() for file in files}
    assert used == {path.stem for path in FOLDER.glob("*.jinja")}
    assert all(named_renderer(name).fields >= {"messages"} for name in puna.RENDERERS)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
marked = st.text(max_size=12) | st.sampled_from(["a</think>b", "<think>", "<|channel>x<channel|>y", "[img] /think"])
calls = st.builds(
    ToolCall,
    st.text(max_size=5),
    st.dictionaries(st.text(max_size=5), values, max_size=3),
    st.sampled_from(["", "1", "2"]),
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "developer", "user", "assistant", "tool", "other"]),
    marked,
    marked,
    st.lists(st.just(b"image"), max_size=2),
    st.lists(calls, max_size=2),
    st.text(max_size=3),
    st.sampled_from(["", "1", "3"]),
)
schemas = st.fixed_dictionaries(
    {},
    optional={"type": values, "properties": values | st.dictionaries(st.text(max_size=4), values), "required": values},
)
tools = st.fixed_dictionaries(
    {"name": st.text(max_size=5)}, optional={"description": values, "parameters": schemas | values}
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(puna.RENDERERS),
    st.lists(messages, max_size=5),
    st.lists(tools.map(lambda function: {"type": "function", "function": function}), max_size=2),
    st.none() | st.booleans() | st.sampled_from(["low", "medium", "high"]),
)
def test_rendering_gives_a_prompt_or_one_kind_of_error(name, messages, tools, think):
    with contextlib.suppress(TemplateError):
        assert isinstance(puna.render(name, messages, tools=tools, think=think), str)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(puna.RENDERERS), st.lists(messages, max_size=4), st.none() | st.booleans())
def test_without_tools_every_conversation_with_a_question_has_a_prompt(name, messages, think):
    asked = [*(m for m in messages if not (m.role in ("system", "developer") and m.images)), Message("user", "Why?")]
    assert "Why?" in puna.render(name, asked, think=think)
