"""A tiny Qwen3 as what embeds texts and what judges documents: sentence-transformers' and transformers' word on it.

Run `python tests/golden/judges.py` with torch, transformers and sentence-transformers installed to record
`data/judges.json`. Directories are as those of Qwen3-Embedding and Qwen3-Reranker: the former's tokenizer ends a text
with a token, the last one's hidden state is the embedding, and names of tensors have no prefix.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from golden.checkpoints import write_checkpoint

RECORD = Path(__file__).parent / "data" / "judges.json"
TEXTS = ["a text", "another, longer than that one", "", "the rest\nof it all", "x" * 70]
QUERY, DOCUMENTS = "what is it", ["it is this", "no, that\n  one", "", "yes or no?"]
INSTRUCTION = "find it"
WORDS = ("no", "yes", "<|im_start|>", "<|im_end|>")
FIRST = 300
"""The id of the first of them, in the place of pairs of letters."""

BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""As https://huggingface.co/Qwen/Qwen3-Reranker-0.6B puts them around a pair."""


def edited(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a directory."""
    value: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
    return value


def write_embedder(folder: Path) -> Path:
    """A directory as sentence-transformers saves one."""
    write_checkpoint(folder, "qwen3", rename=lambda name: name.removeprefix("model."), model_type="qwen3")
    spec, settings = edited(folder, "tokenizer.json"), edited(folder, "tokenizer_config.json")
    end = spec["model"]["vocab"]["<eos>"]
    last = {"SpecialToken": {"id": "<eos>", "type_id": 0}}
    spec["post_processor"] = {
        **{"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, last], "pair": []},
        "special_tokens": {"<eos>": {"id": "<eos>", "ids": [end], "tokens": ["<eos>"]}},
    }
    del settings["add_bos_token"]
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "left", "model_max_length": 128}
    pooling = {"word_embedding_dimension": 128, "pooling_mode_lasttoken": True, "include_prompt": True}
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "1_Pooling").mkdir()
    written = {"tokenizer.json": spec, "tokenizer_config.json": settings, "modules.json": modules}
    for name, value in {**written, "1_Pooling/config.json": pooling}.items():
        (folder / name).write_text(json.dumps(value), "utf-8")
    return folder


def write_judge(folder: Path) -> Path:
    """A directory whose tokenizer has the words and marks of the prompt, and puts nothing around a text."""
    write_checkpoint(folder, "qwen3", model_type="qwen3")
    spec, settings = edited(folder, "tokenizer.json"), edited(folder, "tokenizer_config.json")
    vocabulary = spec["model"]["vocab"]
    for i, text in enumerate(WORDS):
        old = next(token for token, place in vocabulary.items() if place == FIRST + i)
        spec["model"]["merges"] = [pair for pair in spec["model"]["merges"] if pair.replace(" ", "") != old]
        del vocabulary[old]
        vocabulary[text] = FIRST + i
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        spec["added_tokens"].append({"id": FIRST + i, "content": text, **plain, "special": text.startswith("<|")})
    spec["post_processor"] = None
    del settings["add_bos_token"]
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    for name, value in (("tokenizer.json", spec), ("tokenizer_config.json", settings)):
        (folder / name).write_text(json.dumps(value), "utf-8")
    return folder


def embeddings(folder: Path) -> list[list[float]]:
    """sentence-transformers' embeddings of the texts, in float32."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
    return [[float(x) for x in row] for row in model.encode(TEXTS)]


def scores(folder: Path) -> list[float]:
    """What the model card of Qwen3-Reranker computes of pairs, by transformers in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    no, yes = (tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes"))
    out = []
    for document in DOCUMENTS:
        text = f"<Instruct>: {INSTRUCTION}\n<Query>: {QUERY}\n<Document>: {document}"
        ids = [i for part in (BEFORE, text, AFTER) for i in tokenizer.encode(part, add_special_tokens=False)]
        with torch.no_grad():
            last = model(torch.tensor([ids])).logits[0, -1]
        out.append(float(torch.log_softmax(torch.stack([last[no], last[yes]]), 0)[1].exp()))
    return out


def main() -> None:
    """Record both."""
    with TemporaryDirectory() as folder:
        record = {"embeddings": embeddings(write_embedder(Path(folder) / "e"))}
        record["scores"] = scores(write_judge(Path(folder) / "j"))
    rounded = {"embeddings": [[round(x, 7) for x in row] for row in record["embeddings"]], "scores": record["scores"]}
    RECORD.write_text(json.dumps(rounded) + "\n")
    print(record["scores"], [row[:3] for row in record["embeddings"]])


if __name__ == "__main__":
    main()
