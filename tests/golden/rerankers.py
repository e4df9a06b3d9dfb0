"""Tiny cross-encoders, and what sentence-transformers' CrossEncoder says of pairs: `data/rerank.json`.

Run `python tests/golden/rerankers.py` with torch, transformers and sentence-transformers installed to record it.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from golden.cases import values
from golden.checkpoints import write_directory
from golden.families.encoders import CASES as ENCODERS

RECORD = Path(__file__).parent / "data" / "rerank.json"
QUERY = "w5 abc"
DOCUMENTS = ["w7 w9 zebra", "quick brown w12 fox jumps w99 over w100", "a", "abc w5 w5 w5 abc"]
ONE = {"num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}

CASES: dict[str, dict[str, Any]] = {
    "bert": {**ENCODERS["bert"], **ONE, "architectures": ["BertForSequenceClassification"], "model_type": "bert"},
    "bert_identity": {
        **{**ENCODERS["bert"], **ONE, "architectures": ["BertForSequenceClassification"], "model_type": "bert"},
        "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
    },
    "roberta": {
        **{**ENCODERS["roberta"], **ONE, "architectures": ["RobertaForSequenceClassification"], "pad_token_id": 0},
        **{"bos_token_id": 2, "eos_token_id": 3},
    },
    "modern_bert": {
        **{**ENCODERS["modern_bert"], **ONE, "architectures": ["ModernBertForSequenceClassification"]},
        **{"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3},
    },
    "modern_bert_first": {
        **{**ENCODERS["modern_bert"], **ONE, "architectures": ["ModernBertForSequenceClassification"]},
        **{"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3},
        "classifier_pooling": "cls",
    },
}


def write(folder: Path, case: str, shapes: dict[str, Any]) -> Path:
    """A checkpoint whose tokenizer makes pairs as the model's kind does."""
    config = CASES[case]
    weights = {name: values(case, name, tuple(shape)) for name, shape in shapes.items()}
    write_directory(folder, config, weights, words=True)
    spec = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    if case == "roberta":
        spec, settings = (json.loads(renamed(json.dumps(each))) for each in (spec, settings))
        settings |= {"bos_token": "<s>", "eos_token": "</s>"}
        spec["post_processor"]["pair"].insert(3, spec["post_processor"]["pair"][2])
    elif case.startswith("bert"):
        for part in spec["post_processor"]["pair"][-2:]:
            next(iter(part.values()))["type_id"] = 1
        settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128}
    (folder / "tokenizer.json").write_text(json.dumps(spec), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def renamed(text: str) -> str:
    """BERT's special tokens by RoBERTa's names."""
    for old, new in (("[CLS]", "<s>"), ("[SEP]", "</s>"), ("[PAD]", "<pad>"), ("[UNK]", "<unk>"), ("[MASK]", "<mask>")):
        text = text.replace(old, new)
    return text


def main() -> None:
    """Record every case."""
    import transformers
    from sentence_transformers import CrossEncoder

    from golden.make import shapes_of

    record = {}
    for case, config in CASES.items():
        cls = getattr(transformers, config["architectures"][0])
        shapes = {name: list(shape) for name, shape in shapes_of(cls(cls.config_class.from_dict(dict(config)))).items()}
        with TemporaryDirectory() as folder:
            write(Path(folder), case, shapes)
            model = CrossEncoder(folder, device="cpu")
            scores = model.predict([(QUERY, text) for text in DOCUMENTS]).tolist()
        record[case] = {"tensors": shapes, "scores": scores}
        print(case, scores)
    RECORD.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
