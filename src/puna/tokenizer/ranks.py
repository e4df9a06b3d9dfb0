"""Byte-level vocabularies given by ranks: Mistral's tekken.json, and tiktoken files.

    tiktoken    one token a line: base64 of its bytes, a space, its rank
    tekken.json config {pattern, default_vocab_size, default_num_special_tokens}, vocab [{rank, token_bytes}],
                special_tokens [{rank, token_str, is_control}]; special tokens have the first ids

Neighbours join whose bytes are the token of the lowest rank. A tiktoken file does not say how text is split before, nor
which special tokens follow: these are known by the number of ranks.
"""

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from puna.errors import ConversionError, FormatError
from puna.tokenizer.byte_pairs import LETTERS
from puna.tokenizer.draft import Draft
from puna.tokenizer.recognize import find_name
from puna.tokenizer.vocabulary import TokenType

Json = Mapping[str, Any]


class _Known(NamedTuple):
    pre: str
    special: Sequence[str]
    ids: Mapping[str, int]


def _reserved(*tokens: str, count: int, form: str) -> list[str]:
    """`tokens`, filled up to `count` by numbering `form`."""
    return [*tokens, *(form.format(i) for i in range(count - len(tokens)))]


_LLAMA3 = _reserved(
    *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_a|>", "<|reserved_special_token_b|>"),
    *("<|finetune_right_pad_id|>", "<|reserved_special_token_c|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eom_id|>", "<|eot_id|>", "<|python_tag|>"),
    count=256,
    form="<|reserved_special_token_{}|>",
)
_QWEN = _reserved("<|endoftext|>", "<|im_start|>", "<|im_end|>", count=208, form="<|extra_{}|>")
_KNOWN = {
    50256: _Known("gpt-2", ["<|endoftext|>"], {"bos": 50256, "eos": 50256}),
    100256: _Known("dbrx", [], {}),
    128000: _Known("llama-bpe", _LLAMA3, {"bos": 128000, "eos": 128001}),
    151329: _Known("glm4", [], {}),
    151643: _Known("qwen2", _QWEN, {"eos": 151643}),
    163584: _Known("kimi-k2", [], {}),
    199998: _Known("gpt-4o", [], {}),
    200000: _Known("llama4", [], {}),
}
_TEKKEN = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]"),
    *("[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
)  # of files that do not list theirs


def looks_like_tiktoken(data: bytes) -> bool:
    """Whether a file's first line is a token in base64 and its rank."""
    line = data[:200].split(b"\n")[0].split()
    return len(line) == 2 and line[1].isdigit() and data[:1] != b"\n"


def parse_tiktoken(data: bytes, name: str) -> Draft:
    """The vocabulary in the bytes of a tiktoken file called `name`.

    FormatError where it is none; ConversionError where its number of ranks is not known.
    """
    tokens: list[bytes] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            spelled, rank = line.split()
            if int(rank) != len(tokens):
                raise ValueError(f"rank {int(rank)} follows rank {len(tokens) - 1}")
            tokens.append(b64decode(spelled, validate=True))
        except ValueError as error:
            raise FormatError(f"reading {name}: line {number}: {error}; a token in base64 and its rank work") from error
    known = _KNOWN.get(len(tokens))
    if known is None:
        counts = ", ".join(f"{count} ({each.pre})" for count, each in _KNOWN.items())
        raise ConversionError(
            f"{name}: it has {len(tokens)} ranks and does not say how text is split; known are {counts}; "
            "a tokenizer.json of the same model would work"
        )
    draft = _draft(known.pre, tokens, name)
    for i, token in enumerate(known.special, len(tokens)):
        draft.place(i, token, TokenType.CONTROL)
    draft.ids |= known.ids
    return draft


def parse_tekken(spec: Json) -> Draft:
    """The vocabulary in a parsed tekken.json; FormatError where parts are missing, ConversionError for the pattern."""
    try:
        config = spec["config"]
        pattern = str(config["pattern"])
        listed = spec.get("special_tokens")
        special = {int(t["rank"]): (str(t["token_str"]), bool(t.get("is_control", True))) for t in listed or ()}
        if listed is None:
            special = {i: (token, True) for i, token in enumerate(_TEKKEN)}
        before = int(config.get("default_num_special_tokens") or len(special))
        count = int(config.get("default_vocab_size") or before + len(spec["vocab"])) - before
        tokens = [b64decode(t["token_bytes"]) for t in sorted(spec["vocab"][:count], key=lambda t: int(t["rank"]))]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"reading tekken.json: {error!r}; a whole one has config.pattern, vocab and ranks") from error
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    found = find_name(split, None, True)
    draft = _draft(found.name, tokens, "tekken.json", before)
    for i in range(before):
        token, control = special.get(i, (f"<SPECIAL_{i}>", True))
        draft.place(i, token, TokenType.CONTROL if control else TokenType.USER_DEFINED)
    if found.problem:
        draft.problems.append(found.problem)
    named = {role: draft.find(t) for role, t in (("unk", "<unk>"), ("bos", "<s>"), ("eos", "</s>"), ("pad", "<pad>"))}
    draft.ids |= {role: i for role, i in named.items() if i is not None}
    draft.flags |= {"add_bos_token": True, "add_eos_token": False}
    return draft


def library_form(draft: Draft, pattern: str) -> dict[str, Any]:
    """The tokenizer.json of a draft made here, for a `pattern` that has no name in GGUF."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    kinds = (TokenType.CONTROL, TokenType.USER_DEFINED)
    vocab = {token: i for i, token in enumerate(draft.tokens) if draft.types[i] == TokenType.NORMAL}
    model = dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"))
    return {
        **{"version": "1.0", "normalizer": None, "post_processor": None, "decoder": letters},
        "added_tokens": [
            {"id": i, "content": token, **flags, "special": draft.types[i] == TokenType.CONTROL}
            for i, token in enumerate(draft.tokens)
            if draft.types[i] in kinds
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, letters]},
        "model": {
            **{"type": "BPE", **model, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True},
            **{"vocab": vocab, "merges": draft.merges},
        },
    }


def _draft(pre: str, tokens: Sequence[bytes], source: str, before: int = 0) -> Draft:
    """Tokens by rank behind `before` others, with every merge that makes one of them of two others."""
    spelled = [token.decode("latin-1").translate(LETTERS) for token in tokens]
    draft = Draft("gpt2", pre, [f"[PAD{i}]" for i in range(before)] + spelled, [1] * (before + len(tokens)))
    draft.merges = [" ".join(pair) for pair in _merges(spelled)]
    draft.flags["merge_by_rank"] = True
    draft.source = source
    return draft


def _merges(tokens: Sequence[str]) -> Iterator[tuple[str, str]]:
    ranks = {token: rank for rank, token in enumerate(tokens)}
    for token in tokens:
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        yield from sorted(
            ((left, right) for left, right in cuts if left in ranks and right in ranks),
            key=lambda pair: (ranks[pair[0]], ranks[pair[1]]),
        )
