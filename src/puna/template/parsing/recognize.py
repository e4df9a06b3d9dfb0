"""The format that a chat template is written for, by the marks in it, else by what its parts show.

A template that no marks are known of is asked to render an answer.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from puna.template.parsing.format import Format, Section
from puna.template.parsing.formats import FORMATS, THINK
from puna.template.parsing.objects import end_of_list, end_of_object
from puna.template.parsing.probe import called, probed
from puna.template.parsing.search import read_any
from puna.template.parsing.written import shown, written
from puna.template.tags import infer_tags

if TYPE_CHECKING:
    from puna.template import Template

KNOWN = (
    ("harmony", r"<\|channel\|>.*<\|message\|>"),
    ("glimmer", r"<atem:function_calls>"),
    ("gemma4", r"<\|tool_call>call:|<\|channel>"),
    ("functiongemma", r"<start_function_call>"),
    ("lfm2-thinking", r"<\|tool_call_start\|>.*<think>|<think>.*<\|tool_call_start\|>"),
    ("lfm2", r"<\|tool_call_start\|>|<\|tool_list_start\|>"),
    ("kimi", r"<\|tool_call_begin\|>"),
    ("cohere", r"<\|START_ACTION\|>"),
    ("command-r", r"Action:\s*```json|Action: ```json"),
    ("cogito", r"Deep thinking subroutine.*<｜tool▁calls▁begin｜>"),
    ("deepseek3", r"<｜tool▁calls?▁begin｜>"),
    ("ministral", r"\[TOOL_CALLS\].*\[THINK\]|\[THINK\].*\[TOOL_CALLS\]"),
    ("mistral", r"\[TOOL_CALLS\]"),
    ("olmo3", r"<function_calls>"),
    ("glm-4.7", r"<arg_key>"),
    ("functions", r"<tool_call>.*<function=.*<parameter="),
    ("minicpm", r'<function name=\\?".*<param name='),
    ("granite", r"<\|tool_call\|>(?!.*<\|/tool_call\|>)"),
    ("phi4", r"<\|/tool_call\|>"),
    ("llama3", r"<\|python_tag\|>|<\|eom_id\|>"),
    ("hermes", r"<tool_call>\s*\{"),
)
"""Names of formats with what a Jinja template for them has in it, the first that matches."""


@lru_cache(maxsize=64)
def format_of_template(text: str) -> Format:
    """The format of a template's answers: what Go templates show, a known one, or thinking alone."""
    from puna.template import compile_template, template_kind

    template = compile_template(text)
    return _of_go(text, template) if template_kind(text) == "go" else _of_jinja(text, template)


def _of_jinja(text: str, template: Template) -> Format:
    text = text.replace("\\n", "\n")
    for name, marks in KNOWN:
        if re.search(marks, text, re.DOTALL):
            known = FORMATS[("qwen3.5" if "<think>" in text else "qwen3-coder") if name == "functions" else name]
            return (shown(known, called(template)) if known.style else None) or known
    found = probed(template)
    return replace(found, thinking=THINK) if not found.thinking and any(t in text for t in THINK) else found


def _of_go(text: str, template: Template) -> Format:
    tags = infer_tags(text)
    opening, closing = tags["thinking"]
    section = _section(tags["tool"])
    format = Format(
        "generic",
        (opening, closing) if opening and closing else None,
        sections=(section,),
        silent=(section.close,) if section.close else (),
        trims=False,
        ends=False,
    )
    return written(format, called(template))


def _section(tag: str) -> Section:
    """Where tool calls are, by the tag that begins them: a bracket counts only where an answer begins."""
    if tag == "{":
        return Section("{", "", read_any, end=end_of_object, bare=True, first=True, after=" \n\t\r,]}")
    if tag == "[":
        return Section("[", "", read_any, end=end_of_list, bare=True, first=True, after=" \n\t\r,]}")
    closing = re.sub(r"^([<\[]\|?)", r"\1/", tag.split()[0]) if tag[:1] in "<[" else ""
    return Section(tag, closing or "\0", read_any, after=" \n\t\r,]}")
