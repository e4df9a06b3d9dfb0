"""The formats that have a name, as a Modelfile's PARSER gives it, and those that chat templates are known by.

Rows only; `harmony` and `glimmer` are written in messages, not in tags: see `channels`.
"""

from puna.template.message import ToolCall
from puna.template.parsing.braces import read_braces
from puna.template.parsing.channels import GLIMMER, HARMONY
from puna.template.parsing.format import Format, Section
from puna.template.parsing.functions import in_function, read_arguments, read_function, read_functions, read_loose
from puna.template.parsing.objects import (
    end_of_call,
    end_of_named,
    in_string,
    read_each,
    read_named,
    read_numbered,
    read_objects,
    read_separated,
)
from puna.template.parsing.python import end_of_python, read_python, read_python_raw
from puna.template.parsing.style import PAIRS, PARAMETERS, PARAMS, PYTHON, PYTHON_RAW, braces
from puna.template.parsing.tools import Tools

THINK = ("<think>", "</think>")
ON, OFF, UNSAID = True, False, None
"""What a request may say of thinking."""


def _nothing(body: str, tools: Tools) -> list[ToolCall | str]:
    return []


HERMES = Section("<tool_call>", "</tool_call>", read_objects, inside=in_string)
FUNCTIONS = Section("<tool_call>", "</tool_call>", read_functions, inside=in_function, last="</function>")
ARGUMENTS = Section("<tool_call>", "</tool_call>", read_arguments, last="</arg_value>")
MISTRAL = Section("[TOOL_CALLS]", "", read_named, end=end_of_named)
DEEPSEEK = Section("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", read_separated, inside=in_string)
BARE_OBJECT = Section("{", "", read_objects, end=end_of_call, bare=True)
HERMES_CALL = ('<tool_call>\n{"name": "NAME", "arguments": ', "}\n</tool_call>")
HERMES_NEXT = '}\n</tool_call>\n<tool_call>\n{"name": "NAME", "arguments": '
FUNCTION_CALL = ("<tool_call>\n<function=NAME>\n", "</function>\n</tool_call>")
FUNCTION_NEXT = "</function>\n</tool_call>\n<tool_call>\n<function=NAME>\n"
PAIRS_CALL = ("<tool_call>NAME", "</tool_call>")
PAIRS_NEXT = "</tool_call><tool_call>NAME"
OLMO_CALL = ("<function_calls>NAME(", ")</function_calls>")
LFM2_CALL = ("<|tool_call_start|>[NAME(", ")]<|tool_call_end|>")
GEMMA_CALL = ("<|tool_call>call:NAME{", "}<tool_call|>")
GEMMA_NEXT = "}<tool_call|><|tool_call>call:NAME{"
ARGUMENT_TAGS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
_SEPARATED = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
_OUTPUTS = Section("<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", _nothing, muted=True)

_ROWS = (
    Format("passthrough"),
    Format("qwen3", THINK, (ON,), sections=(HERMES,), writes=HERMES_CALL, again=HERMES_NEXT),
    Format("qwen3-thinking", THINK, (ON, UNSAID), sections=(HERMES,), writes=HERMES_CALL, again=HERMES_NEXT),
    Format("qwen3-vl-instruct", sections=(HERMES,), writes=HERMES_CALL, again=HERMES_NEXT),
    Format(
        "qwen3-vl-thinking",
        THINK,
        (ON, UNSAID, OFF),
        leads=False,
        sections=(HERMES,),
        writes=HERMES_CALL,
        again=HERMES_NEXT,
    ),
    Format("qwen3-coder", sections=(FUNCTIONS,), writes=FUNCTION_CALL, again=FUNCTION_NEXT, style=PARAMETERS),
    Format(
        "qwen3.5",
        THINK,
        (ON, UNSAID),
        sections=(FUNCTIONS,),
        writes=FUNCTION_CALL,
        again=FUNCTION_NEXT,
        style=PARAMETERS,
    ),
    Format(
        "nemotron-3-nano",
        THINK,
        (ON,),
        sections=(FUNCTIONS,),
        writes=FUNCTION_CALL,
        again=FUNCTION_NEXT,
        style=PARAMETERS,
    ),
    Format(
        "glm-4.7",
        THINK,
        (ON, UNSAID),
        sections=(ARGUMENTS,),
        marks=ARGUMENT_TAGS,
        writes=PAIRS_CALL,
        again=PAIRS_NEXT,
        style=PAIRS,
    ),
    Format(
        "glm-ocr", THINK, sections=(ARGUMENTS,), marks=ARGUMENT_TAGS, writes=PAIRS_CALL, again=PAIRS_NEXT, style=PAIRS
    ),
    Format(
        "laguna",
        THINK,
        (ON,),
        stray=True,
        resumes=False,
        hides=(OFF, UNSAID),
        sections=(
            Section("<tool_call>", "</tool_call>", read_loose),
            Section("<user>", "</user>", read_loose, offered=True),
            BARE_OBJECT,
        ),
        marks=ARGUMENT_TAGS,
        strips="lr",
        writes=("<tool_call>NAME\n", "</tool_call>"),
        again="</tool_call>\n<tool_call>NAME\n",
    ),
    Format(
        "ministral",
        ("[THINK]", "[/THINK]"),
        (ON,),
        anywhere=True,
        sections=(MISTRAL,),
        silent=("[/TOOL_CALLS]",),
        marks=("[ARGS]", "[CALL_ID]"),
        writes=("[TOOL_CALLS]NAME[ARGS]", ""),
        again="[TOOL_CALLS]NAME[ARGS]",
    ),
    Format(
        "deepseek3",
        THINK,
        (ON,),
        sections=(DEEPSEEK,),
        marks=("<｜tool▁sep｜>",),
        trims=False,
        silent=(
            *_SEPARATED,
            "<｜tool▁output▁begin｜>",
            "<｜tool▁output▁end｜>",
            "<｜tool▁outputs▁begin｜>",
            "<｜tool▁outputs▁end｜>",
        ),
        writes=(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>NAME<｜tool▁sep｜>",
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        again="<｜tool▁call▁end｜><｜tool▁call▁begin｜>NAME<｜tool▁sep｜>",
    ),
    Format(
        "cogito",
        THINK,
        (ON,),
        sections=(DEEPSEEK, _OUTPUTS),
        silent=_SEPARATED,
        marks=("<｜tool▁sep｜>",),
        writes=(
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n",
            "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        again="\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n",
    ),
    Format(
        "olmo3",
        sections=(Section("<function_calls>", "</function_calls>", read_python),),
        writes=OLMO_CALL,
        again=")\nNAME(",
        style=PYTHON,
    ),
    Format(
        "olmo3-think",
        THINK,
        (ON, UNSAID, OFF),
        leads=False,
        sections=(Section("<function_calls>", "</function_calls>", read_python),),
        writes=OLMO_CALL,
        again=")\nNAME(",
        style=PYTHON,
    ),
    Format(
        "gemma4",
        ("<|channel>", "<channel|>"),
        label="thought\n",
        anywhere=True,
        reopens=True,
        hides=(OFF,),
        sections=(Section("<|tool_call>", "<tool_call|>", read_braces('<|"|>')),),
        silent=("<tool_call|>", "<|tool_response>"),
        marks=('<|"|>',),
        writes=GEMMA_CALL,
        again=GEMMA_NEXT,
        style=braces('<|"|>', "<tool_call|>"),
    ),
    Format(
        "gemma4-no-thinking",
        sections=(Section("<|tool_call>", "<tool_call|>", read_braces('<|"|>')),),
        silent=("<tool_call|>", "<|tool_response>"),
        marks=('<|"|>',),
        writes=GEMMA_CALL,
        again=GEMMA_NEXT,
        style=braces('<|"|>', "<tool_call|>"),
    ),
    Format(
        "functiongemma",
        sections=(Section("<start_function_call>", "<end_function_call>", read_braces("<escape>")),),
        marks=("<escape>",),
        trims=False,
        writes=("<start_function_call>call:NAME{", "}<end_function_call>"),
        again="}<end_function_call><start_function_call>call:NAME{",
        style=braces("<escape>", "<end_function_call>"),
    ),
    Format(
        "lfm2",
        sections=(
            Section("<|tool_call_start|>", "<|tool_call_end|>", read_python_raw),
            Section("[", "", read_python_raw, end=end_of_python, bare=True, first=True),
        ),
        writes=LFM2_CALL,
        again="),NAME(",
        style=PYTHON_RAW,
    ),
    Format(
        "lfm2-thinking",
        THINK,
        sections=(
            Section("<|tool_call_start|>", "<|tool_call_end|>", read_python_raw),
            Section("[", "", read_python_raw, end=end_of_python, bare=True, first=True),
        ),
        writes=LFM2_CALL,
        again="),NAME(",
        style=PYTHON_RAW,
        strips="l",
    ),
    Format(
        "cohere",
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        (ON, UNSAID),
        sections=(Section("<|START_ACTION|>", "<|END_ACTION|>", read_each, inside=in_string),),
        silent=("<|START_TEXT|>", "<|END_TEXT|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|END_OF_TURN_TOKEN|>"),
        writes=('<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "NAME", "parameters": ', "}]<|END_ACTION|>"),
        again='}, {"tool_call_id": "1", "tool_name": "NAME", "parameters": ',
    ),
    # Known by their chat templates.
    Format("hermes", THINK, sections=(HERMES,), writes=HERMES_CALL, again=HERMES_NEXT),
    Format(
        "llama3",
        sections=(
            Section("<|python_tag|>", "<|eom_id|>", read_objects),
            Section("{", "", read_objects, end=end_of_call, bare=True, first=True, after=" \n;,"),
        ),
        writes=('{"name": "NAME", "parameters": ', "}"),
    ),
    Format(
        "mistral",
        sections=(MISTRAL,),
        silent=("[/TOOL_CALLS]",),
        marks=("[ARGS]", "[CALL_ID]"),
        writes=('[TOOL_CALLS] [{"name": "NAME", "arguments": ', "}]"),
        again='}, {"name": "NAME", "arguments": ',
    ),
    Format(
        "granite",
        THINK,
        sections=(Section("<|tool_call|>", "", read_named, end=end_of_named),),
        writes=('<|tool_call|>[{"name": "NAME", "arguments": ', "}]"),
        again='}, {"name": "NAME", "arguments": ',
    ),
    Format(
        "phi4",
        THINK,
        sections=(Section("<|tool_call|>", "<|/tool_call|>", read_objects, inside=in_string),),
        writes=('<|tool_call|>[{"name": "NAME", "arguments": ', "}]<|/tool_call|>"),
        again='}, {"name": "NAME", "arguments": ',
    ),
    Format(
        "minicpm",
        THINK,
        sections=(Section('<function name="', "</function>", read_function),),
        writes=('<function name="NAME">', "</function>"),
        again='</function>\n<function name="NAME">',
        style=PARAMS,
    ),
    Format(
        "kimi",
        THINK,
        sections=(Section("<|tool_call_begin|>", "<|tool_call_end|>", read_numbered, inside=in_string),),
        silent=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        marks=("<|tool_call_argument_begin|>",),
        writes=(
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>",
            "<|tool_call_end|><|tool_calls_section_end|>",
        ),
    ),
    Format(
        "command-r",
        sections=(Section("Action: ```json", "```", read_each, inside=in_string),),
        writes=('Action: ```json\n[{"tool_name": "NAME", "parameters": ', "}]\n```"),
        again='}, {"tool_name": "NAME", "parameters": ',
    ),
)

DIALECTS = {dialect.format.name: dialect for dialect in (HARMONY, GLIMMER)}
"""Those written in messages."""

FORMATS = {row.name: row for row in (*_ROWS, *(dialect.format for dialect in DIALECTS.values()))}
"""Formats by name."""

ALIASES = {
    "deepseek3.1": "deepseek3",
    "gemma4-large": "gemma4",
    "gemma4-small": "gemma4",
    "olmo3-32b-think": "olmo3-think",
    "olmo3.1": "olmo3",
    "qwen3.8": "qwen3.5",
    "ornith": "qwen3.5",
    "nemotron-3.5-nano": "nemotron-3-nano",
    "poolside-v1": "laguna",
}
