"""Records what transformers computes for the cases, or `naive` does; needs torch 2.13.0 (CPU) and transformers.

Run `python tests/golden/make.py [CASE ...]`. Weights do not come from torch:
`cases.values` makes them, here and in the tests.
"""

import json
import re
import sys
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).parent.parent))

from golden.cases import CASES, ROWS, tokens, values
from golden.checkpoints import write_safetensors
from golden.families.seq2seq import MORE, source
from golden.naive import NAIVE
from golden.naive import outputs as naive_outputs
from golden.stand_ins import STAND_INS

DATA = Path(__file__).parent / "data"

NOT_WRITTEN = {
    *("transformers_version", "_name_or_path", "id2label", "label2id", "problem_type"),
    *("rope_theta", "rope_scaling", "rope_local_base_freq", "sliding_window_pattern", "torch_dtype"),
}
"""Keys that tell nothing, and those of the older dialect, which transformers carries along."""


def model_of(case: str) -> Any:
    """A transformers model in float32 with the weights of the case, which it loads as files hold them.

    Where it has none, a function of token ids.
    """
    if other := NAIVE.get(case):
        weights = {name: values(case, name, shape) for name, shape in other.tensors.items()}
        return lambda ids: naive_outputs(case, weights, ids)
    import torch
    import transformers

    torch.set_num_threads(1)
    other = STAND_INS.get(case)
    config = deepcopy(other.config if other else CASES[case])  # transformers writes into it
    cls = getattr(transformers, config["architectures"][0])
    empty = cls(cls.config_class.from_dict(config)).float()
    with TemporaryDirectory() as folder:
        shapes = other.tensors if other else shapes_of(empty) | MORE.get(case, {})
        weights = {name: values(case, name, shape) for name, shape in shapes.items()}
        weights = other.weights(weights) if other else weights
        write_safetensors(Path(folder) / "model.safetensors", weights)
        empty.config.save_pretrained(folder)
        return cls.from_pretrained(folder, dtype=torch.float32).eval()


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's tensors as published files have them, whatever they are in memory."""
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with safe_open(Path(folder) / "model.safetensors", "np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping


def outputs(model: Any, ids: list[int], rows: Iterable[int] = ROWS) -> np.ndarray[Any, Any]:
    """Logits, or an encoder's hidden states, at some positions: float32 (len(rows), width)."""
    if callable(model) and not hasattr(model, "config"):
        return np.ascontiguousarray(model(ids)[list(rows)])
    import torch

    with torch.no_grad():
        if model.config.is_encoder_decoder:
            result = model(input_ids=torch.tensor([source(ids)]), decoder_input_ids=torch.tensor([ids]))
        else:
            result = model(torch.tensor([ids]))
    array = result.logits if "logits" in result else result.last_hidden_state
    return np.ascontiguousarray(array[0, list(rows)].numpy(), np.float32)


def description(model: Any, case: str) -> dict[str, Any]:
    """The configuration as transformers writes it today, and every tensor's shape; of others those published."""
    if other := STAND_INS.get(case) or NAIVE.get(case):
        return {"config": CASES[case], "tensors": {name: list(shape) for name, shape in sorted(other.tensors.items())}}
    config = json.loads(model.config.to_json_string(use_diff=False))
    config |= {"architectures": [type(model).__name__], "dtype": "float32"}
    shapes = {name: list(shape) for name, shape in (shapes_of(model) | MORE.get(case, {})).items()}
    return {"config": {k: v for k, v in sorted(config.items()) if k not in NOT_WRITTEN}, "tensors": shapes}


def written(description: dict[str, Any]) -> str:
    """JSON with one line for each tensor."""
    text = json.dumps(description, indent=1)
    return re.sub(r"\[\s*\d+(?:,\s*\d+)*\s*\]", lambda m: re.sub(r"\s+", "", m[0]).replace(",", ", "), text) + "\n"


def main() -> None:
    DATA.mkdir(exist_ok=True)
    for case in sys.argv[1:] or CASES:
        model = model_of(case)
        np.save(DATA / f"{case}.npy", outputs(model, tokens(CASES[case]["vocab_size"])))
        (DATA / f"{case}.json").write_text(written(description(model, case)))
        print(case)


if __name__ == "__main__":
    main()
