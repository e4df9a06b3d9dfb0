"""Rewrite reference.json: the SHA-256 of what ggml itself makes of `inputs.arrays()`. Needs libgguf (ggml 0.9.4+).

python tests/quants/make_reference.py
"""

import hashlib
import json
import sys
from pathlib import Path

import libgguf
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import inputs

TYPES = {
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q5_0": 6,
    "Q5_1": 7,
    "Q8_0": 8,
    "Q2_K": 10,
    "Q3_K": 11,
    "Q4_K": 12,
    "Q5_K": 13,
    "Q6_K": 14,
    "IQ2_XXS": 16,
    "IQ2_XS": 17,
    "IQ3_XXS": 18,
    "IQ4_NL": 20,
    "IQ3_S": 21,
    "IQ2_S": 22,
    "IQ4_XS": 23,
    "BF16": 30,
    "TQ1_0": 34,
    "TQ2_0": 35,
    "MXFP4": 39,
    "NVFP4": 40,
    "Q1_0": 41,
}
NEEDY = ("IQ2_XXS", "IQ2_XS")
WEIGHTED = (
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *("IQ4_NL", "IQ4_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", *NEEDY),
)
BROKEN = [("IQ3_S", "sparse")]
"""ggml writes what follows a group of zeros to the wrong place."""


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:32]


def main():
    out = {}
    for kind, array in inputs.arrays().items():
        for name, number in TYPES.items():
            if name in NEEDY or (name, kind) in BROKEN:
                continue
            out[f"{name}, {kind}"] = digest(libgguf.quantize_rows(array, number))
        for name in WEIGHTED:
            if (name, kind) in BROKEN:
                continue
            for weight, matrix in inputs.importance().items():
                out[f"{name}, {kind}, {weight}"] = digest(libgguf.quantize_rows(array, TYPES[name], imatrix=matrix))
    Path(__file__).with_name("reference.json").write_text(json.dumps(out, indent=0) + "\n")


if __name__ == "__main__":
    main()
