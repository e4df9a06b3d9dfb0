"""Small vocabularies, trained on the spot with the libraries that Puna's tokenizers are measured against."""

import io
import json
from functools import cache

import numpy as np
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tokenizer.corpus import CODE, EMOJI, SCRIPTS, WORDS

TEXTS = [*SCRIPTS, *EMOJI, *CODE, *WORDS] * 2

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")


def splits(*patterns):
    steps = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@cache
def byte_level(pattern=QWEN2, normalizer=None):
    """A byte-level BPE of `tokenizers`, 700 tokens, with three special tokens and one that is not special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splits(pattern)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = getattr(normalizers, normalizer)()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=696, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False, special=False)])
    return tokenizer


def byte_level_metadata(tokenizer, pre, **more):
    """GGUF metadata of a byte-level `tokenizers.Tokenizer`, made without Puna."""
    spec = json.loads(tokenizer.to_str())
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    types = [1] * len(tokens)
    for added in spec["added_tokens"]:
        types[added["id"]] = 3 if added["special"] else 4
    keys = {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": types,
        "merges": [m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]],
        "bos_token_id": tokens.index("<|im_start|>"),
        "eos_token_id": tokens.index("<|im_end|>"),
        "add_bos_token": False,
        **more,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


@cache
def sentence_pieces(**settings):
    """The bytes of a trained SentencePiece BPE model of 600 pieces, byte fallback unless `settings` say otherwise."""
    out = io.BytesIO()
    settings = {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "vocab_size": 600,
        "user_defined_symbols": "<sep>,\u2581\u2581\u2581",
        "control_symbols": "[INST]",
        **settings,
    }
    lines = [text for text in TEXTS if "\0" not in text]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, character_coverage=0.98, minloglevel=2, **settings
    )
    return out.getvalue()


def sentence_pieces_metadata(model, **more):
    """GGUF metadata of a SentencePiece model, made with the `sentencepiece` library."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    count = processor.vocab_size()

    def kind(i):
        for number, check in ((2, processor.is_unknown), (3, processor.is_control), (5, processor.is_unused)):
            if check(i):
                return number
        return 6 if processor.is_byte(i) else 4 if processor.id_to_piece(i) in ("<sep>", "\u2581\u2581\u2581") else 1

    keys = {
        "model": "llama",
        "tokens": [processor.id_to_piece(i) for i in range(count)],
        "scores": np.array([processor.get_score(i) for i in range(count)], np.float32),
        "token_type": np.array([kind(i) for i in range(count)], np.int32),
        "bos_token_id": processor.bos_id(),
        "eos_token_id": processor.eos_id(),
        "unknown_token_id": processor.unk_id(),
        **more,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}


@cache
def word_pieces(lowercase=True):
    """A BERT tokenizer of `tokenizers`, 500 tokens."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=500, show_progress=False, special_tokens=special)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def word_pieces_metadata(tokenizer, **more):
    """GGUF metadata of a BERT tokenizer, with U+2581 where words start, made without Puna."""
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    keys = {
        "model": "bert",
        "tokens": [
            t if i < 5 else t.removeprefix("##") if t.startswith("##") else "\u2581" + t for i, t in enumerate(tokens)
        ],
        "token_type": [3] * 5 + [1] * (len(tokens) - 5),
        "bos_token_id": 2,
        "seperator_token_id": 3,
        "unknown_token_id": 1,
        "padding_token_id": 0,
        **more,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
