"""What is run and rendered where the caller names nothing: a text, a corpus for tokenizers, and conversations."""

from __future__ import annotations

from typing import Any

TEXT = """\
The harbour was quiet that morning. A thin fog lay over the water, and the boats that had come in during the night
rocked against their ropes as if they were still dreaming of the open sea. "You are early," said the old man, without
looking up from his net. "The ferry does not leave before nine, and today, with this weather, it may not leave at all."

She put down her bag. In 1987 she had waited here once before, for almost 3 hours, and had counted the gulls: 42 of
them, then 17, then none. What is it about places like this that makes one remember numbers?

def moving_average(values: list[float], width: int = 5) -> list[float]:
    \"\"\"The mean of each window of `width` values.\"\"\"
    if width <= 0:
        raise ValueError(f"width is {width}; at least 1 works")
    return [sum(values[i : i + width]) / width for i in range(len(values) - width + 1)]

The boiling point of water falls by about one degree for every 285 metres of altitude, so that on the summit of Mont
Blanc (4,806 m) tea is made at roughly 83 °C. Physicists explain this with the Clausius-Clapeyron relation; cooks
simply wait a little longer. Die Vögel sangen, obwohl es noch dunkel war, und niemand wusste warum. El río baja lento
hacia el mar. 今日は天気がいいから、散歩しましょう。 Москва и Петербург соединены железной дорогой.

{"name": "Ada", "languages": ["en", "fr"], "active": true, "score": 9.75e-3, "notes": null}

First, preheat the oven. Second, mix the flour, the sugar and the butter until the dough no longer sticks to your
hands. Third, wait. The waiting is the part that every recipe leaves out, and the only part that cannot be learned.
"""
"""Prose, code, numbers and other scripts: about 500 tokens for a vocabulary of 50,000."""

CORPUS: tuple[str, ...] = (
    *TEXT.splitlines(),
    *("", " ", "  two  spaces ", "\ttab\tand\n\nlines\r\n", "trailing space ", "\n", "a\u00a0b\u2003c\u200bd"),
    *(
        "don't I'll we've she'd it's THEY'RE",
        "CamelCaseWords snake_case kebab-case path/to/file.txt",
        "x+=1; y**=2 // z",
    ),
    *("0 1 12 123 1234 12345 3.14159 1,000,000 0xFF 1e-9", "http://example.org/?q=a%20b&c=d#e user@example.org"),
    *("naïve café Zürich ÅÄÖ ñ ç ß İı", "e\u0301 é ﬁ ½ ² Å", "Ελληνικά العربية עברית हिन्दी ไทย 한국어 中文，。「」"),
    *(
        "😀👍🏽👩\u200d👩\u200d👧 ❤️ 🇨🇭",
        "𝐀𝓑 𠀀",
        "\ufeffmark",
        "!!!???...---___***",
        "((([[[{{{}}}]]])))",
        "ａｂｃ　１２３",
    ),
    *("<s></s> <unk> <pad> [INST] [CLS]", "<|endoftext|><|im_start|>user\nhi<|im_end|>", "<bos><start_of_turn>model\n"),
    *("supercalifragilisticexpialidocious", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "The the THE tHe", "\x00\x01\x7f"),
)
"""Texts on which tokenizers differ, if they do."""

_WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "current_weather",
        "description": "The weather at a place.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "A city"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["place"],
        },
    },
}
_CALL: dict[str, Any] = {"type": "function", "function": {"name": "current_weather", "arguments": {"place": "Bern"}}}


def _said(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS: dict[str, dict[str, Any]] = {
    "one question": {"messages": _said(("user", "Why is the sky blue?"))},
    "with a system message": {"messages": _said(("system", "Be brief."), ("user", "Hello!"))},
    "several turns": {
        "messages": _said(
            ("user", "  Spaces around  "),
            ("assistant", "Two\nlines"),
            ("user", "Ünïcode & <tags> 😀"),
            ("assistant", ""),
        )
        + _said(("user", "And now?"))
    },
    "two users in a row": {"messages": _said(("user", "One."), ("user", "Two."))},
    "tools offered": {"messages": _said(("user", "Weather in Bern?")), "tools": [_WEATHER]},
    "a tool called": {
        "messages": [
            *_said(("user", "Weather in Bern?")),
            {"role": "assistant", "content": "", "tool_calls": [_CALL]},
            {"role": "tool", "content": '{"celsius": 21}', "tool_name": "current_weather"},
        ],
        "tools": [_WEATHER],
    },
}
"""What templates are rendered with; tools only where the template takes them."""
