"""Queries and documents as the token ids that rerankers read, and scores from what they give.

A cross-encoder reads a pair of texts and has a classifier; a decoder such as Qwen3-Reranker is asked in words, and its
logits of "yes" and "no" are compared (https://huggingface.co/Qwen/Qwen3-Reranker-0.6B). It runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from puna.errors import RequestError

if TYPE_CHECKING:
    from puna.tokenizer import Tokenizer

HEADS = ("cls.output.weight", "cls.weight")
"""Tensors of a classifier of pairs."""

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
ANSWERS = ("no", "yes")


def pair(tokenizer: Tokenizer, query: str, document: str, room: int) -> tuple[list[int], list[int]]:
    """Ids of both texts with what goes around and between them, and which of the texts each is of.

    RoBERTa and its kin put two end tokens between texts, BERT and its kin one. At most `room` ids, if that is not 0:
    the document loses its end.
    """
    first = tokenizer.encode(query)
    second = tokenizer.encode(document, add_bos=False)
    if tokenizer.bos_id is not None and tokenizer.tokens[tokenizer.bos_id] != "[CLS]":
        first = first + first[-1:]
    if room and len(first) + len(second) > room:
        second = [*second[: max(room - len(first) - 1, 0)], second[-1]]
    return first + second, [0] * len(first) + [1] * len(second)


class Pairs(NamedTuple):
    """Token ids of pairs of texts, and which of the two each token is of."""

    tokens: list[list[int]]
    types: list[list[int]]


def question(tokenizer: Tokenizer, query: str, document: str, instruction: str, room: int) -> list[int]:
    """Ids of the prompt that asks a decoder whether a document answers a query.

    At most `room` ids, if that is not 0: the document loses its end.
    """
    text = f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
    parts = ((BEFORE, True), (text, False), (AFTER, True))
    first, middle, last = (
        tokenizer.encode(part, add_bos=False, add_eos=False, parse_special=parse) for part, parse in parts
    )
    return [*first, *(middle[: max(room - len(first) - len(last), 0)] if room else middle), *last]


def answers(tokenizer: Tokenizer) -> list[int]:
    """The ids of "no" and "yes"; RequestError where the vocabulary does not fit the prompt."""
    ids = [tokenizer.encode(each, special=False) for each in (*ANSWERS, "<|im_start|>")]
    marks = tokenizer.encode("<|im_start|>", add_bos=False, add_eos=False)
    if any(len(each) != 1 for each in (*ids[:2], marks)):
        raise RequestError("rerank: this model has no classifier of pairs, and does not answer yes or no to a prompt")
    return [each[0] for each in ids[:2]]


def scores_of(logits: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """Scores of (N, 1) logits by `identity`, else by a sigmoid; RequestError where there are several labels."""
    if logits.shape[1] != 1:
        raise RequestError(f"rerank: the classifier has {logits.shape[1]} labels; a model with one label works")
    values = logits[:, 0]
    return values if activation == "identity" else np.asarray(1 / (1 + np.exp(-values)), np.float32)


def chance_of_yes(logits: NDArray[np.float32]) -> float:
    """The probability of the second of two logits."""
    return float(1 / (1 + np.exp(np.float64(logits[0]) - np.float64(logits[1]))))
