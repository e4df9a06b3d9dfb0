"""Tiny models in the layout of sentence-transformers, one for each way to make a vector, and its word on them.

Run `python tests/golden/sentences.py` with torch, transformers and sentence-transformers installed to record
`data/sentences.npz`: for each kind and prompt, the vectors of `TEXTS`, (len(TEXTS), dim) float32.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from golden import judges
from golden.checkpoints import write_checkpoint, write_safetensors

Array = np.ndarray[Any, Any]
RECORD = Path(__file__).parent / "data" / "sentences.npz"
TEXTS = [
    "a text",
    "Another w7, LONGER than that one",
    "x",
    "it is " * 40,
    "w1 w2 w3 w4 w5 w6 w9",
    "the rest\nof it all",
]
"""Short and long ones, one that loses its end, capitals."""

MOST = 32
"""max_seq_length of all kinds."""


@dataclass(frozen=True)
class Kind:
    """`case`: the network. `pooling`: modes; `dense`: rows, bias and activation of each matrix after it."""

    case: str
    pooling: tuple[str, ...]
    prompts: dict[str, str] = field(default_factory=dict)
    default: str | None = None
    include_prompt: bool = True
    normalize: bool = True
    lowercase: bool = False
    dense: tuple[tuple[int, bool, str], ...] = ()
    old: bool = False
    """Whether pooling is said by a key for each mode, as until sentence-transformers 5."""


SEARCH = {"query": "query: ", "document": "passage: "}
IDENTITY, TANH = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh"

KINDS: dict[str, Kind] = {
    "bge": Kind("bert", ("cls",), {"query": "Represent this sentence: ", "document": ""}, old=True),
    "e5": Kind("bert", ("mean",), SEARCH),
    "dot": Kind("distilbert", ("cls",), normalize=False),
    "default": Kind("bert", ("mean",), SEARCH, default="document", normalize=False),
    "instructor": Kind("bert", ("mean",), SEARCH, include_prompt=False),
    "weighted": Kind("bert", ("weightedmean",), SEARCH, include_prompt=False, normalize=False, old=True),
    "first": Kind("modern_bert", ("cls",), SEARCH, include_prompt=False),
    "largest": Kind("distilbert", ("max",), SEARCH),
    "root": Kind("roberta", ("mean_sqrt_len_tokens",), normalize=False, lowercase=True),
    "several": Kind("bert", ("cls", "mean", "max"), normalize=False, old=True),
    "last": Kind("qwen3", ("lasttoken",), {"query": "Instruct: find it\nQuery:", "document": ""}),
    "nomic": Kind("nomic_bert", ("mean",), {"search_query": "search_query: ", "search_document": "search_document: "}),
    "labse": Kind("bert", ("cls",), dense=((128, True, TANH),)),
    "sentence_t5": Kind("t5encoder", ("mean",), dense=((96, False, IDENTITY),)),
    "two": Kind("distilbert", ("mean",), dense=((96, True, TANH), (64, False, IDENTITY)), normalize=False),
    "gemma": Kind(
        *("gemma_embedding", ("mean",), {"query": "task: search result | query: ", "document": "title: none | text: "}),
        dense=((512, False, IDENTITY), (256, False, IDENTITY)),
    ),
}


def write(folder: Path, name: str) -> Path:
    """The directory of a kind."""
    kind = KINDS[name]
    if kind.case == "qwen3":
        judges.write_embedder(folder)
    else:
        write_checkpoint(folder, kind.case, **({"model_type": "bert"} if kind.case == "bert" else {}))
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    if "tokenizer_class" not in settings:
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    sentence = {"max_seq_length": MOST, "do_lower_case": kind.lowercase}
    config = {"prompts": kind.prompts, "default_prompt_name": kind.default, "similarity_fn_name": "cosine"}
    files = {"tokenizer_config.json": settings, "sentence_bert_config.json": sentence}
    files |= {"config_sentence_transformers.json": config, "1_Pooling/config.json": _pooling(kind)}
    files["modules.json"] = list(_modules(folder, kind))
    for path, value in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(value), "utf-8")
    return folder


def _width(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return int(config.get("hidden_size") or config.get("dim") or config.get("d_model"))


OLD = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
}


def _pooling(kind: Kind) -> dict[str, Any]:
    modes = {OLD[m]: True for m in kind.pooling} if kind.old else {"pooling_mode": kind.pooling}
    width = 256 if kind.case not in ("bert", "qwen3") else 128
    return {"word_embedding_dimension": width, "include_prompt": kind.include_prompt, **modes}


def _modules(folder: Path, kind: Kind) -> Iterator[dict[str, Any]]:
    """The entries of modules.json; writes matrices."""
    types = ["Transformer", "Pooling", *("Dense" for _ in kind.dense), *(["Normalize"] if kind.normalize else [])]
    for i, each in enumerate(types):
        path = f"{i}_{each}" if i else ""
        yield {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{each}"}
    rng, columns = np.random.default_rng(3), _width(folder) * len(kind.pooling)
    for i, (rows, bias, activation) in enumerate(kind.dense):
        path = folder / f"{i + 2}_Dense"
        path.mkdir()
        said = {"in_features": columns, "out_features": rows, "bias": bias, "activation_function": activation}
        (path / "config.json").write_text(json.dumps(said))
        tensors = {"linear.weight": rng.standard_normal((rows, columns), np.float32) / np.float32(16)}
        tensors |= {"linear.bias": rng.standard_normal(rows, np.float32)} if bias else {}
        write_safetensors(path / "model.safetensors", tensors)
        columns = rows


def asked(name: str) -> list[str | None]:
    """The prompts that a kind is asked with: none, and each of its own."""
    return [None, *KINDS[name].prompts]


def embeddings(folder: Path, name: str) -> dict[str, Array]:
    """What sentence-transformers makes of the texts, by kind and prompt."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
    assert model.max_seq_length == MOST
    return {f"{name}/{prompt or ''}": model.encode(TEXTS, prompt_name=prompt) for prompt in asked(name)}


def record() -> None:
    """Writes the record."""
    found: dict[str, Array] = {}
    for name in KINDS:
        with TemporaryDirectory() as folder:
            found |= embeddings(write(Path(folder) / "hf", name), name)
            print(name, found[f"{name}/"].shape)
    np.savez_compressed(RECORD, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    record()
