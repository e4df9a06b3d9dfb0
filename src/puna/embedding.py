"""How texts are to be embedded, as GGUF metadata says it: prompts, pooling, length. It runs nothing and reads no files.

{arch}.pooling_type                      1 mean, 2 first token, 3 last token; llama.cpp knows it too
puna.embedding.pooling                   [text]: other ways, as sentence-transformers names them; vectors are joined
puna.embedding.include_prompt            bool: whether the prompt's tokens are pooled; unsaid, they are
puna.embedding.normalize                 bool: whether vectors have unit length; unsaid, they have
puna.embedding.dense_names, .dense_activations   [text]: matrices after pooling, and what follows each
puna.embedding.prompt_names, .prompt_texts   [text]: what may be put before a text, and what it is called
puna.embedding.default_prompt            text: the name of what is put there if nothing is said
puna.embedding.max_length                int: tokens that are read of a text, where the network could read more
puna.embedding.lowercase                 bool: whether texts are put into lower case first
puna.embedding.similarity                text: cosine, dot, euclidean or manhattan
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from puna.errors import ModelError, RequestError

if TYPE_CHECKING:
    from puna.tokenizer import Tokenizer

PREFIX = "puna.embedding."
KEYS = {
    name: PREFIX + name
    for name in (
        *("pooling", "include_prompt", "normalize", "prompt_names", "prompt_texts", "default_prompt"),
        *("max_length", "lowercase", "similarity", "dense_names", "dense_activations"),
    )
}

MODES = ("mean", "cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean")
"""Ways to make one vector of a text's hidden states."""

ACTIVATIONS = ("identity", "tanh", "relu", "sigmoid")
"""What may follow a matrix after pooling."""

BY_TYPE = {1: "mean", 2: "cls", 3: "lasttoken"}
"""Those that GGUF's `pooling_type` names."""

ROLES: Mapping[str, tuple[str, ...]] = {
    "query": ("query", "search_query", "retrieval.query", "Retrieval-query", "web_search_query"),
    "document": ("document", "passage", "corpus", "search_document", "retrieval.passage", "Retrieval-document"),
    "classification": ("classification", "Classification"),
    "clustering": ("clustering", "Clustering"),
}
"""What models call the prompt for a kind of text."""

INPUT_TYPES = {
    **{"query": "query", "search_query": "query", "retrieval.query": "query"},
    **{"document": "document", "passage": "document", "search_document": "document", "retrieval.passage": "document"},
    **{"classification": "classification", "clustering": "clustering"},
}
"""Kinds of text as clients of Cohere, Voyage, NVIDIA and Jina name them."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """What a file says; `modes` are empty where it does not say them.

    `dense`: the matrices after pooling (`<name>.weight`, and perhaps `<name>.bias`), and what follows each.
    """

    modes: tuple[str, ...] = ()
    include_prompt: bool = True
    normalize: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    max_length: int | None = None
    lowercase: bool = False
    similarity: str | None = None
    dense: Mapping[str, str] = field(default_factory=dict)

    def prompt(self, name: str | None, text: str | None = None) -> str:
        """What is put before a text: `text`, else the prompt of that name, else the model's default.

        RequestError for a name that the model does not have.
        """
        if text is not None:
            if name is not None:
                raise RequestError("embed: a prompt and the name of one are given; either works")
            return text
        name = self.default_prompt if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(self.prompts) or "none, and a prompt as text works"
            raise RequestError(f"embed: the model has no prompt '{name}'; it has {known}")
        return self.prompts[name]

    def prompt_for(self, kind: str) -> str | None:
        """The name of the prompt for an `input_type` of other APIs; None where the model makes no such difference.

        RequestError for a kind that is neither known nor a prompt of the model.
        """
        if kind in self.prompts:
            return kind
        if kind not in INPUT_TYPES:
            known = ", ".join(dict.fromkeys([*INPUT_TYPES, *self.prompts]))
            raise RequestError(f"embed: the input type '{kind}' is unknown; known: {known}")
        return next((name for name in ROLES[INPUT_TYPES[kind]] if name in self.prompts), None)

    def lowered(self, text: str) -> str:
        """The text as it is read: letter by letter in lower case, where the model is for such."""
        return "".join(map(str.lower, text)) if self.lowercase else text


def embedding_of(metadata: Mapping[str, Any], arch: str) -> Embedding:
    """What the metadata says; ModelError where it contradicts itself."""
    said = {name: metadata[key] for name, key in KEYS.items() if key in metadata}
    names, texts = list(said.pop("prompt_names", ())), list(said.pop("prompt_texts", ()))
    if len(names) != len(texts):
        raise ModelError(
            f"{arch}: there are {len(names)} names of prompts and {len(texts)} prompts; as many would work"
        )
    matrices, activations = list(said.pop("dense_names", ())), list(said.pop("dense_activations", ()))
    if len(matrices) != len(activations) or any(each not in ACTIVATIONS for each in activations):
        raise ModelError(
            f"{arch}: after {matrices} come {activations}; one each of {', '.join(ACTIVATIONS)} would work"
        )
    kind = metadata.get(f"{arch}.pooling_type") or 0
    modes = tuple(said.pop("pooling", ())) or ((BY_TYPE[kind],) if kind in BY_TYPE else ())
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise ModelError(f"{arch}: pooling '{unknown[0]}' is unknown; known: {', '.join(MODES)}")
    dense = dict(zip(matrices, activations, strict=True))
    return Embedding(modes=modes, prompts=dict(zip(names, texts, strict=True)), dense=dense, **said)


class Encoded(NamedTuple):
    """Token ids of texts, and how many of the first of each are not pooled."""

    tokens: list[list[int]]
    skips: list[int]


def encode_texts(
    said: Embedding,
    tokenizer: Tokenizer,
    texts: Sequence[str | list[int]],
    prompt_name: str | None = None,
    prompt: str | None = None,
    room: int = 0,
) -> Encoded:
    """Token ids of texts with a prompt before each, the model's default if none is named; ids stay as they are.

    Where `room` is not 0, what is longer loses its end, but for the tokens that end every text. RequestError for a
    prompt that is unknown, or that token ids would need.
    """
    before = said.prompt(prompt_name, prompt)
    plain = [isinstance(text, str) for text in texts]
    if before and not (prompt_name is None and prompt is None) and not all(plain):
        raise RequestError("embed: a prompt is asked for, and a text is token ids; put the prompt's ids before them")
    tokens = [tokenizer.encode(said.lowered(before + text)) if isinstance(text, str) else text for text in texts]
    skip = 0 if said.include_prompt or not before else len(tokenizer.encode(said.lowered(before), add_eos=False))
    if room:
        ends = tokenizer.encode("")[len(tokenizer.encode("", add_eos=False)) :]
        tokens = [_cut(ids, room, ends) for ids in tokens]
    return Encoded(tokens, [skip if text else 0 for text in plain])


def _cut(ids: list[int], room: int, ends: list[int]) -> list[int]:
    """At most `room` ids, with the same end if it is `ends`."""
    if len(ids) <= room:
        return ids
    kept = ends if ids[len(ids) - len(ends) :] == ends else []
    return [*ids[: max(room - len(kept), 0)], *kept][:room]
