"""What sentence-transformers writes beside a checkpoint: modules.json, each module's config.json, and prompts.

    modules.json                       [{"type": "...Pooling", "path": "1_Pooling"}, ...]
    1_Pooling/config.json              {"pooling_mode": "mean" or a list} or {"pooling_mode_mean_tokens": true, ...}
    2_Dense/config.json                {"in_features", "out_features", "bias", "activation_function"}
    sentence_bert_config.json          {"max_seq_length", "do_lower_case"}
    config_sentence_transformers.json  {"prompts": {name: text}, "default_prompt_name", "similarity_fn_name"}

It opens no weights. What it is in GGUF, `puna.embedding.*`, is drawn in puna.embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from puna.create.json_files import read_json
from puna.embedding import ACTIVATIONS, KEYS, MODES
from puna.errors import ConversionError

POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}
"""Sentence-transformers' names of GGUF's pooling types."""

DENSE = "dense_modules"
"""The key for folders of matrices after pooling; their tensors are called `<folder>.linear.weight`."""

OLD_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""What pooling was called, in the order in which vectors of several are joined."""

MODULES = ("Transformer", "Pooling", "Dense", "Dropout", "Normalize")
"""Parts of a sentence-transformers model that are understood."""

PLAIN_DENSE = {
    **{"use_residual": False, "module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"},
}
"""Settings of a Dense that takes the vector and gives another."""

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

LENGTHS = tuple(
    f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "camembert", "xlm-roberta", "xlnet")
)
"""Where max_seq_length stands; the name was once that of the class."""


def said_of(root: Path) -> dict[str, Any]:
    """What an architecture needs of it, as keys of config.json: `pooling_type` (0: none of GGUF's) and matrices.

    ConversionError names a module that is unknown, or not where it is known.
    """
    said: dict[str, Any] = {}
    for kind, folder in _modules(root):
        if kind == "Pooling":
            modes = _modes(root, _config(root, folder))
            said["pooling_type"] = POOLING.get(modes[0], 0) if len(modes) == 1 else 0
        if kind == "Dense":
            said.setdefault(DENSE, []).append(folder)
            said |= {
                f"{name_of(folder)}_{side}": _config(root, folder).get(f"{side}_features") for side in ("in", "out")
            }
    return said


def name_of(folder: str) -> str:
    """What the matrix of a folder is called: `dense_2` of `2_Dense`, as llama.cpp has it."""
    return f"dense_{folder.partition('_')[0]}"


def in_network(root: Path, folders: Sequence[str], known: Sequence[Any]) -> bool:
    """Whether matrices after pooling are `known` ones that a network can have before it, and nothing else."""
    plain = all(_activation(root, f) == "identity" and _config(root, f).get("bias", True) is False for f in folders)
    return plain and all(folder in known for folder in folders)


def metadata_of(root: Path, context_length: int, known: Sequence[Any] = ()) -> dict[str, Any]:
    """The same and more as GGUF metadata; only what is not so without saying it. `known` as for `in_network`."""
    modules = _modules(root)
    if not modules:
        return {}
    found: dict[str, Any] = {}
    if not any(kind == "Normalize" for kind, _ in modules):
        found[KEYS["normalize"]] = False
    for folder in (folder for kind, folder in modules if kind == "Pooling"):
        config = _config(root, folder)
        modes = _modes(root, config)
        if len(modes) > 1 or modes[0] not in POOLING:
            found[KEYS["pooling"]] = modes
        if config.get("include_prompt") is False:
            found[KEYS["include_prompt"]] = False
    dense = [folder for kind, folder in modules if kind == "Dense"]
    if dense and not in_network(root, dense, known):
        found[KEYS["dense_names"]] = [name_of(folder) for folder in dense]
        found[KEYS["dense_activations"]] = [_activation(root, folder) for folder in dense]
    return found | _lengths(root, context_length) | _prompts(root)


def _modules(root: Path) -> list[tuple[str, str]]:
    """Kind and folder of each module; ConversionError for one that is unknown, or after what must be the last."""
    modules = [m for m in read_json(root / "modules.json", kind=list) or [] if isinstance(m, dict)]
    found = [(str(m.get("type")).rpartition(".")[2], str(m.get("path", ""))) for m in modules]
    for kind, _ in found:
        if kind not in MODULES:
            raise ConversionError(f"converting {root}: modules.json has a '{kind}'; known: {', '.join(MODULES)}")
    if any(kind == "Normalize" for kind, _ in found[:-1]):
        raise ConversionError(f"converting {root}: modules.json has something after Normalize; it must be the last")
    return found


def _config(root: Path, folder: str) -> dict[str, Any]:
    path = root / folder / "config.json"
    config: dict[str, Any] | None = read_json(path) if path.resolve().is_relative_to(root.resolve()) else None
    if config is None:
        raise ConversionError(f"converting {root}: modules.json names '{folder}', which has no config.json")
    return config


def _modes(root: Path, config: Mapping[str, Any]) -> list[str]:
    """The ways of pooling whose vectors are joined, in order."""
    old = [mode for key, mode in OLD_POOLING.items() if config.get(key) is True]
    said = config.get("pooling_mode") or old
    modes = [said] if isinstance(said, str) else said
    if not isinstance(modes, Sequence) or not modes or any(mode not in MODES for mode in modes):
        raise ConversionError(f"converting {root}: pooling is {said}; one of these works: {', '.join(MODES)}")
    return list(modes)


def _activation(root: Path, folder: str) -> str:
    config = _config(root, folder)
    activation = str(config.get("activation_function") or "Tanh").rpartition(".")[2].lower()
    more = [key for key, usual in PLAIN_DENSE.items() if config.get(key, usual) not in (usual, None)]
    if activation not in ACTIVATIONS or more:
        raise ConversionError(
            f"converting {root}: {folder} has {more[0] if more else activation!r}; a Dense with one of these works: "
            f"{', '.join(ACTIVATIONS)}"
        )
    return activation


def _lengths(root: Path, context_length: int) -> dict[str, Any]:
    """How many tokens are read of a text, where that is less than the network could, and whether it is lowered."""
    config: dict[str, Any] = next((said for name in LENGTHS if (said := read_json(root / name))), {})
    most = config.get("max_seq_length") or (read_json(root / "tokenizer_config.json") or {}).get("model_max_length")
    found: dict[str, Any] = {}
    if isinstance(most, int | float) and 0 < most < context_length:
        found[KEYS["max_length"]] = int(most)
    if config.get("do_lower_case") is True:
        found[KEYS["lowercase"]] = True
    return found


def _prompts(root: Path) -> dict[str, Any]:
    path = root / "config_sentence_transformers.json"
    config = read_json(path) or {}
    prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise ConversionError(f"reading {path}: its 'prompts' are {str(prompts)[:80]}; texts by name would work")
    if default is not None and default not in prompts:
        raise ConversionError(
            f"reading {path}: 'default_prompt_name' is {default!r}; its prompts are {', '.join(prompts) or 'none'}"
        )
    found: dict[str, Any] = {}
    if prompts:
        found[KEYS["prompt_names"]] = list(prompts)
        found[KEYS["prompt_texts"]] = [text or "" for text in prompts.values()]
    if default is not None:
        found[KEYS["default_prompt"]] = default
    if (similarity := config.get("similarity_fn_name")) in SIMILARITIES:
        found[KEYS["similarity"]] = similarity
    return found
