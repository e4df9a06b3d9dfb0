"""Whether two tokenizers are the same: ids of a corpus of texts that tokenizers get wrong, compared one by one.

The truth is what the library of the files says: `tokenizers` for tokenizer.json (and the files before it),
`sentencepiece` for tokenizer.model. It does not know GGUF.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from puna.errors import TokenizerError
from puna.tokenizer.full import library_ids, open_library
from puna.tokenizer.tokenizer import Tokenizer
from puna.tokenizer.vocabulary import TokenType

_SCRIPTS = (
    "Ünïcödé ﬁ ½ Ⅷ ² ªº ǅ ſ İ",
    "e\u0301 vs é, n\u0303, 각 vs 각, a\u0323\u0302",
    "مرحبا بالعالم ١٢٣ ؟",
    "שָׁלוֹם עולָם",
    "ภาษาไทยไม่มีช่องว่าง",
    "हिन्दी भाषा १२३ क्षत्रिय।",
    "தமிழ் বাংলা ქართული አማርኛ",
    "请考试我的软件！12345 「引号」，中文。",
    "こんにちは世界 カタカナ ﾊﾝｶｸ",
    "한국어 문장입니다. 가나다라",
    "Здравствуй, мир! ЁЖ ёж",
    "Ελληνικά ΣΊΣΥΦΟΣ",
    "𝐀𝓑𝕮 𐐀𐐨 𠀀𪜀",
    "👩\u200d👩\u200d👧 🇨🇭 👍🏽 ❤\ufe0f 1\ufe0f\u20e3",
    "a😀b😀 c \u200b\u200d\ufeffzero\u2060width \ufffd",
)
_SPACES = (
    *("", " ", "  ", "   a", "a   ", "a  b   c    d", " " * 40, "\n" * 20, "\t" * 9 + "x", "a" + " " * 70 + "b"),
    *(
        "tab\tnew\r\nline\r\r\n\n\n  end",
        "   \n  \n x \n",
        "a\u00a0b\u3000c\u2003d\u2028f",
        " lead",
        "trail ",
        "\n a\n",
    ),
)
_CODE = (
    "def f(x):\n    return x**2  # square\n\n\nclass A:\n\tpass\n",
    '{"a": [1, 2.5e-3, null, true], "b": "\\u00e9"}',
    "for (int i = 0; i < n; ++i) { a[i] += b[i] << 2; } // ok",
    "<html><body class='x'>&amp;</body></html>",
    "SELECT * FROM t WHERE a='b' AND c>=10;",
    "https://example.org/a?b=c&d=%20#e camelCaseHTTPServer snake_case kebab-case",
    "#include <stdio.h>\r\nint main(void) { return 0; }\r\n",
)
_WORDS = (
    "Hello, WORLD!! How's it going? I'D we'll THEY'RE don't won't 's 't o'clock ''s",
    "0 00 000 0000 12345 1234567890 3.14159 1,234.56 0x1F 1e-9 \u00bd \u00b2\u00b3",
    "$1,234.56 (50%) #tag @user a_b-c ...!!?? \u2026 \u2014 \u201cq\u201d \u00abx\u00bb",
    "The quick brown fox jumps over the lazy dog. Pack my box with five dozen liquor jugs.",
    "Antidisestablishmentarianism, internationalization; hyperparameter\u2019s na\u00efvet\u00e9.",
    "x" * 60 + " " + "ab" * 40,
)


def _mixtures() -> tuple[str, ...]:
    """Short texts of everything above, in any order."""
    choose = random.Random(8)
    parts = [part for text in (*_SCRIPTS, *_CODE, *_WORDS) for part in text.split(" ")] + [" ", "  ", "\n", "'s", "7"]
    return tuple("".join(choose.choices(parts, k=choose.randint(2, 6))) for _ in range(150))


PROBES = (
    *(chr(code) for code in range(1, 256) if code not in range(0x80, 0xA0)),
    *_SCRIPTS,
    *_SPACES,
    *_CODE,
    *_WORDS,
    *_mixtures(),
)
"""Texts on which tokenizers differ where they do: scripts, digits, runs of white space, contractions, code, emoji.

U+2581 is not among them: SentencePiece takes it for a space, and `tokenizers`, given the same model, does not.
"""

Ids = Callable[[str], list[int]]


class Difference(NamedTuple):
    """A text that becomes other ids."""

    text: str
    ours: list[int]
    theirs: list[int]


def differences(tokenizer: Tokenizer, truth: str | PathLike[str], texts: Iterable[str] = PROBES) -> list[Difference]:
    """What of `texts`, and of texts around each special token, `tokenizer` encodes otherwise than `truth`.

    `truth` is a tokenizer.json, a SentencePiece .model, or a directory with one of them: of both, tokenizer.json.
    TokenizerError where `truth` cannot be read, or its library is not installed.
    """
    path = Path(truth)
    if path.is_dir():
        path = _chosen(path)
    if path.suffix != ".json":
        return _compared(lambda text: tokenizer.encode(text, special=False), _sentencepiece(path), texts)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"comparing with {path}: {error}; a tokenizer.json would work") from error
    return _with_library(tokenizer, text, str(path), texts)


def differences_from_json(
    tokenizer: Tokenizer, spec: Mapping[str, Any], texts: Iterable[str] = PROBES
) -> list[Difference]:
    """The same against a parsed tokenizer.json."""
    return _with_library(tokenizer, json.dumps(spec), "tokenizer.json", texts)


def _with_library(tokenizer: Tokenizer, text: str, source: str, texts: Iterable[str]) -> list[Difference]:
    library = open_library(text, source)

    def ours(text: str) -> list[int]:
        return tokenizer.encode(text, parse_special=True, add_bos=False, add_eos=False)

    def theirs(text: str) -> list[int]:
        return library_ids(library, text)

    return _compared(ours, theirs, [*texts, *_around_special(tokenizer)])


def _compared(ours: Ids, theirs: Ids, texts: Iterable[str]) -> list[Difference]:
    return [Difference(text, a, b) for text in texts if (a := ours(text)) != (b := theirs(text))]


def _around_special(tokenizer: Tokenizer) -> Iterator[str]:
    """Texts with the special and the added tokens in them; of very many, some."""
    special = tokenizer.vocabulary.of_type(TokenType.CONTROL, TokenType.USER_DEFINED)
    for i in special[:: len(special) // 200 + 1]:
        yield f"a {tokenizer.tokens[i]} b{tokenizer.tokens[i]}c"


def _chosen(directory: Path) -> Path:
    names = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise TokenizerError(f"comparing with {directory}: there is none of {', '.join(names)}; one would work")


def _sentencepiece(path: Path) -> Ids:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise TokenizerError(
            f"comparing with {path}: the library sentencepiece is needed; pip install sentencepiece"
        ) from error
    try:
        processor = SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise TokenizerError(f"comparing with {path}: {error}; a SentencePiece model would work") from error
    return lambda text: list(processor.encode(text))
