"""What a model can be asked, whoever asks: one type a kind of work, in the words of Ollama's own API.

Every API is translated into these. `model` and `keep_alive` concern who loads models, `stream` who sends the answer;
the rest goes to the model. Fields that are not known are ignored, as Ollama does.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

KeepAlive = str | int | float | None
Think = bool | str | None
Count = Annotated[int, Meta(ge=0)]


class Addressed(Struct, kw_only=True, omit_defaults=True):
    """Meant for one model, which stays loaded for `keep_alive`: seconds, or a text such as "5m"; below 0 for ever."""

    model: str = ""
    keep_alive: KeepAlive = None
    options: dict[str, Any] | None = None


class Of(Struct, array_like=True):
    """A model in the store: its name, and the digest that tells what has this name."""

    name: str
    digest: str


class Lora(Struct, omit_defaults=True):
    """How much of an adapter: `id` counts those of the model itself, `model` is one whose adapters are meant.

    `of` is what the server knows `model` by.
    """

    id: int | None = None
    model: str = ""
    scale: float = 1.0
    of: Of | None = None


class Answering(Addressed, kw_only=True, omit_defaults=True):
    """What generating takes, whatever the prompt.

    `think`: True, False or a level, None as the model does by itself. `format`: "json" or a JSON Schema. `truncate`:
    a prompt that does not fit loses its oldest messages, or its beginning; otherwise it is refused. `shift`: an answer
    that fills the context goes on without half of what follows the first `num_keep` tokens; otherwise it ends.
    """

    stream: bool | None = None
    format: Any = None
    think: Think = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    lora: list[Lora] | None = None
    debug_render_only: bool = field(default=False, name="_debug_render_only")


class Chat(Answering, kw_only=True, omit_defaults=True, tag="chat", tag_field="ask"):
    """Answer a conversation. `messages` and `tools` are as puna.template.message reads them.

    `tool_choice` "required": the answer is calls of `tools`, without `parallel_tool_calls` one. `allowed_tools` are the
    names of those that may be called; all of them if unsaid.
    """

    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    allowed_tools: list[str] | None = None


class Generate(Answering, kw_only=True, omit_defaults=True, tag="generate", tag_field="ask"):
    """Continue a prompt by the model's template, or with `raw` as it is; `context` are the tokens of what was before.

    `prompt` may be token ids, which are taken as they are.
    """

    prompt: str | list[int] = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] | None = None
    raw: bool = False
    images: list[str] | None = None


class Embed(Addressed, kw_only=True, omit_defaults=True, tag="embed", tag_field="ask"):
    """Vectors of texts, or of token ids as they are; other fields are as of `puna.Model.embed`.

    `input_type`: the kind of text in other APIs' words, which the model may have a prompt for.
    """

    input: list[str | list[int]]
    truncate: bool = True
    dimensions: int | None = None
    prompt_name: str | None = None
    prompt: str | None = None
    input_type: str | None = None
    normalize: bool = True
    lora: list[Lora] | None = None


class Rerank(Addressed, kw_only=True, omit_defaults=True, tag="rerank", tag_field="ask"):
    """How well each document answers the query."""

    query: str
    documents: list[str]
    instruction: str | None = None
    truncate: bool = True


class Tokenize(Addressed, kw_only=True, omit_defaults=True, tag="tokenize", tag_field="ask"):
    """Token ids of a text; with `special`, begin and end tokens are added and control tokens in it are read."""

    text: str
    special: bool = True
    pieces: bool = False


class Detokenize(Addressed, kw_only=True, omit_defaults=True, tag="detokenize", tag_field="ask"):
    """The text of token ids."""

    tokens: list[int]


class Score(Addressed, kw_only=True, omit_defaults=True, tag="score", tag_field="ask"):
    """How probable the tokens of a text, or token ids, are, with so many candidates in the place of each."""

    prompt: str | list[int]
    top_logprobs: int = 0


class Decide(Addressed, kw_only=True, omit_defaults=True, tag="decide", tag_field="ask"):
    """Which of `choices` comes after a prompt, or messages; with how much probability each."""

    choices: list[str]
    prompt: str = ""
    messages: list[dict[str, Any]] | None = None
    lora: list[Lora] | None = None


class Render(Chat, kw_only=True, omit_defaults=True, tag="render", tag_field="ask"):
    """The prompt that messages make, and its tokens."""


class RenderPrompt(Generate, kw_only=True, omit_defaults=True, tag="render_prompt", tag_field="ask"):
    """What a prompt comes to by the model's template, and its tokens."""


class SavePrefix(Addressed, kw_only=True, omit_defaults=True, tag="save_prefix", tag_field="ask"):
    """Compute what messages, or a prompt as it is, come to, and write it to a file at `path`."""

    path: str
    prompt: str | list[int] = ""
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None


class LoadPrefix(Addressed, kw_only=True, omit_defaults=True, tag="load_prefix", tag_field="ask"):
    """Go on from what the file at `path` has for who begins with its tokens."""

    path: str


class Measure(Struct, kw_only=True, tag="measure", tag_field="ask"):
    """What the process takes now."""


Ask = (
    Chat
    | Generate
    | Embed
    | Rerank
    | Tokenize
    | Detokenize
    | Score
    | Decide
    | Render
    | RenderPrompt
    | SavePrefix
    | LoadPrefix
    | Measure
)
