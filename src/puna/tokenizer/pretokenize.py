"""The pre-tokenizers of byte-pair vocabularies: what each name in `tokenizer.ggml.pre` does to text before merging.

A scheme's patterns are applied one after another; each splits every piece into its matches and what lies between them.
The patterns are those that the models' own tokenizer.json files give (Oniguruma syntax); it does not know vocabularies.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache

from puna.errors import TokenizerError

Split = Callable[[str], list[str]]
"""Text to its pieces, in order; their concatenation is the text."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What one pre-tokenizer name stands for.

    `normalize` is a Unicode form applied first, `whole_words` takes a piece that is a token as it is, without merging
    (`ignore_merges`), `add_bos` is the default of `tokenizer.ggml.add_bos_token`, and `byte_level` maps bytes to the
    printable letters of GPT-2; where it is false, spaces are U+2581 and unknown characters become `<0xXX>` tokens.
    `prefixes` puts a space before every line, and `drops_spaces` leaves out all that is white.
    """

    patterns: tuple[str, ...]
    normalize: str | None = None
    whole_words: bool = False
    add_bos: bool = False
    byte_level: bool = True
    prefixes: bool = False
    drops_spaces: bool = False


_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_TAIL}"
_QWEN2 = _LLAMA3.replace("{1,3}", "")
_QWEN35 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_TAIL}"
)
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_TAIL}"
)
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTION}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_TAIL}"
)
_NO_HAN = r"&&[^\p{Han}]]"
_KIMI = r"[\p{Han}]+|" + _GPT4O.replace(_UPPER, _UPPER[:-1] + _NO_HAN).replace(_LOWER, _LOWER[:-1] + _NO_HAN).replace(
    "[\\r\\n/]*", "[\\r\\n]*"
)
_CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376"
    "\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-"
    "\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a"
    "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
    "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b"
    "\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{_CASED}]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
    r"\s+$",
    _CJK,
    r"\p{N}+",
)
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"""| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_TAIL}""",
)
_SPARK = (
    r"\p{N}{1,3}",
    _DEEPSEEK3[1],
    _DEEPSEEK3[2].removesuffix(rf"[\r\n]*|{_TAIL}") + r"|[\r\n]|\s+(?!\S)|\s+",
    r"\p{N}",
)
_CHAMELEON = (
    "<sentinel:[0-9]+>",
    "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
    r"([\t\n]|    |  )",
    r"\p{N}",
    r"[\p{P}!-/:-@\[-`{-~]",
    _GPT2,
)
_EXAONE_MOE = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_YOUTU_SCRIPTS = (
    "[\uac00-\ud7a3\u3131-\u318e]+"
    "|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
    "|[\u3105-\u312f]+|[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
)
_JAIS2_SPACES = "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4, "1,2")) + r"|\s{1}"
_BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"

_GPT2_SCHEME = Scheme((_GPT2,))
_DIGITS_GPT2_SCHEME = Scheme((r"\p{N}", _GPT2))
_LLAMA3_SCHEME = Scheme((_LLAMA3,), whole_words=True, add_bos=True)
_QWEN2_SCHEME = Scheme((_QWEN2,), normalize="NFC")
_QWEN2_PLAIN_SCHEME = Scheme((_QWEN2,))
_GPT4O_SCHEME = Scheme((_GPT4O,))
_BAILING_SCHEME = Scheme(
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
        r"|\s*[\r\n]|\s+(?!\S)|\s+",
    )
)
_LINES_SCHEME = Scheme((r"[^\n]+|\n+",), byte_level=False)

SCHEMES: dict[str, Scheme] = {
    "default": Scheme((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0"), _LLAMA3_SCHEME),
    **dict.fromkeys(("lfm2", "jina-v5-nano"), _LLAMA3_SCHEME),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), Scheme((_LLAMA3,))),
    **dict.fromkeys(("glm4", "glm5"), Scheme((_LLAMA3,), whole_words=True)),
    "jais-2": Scheme((_LLAMA3.removesuffix(r"\s+(?!\S)|\s+") + _JAIS2_SPACES,)),
    "minicpm5": Scheme((r"\p{N}{1,3}", _LLAMA3.replace("{1,3}", "+")), whole_words=True),
    **dict.fromkeys(("qwen2", "stablelm2", "megrez"), _QWEN2_SCHEME),
    **dict.fromkeys(("deepseek-r1-qwen", "kormo", "f2llmv2", "hunyuan", "grok-2", "solar-open"), _QWEN2_PLAIN_SCHEME),
    "qwen35": Scheme((_QWEN35,)),
    "ufakzeka": Scheme((_QWEN2.removeprefix(_CONTRACTION + "|"),)),
    "laguna": Scheme((r"[^\n]+|\n+", _QWEN2)),
    **dict.fromkeys(("gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de"), _GPT2_SCHEME),
    **dict.fromkeys(("a.x-4.0", "mellum", "modern-bert", "jina-v1-en", "jina-v2-code", "roberta-bpe"), _GPT2_SCHEME),
    **dict.fromkeys(("jais", "exaone4", "trillion", "granite-docling"), _GPT2_SCHEME),
    **dict.fromkeys(("mpt", "olmo"), Scheme((_GPT2,), normalize="NFC")),
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b"), _DIGITS_GPT2_SCHEME),
    "mellum2": _DIGITS_GPT2_SCHEME,
    "command-r": replace(_DIGITS_GPT2_SCHEME, normalize="NFC"),
    "falcon": Scheme((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")),
    "deepseek-llm": Scheme(_DEEPSEEK_LLM),
    "deepseek-coder": Scheme((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}")),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"), Scheme(_DEEPSEEK3)),
    "youtu": Scheme((_YOUTU_SCRIPTS, _GPT4O.replace("{1,3}", "")), whole_words=True),
    "tekken": Scheme((_TEKKEN,), whole_words=True, add_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), _GPT4O_SCHEME),
    "kimi-k2": Scheme((_KIMI,)),
    "granite-embed-multi-97m": Scheme((_GPT4O,), whole_words=True),
    **dict.fromkeys(("tiny_aya", "cohere2moe"), Scheme((r"\d{1,3}(?=(?:\d{3})*\b)", _GPT4O))),
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), _BAILING_SCHEME),
    "seed-coder": Scheme((_QWEN2.replace(r"\p{N}]+[\r\n]*", r"\p{N}\r\n]+"),)),
    **dict.fromkeys(("bloom", "gpt3-finnish", "poro-chat"), Scheme((_BLOOM,))),
    "viking": Scheme((_BLOOM, r"\p{N}")),
    "spark2_5": Scheme(_SPARK),
    "chameleon": Scheme(_CHAMELEON, add_bos=True),
    "exaone-moe": Scheme((_EXAONE_MOE,)),
    "superbpe": Scheme((r"\p{N}+", r"(?=(\d{3})+(?!\d))")),
    "mmbert": Scheme((r"[^\n]+|\n+", "\u2581[^\u2581\n]*"), byte_level=False, prefixes=True),
    "whitespace": Scheme((r"\S+",), byte_level=False, drops_spaces=True),
    **dict.fromkeys(("gemma4", "granite-embed-multi-311m", "sarvam-moe"), _LINES_SCHEME),
}
"""Every pre-tokenizer name that is understood."""


def find_scheme(name: str) -> Scheme:
    """The scheme of a `tokenizer.ggml.pre` name; TokenizerError, with the closest names, where it is unknown."""
    if name not in SCHEMES:
        closest = ", ".join(get_close_matches(name, SCHEMES, n=3, cutoff=0.3)) or "none"
        raise TokenizerError(
            f"tokenizer: pre-tokenizer '{name}' (tokenizer.ggml.pre) is unknown; closest: {closest}; "
            "a file converted again by a tool that knows the model would name one of those"
        )
    return SCHEMES[name]


@lru_cache(maxsize=32)
def find_split(patterns: tuple[str, ...]) -> Split:
    """The function that splits text by `patterns`, each applied to the pieces that the one before it left."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Sequence
    from tokenizers.pre_tokenizers import Split as SplitBy

    splitter = Sequence([SplitBy(Regex(pattern), "isolated") for pattern in patterns])

    def split(text: str) -> list[str]:
        return [piece for piece, _ in splitter.pre_tokenize_str(text)]

    return split
