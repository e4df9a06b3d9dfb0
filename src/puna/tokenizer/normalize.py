"""What SentencePiece does to text before it cuts it: replacements, and spaces as U+2581.

It does not know how text becomes ids.
"""

import re
from collections.abc import Callable

from puna.tokenizer.charsmap import replacer
from puna.tokenizer.library import library_errors
from puna.tokenizer.pieces import SPACE
from puna.tokenizer.seams import Seams
from puna.tokenizer.vocabulary import TokenType, Vocabulary

WHITE = "".join(map(chr, (9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)))) + (
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What is white to Unicode, and so to `tokenizers`; Python counts some more."""


def normalizer(vocabulary: Vocabulary) -> Callable[[str, bool], str]:
    """The function from text, and whether a space may go before it, to what the vocabulary's tokens spell."""
    replace = _replacements(vocabulary)
    prefix, squeezes = vocabulary.add_space_prefix, vocabulary.remove_extra_whitespaces

    def normalize(text: str, first: bool) -> str:
        begins = bool(text)
        text = replace(text)
        if vocabulary.like_tokenizers == "split":
            text = re.sub(f"[{WHITE}]+", " ", text).strip(" ")
        elif vocabulary.like_tokenizers == "strip":
            text = re.sub("  +", " ", text.rstrip(WHITE)).removeprefix(" ")
        elif squeezes:
            text = re.sub("  +", " ", text).lstrip(" ").rstrip(" " + SPACE)
        if first and prefix and (text or (begins and not squeezes)):
            text = " " + text
        return text.replace(" ", SPACE)

    return normalize


def _replacements(vocabulary: Vocabulary) -> Callable[[str], str]:
    table = vocabulary.charsmap
    if not table:
        return str
    if vocabulary.like_tokenizers:
        from tokenizers.normalizers import Precompiled

        with library_errors("tokenizer: the table of characters is not understood", "a whole one would work"):
            normalize: Callable[[str], str] = Precompiled(table).normalize_str
        return normalize
    replace = replacer(table)
    tokens = vocabulary.tokens
    kept = Seams({tokens[i]: i for i in vocabulary.of_type(TokenType.USER_DEFINED)})
    return lambda text: "".join(tokens[p] if isinstance(p, int) else replace(p) for p in kept.split(text))
