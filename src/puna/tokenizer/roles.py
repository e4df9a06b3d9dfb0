"""Which token begins and ends texts and turns, from a checkpoint's config files and the tokens' own spelling.

It does not know where tokens came from.
"""

from collections.abc import Mapping
from typing import Any

from puna.tokenizer.draft import Draft
from puna.tokenizer.vocabulary import SEAMS, TokenType

_BERT = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}  # as its class has them
_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")

# Spellings by which llama.cpp finds these, in the order of preference.
_SPELLED = {
    "eot": (
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>"),
        *("_<EOT>", "[EOT]", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<end_of_utterance>"),
    ),
    "eom": ("<|eom_id|>",),
    "fim_pre": (
        *("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<\uff5cfim\u2581begin\uff5c>", "<PRE>", "\u2581<PRE>"),
        *("<|code_prefix|>", "<|prefix|>"),
    ),
    "fim_suf": (
        *("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<\uff5cfim\u2581hole\uff5c>", "<SUF>", "\u2581<SUF>"),
        *("<|code_suffix|>", "<|suffix|>"),
    ),
    "fim_mid": (
        *("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<\uff5cfim\u2581end\uff5c>", "<MID>", "\u2581<MID>"),
        *("<|code_middle|>", "<|middle|>"),
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}


def set_ids(draft: Draft, settings: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Puts ids by role into `draft`: from the token's text, else from what was read, else from one of `configs`.

    `settings` is what tokenizer_config.json says; `configs` are others by file name, the first to name a role counts.
    """
    named = dict(settings)
    if draft.model == "bert":
        named = {f"{role}_token": token for role, token in _BERT.items()} | {k: v for k, v in named.items() if v}
        named["bos_token"] = named.get("bos_token") or named.get("cls_token")
        named["eos_token"] = named.get("eos_token") or named.get("sep_token")
    for role in _ROLES:
        token = named.get(f"{role}_token")
        identity = draft.find(token) if isinstance(token, str) else None
        origin = f"tokenizer_config.json: {role}_token"
        if identity is None and role not in draft.ids:
            for name, config in configs.items():
                if listed := id_list(config.get(f"{role}_token_id")):
                    identity, origin = listed[0], f"{name}: {role}_token_id"
                    break
        if identity is not None and identity < len(draft.tokens):
            draft.ids[role] = identity
            draft.origins[draft.key_of(role)] = origin
    for role in [role for role, identity in draft.ids.items() if identity >= len(draft.tokens)]:
        del draft.ids[role]
    _set_spelled(draft)


def set_ends(draft: Draft, settings: Mapping[str, Any], generation: Mapping[str, Any]) -> None:
    """Puts into `draft` whether to begin and end texts, and every end token of generation_config.json if several."""
    for role in ("bos", "eos"):
        key = f"add_{role}_token"
        if isinstance(wanted := settings.get(key), bool) and role in draft.ids and key not in draft.flags:
            draft.flags[key] = wanted
            draft.origins[key] = f"tokenizer_config.json: {key}"
    ends = [i for i in id_list(generation.get("eos_token_id")) if i < len(draft.tokens)]
    if len(ends) > 1:
        draft.flags["eos_token_ids"] = ends
        draft.origins["eos_token_ids"] = "generation_config.json: eos_token_id"


def id_list(value: Any) -> list[int]:
    """The ids in a config's value, which is one, a list of some, or nothing."""
    values = value if isinstance(value, list) else [value]
    return [i for i in values if isinstance(i, int) and not isinstance(i, bool) and i >= 0]


def _set_spelled(draft: Draft) -> None:
    special = (TokenType.CONTROL, TokenType.USER_DEFINED)
    found = {token: i for i, token in enumerate(draft.tokens) if draft.types[i] in special}
    if any(seam <= found.keys() for seam in SEAMS):
        found.pop("<|end|>", None)
    for role, spellings in _SPELLED.items():
        for token in spellings:
            if role not in draft.ids and token in found:
                draft.ids[role] = found[token]
                draft.origins[draft.key_of(role)] = f"the token {token}"
