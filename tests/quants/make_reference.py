"""Rewrite reference.json: the SHA-256 of what ggml itself makes of `inputs.arrays()`. Needs libgguf (ggml 0.9.4+).

IQ1_M changed since: its bytes are those of the shared library given, of ggml 0.25 (llama-cpp-python has one).

python tests/quants/make_reference.py .../llama_cpp/lib/libggml-base.so
"""

import ctypes
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
    "IQ1_S": 19,
    "IQ4_NL": 20,
    "IQ3_S": 21,
    "IQ2_S": 22,
    "IQ1_M": 29,
    "IQ4_XS": 23,
    "BF16": 30,
    "TQ1_0": 34,
    "TQ2_0": 35,
    "MXFP4": 39,
    "NVFP4": 40,
    "Q1_0": 41,
}
NEEDY = ("IQ1_S", "IQ2_XXS", "IQ2_XS")
WEIGHTED = (
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *("IQ4_NL", "IQ4_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_M", *NEEDY),
)
BROKEN = [("IQ3_S", "sparse"), *((name, kind) for name in ("IQ1_S", "IQ1_M") for kind in ("sparse", "all scales"))]
"""ggml writes what follows a group of zeros to the wrong place (IQ3_S), or makes such a group negative (IQ1)."""


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:32]


def newest(library, array, name, matrix):
    out = np.empty((len(array), libgguf.row_size(TYPES[name], array.shape[1])), np.uint8)
    quantize = library.ggml_quantize_chunk
    quantize.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    quantize(TYPES[name], array.ctypes, out.ctypes, 0, *array.shape, None if matrix is None else matrix.ctypes)
    return out


def quantized(library, array, name, matrix=None):
    if name == "IQ1_M":
        return newest(library, array, name, matrix)
    return libgguf.quantize_rows(array, TYPES[name], imatrix=matrix)


def main(path):
    library, out = ctypes.CDLL(path), {}
    library.ggml_quantize_init(TYPES["IQ1_M"])
    for kind, array in inputs.arrays().items():
        for name in TYPES:
            if name in NEEDY or (name, kind) in BROKEN:
                continue
            out[f"{name}, {kind}"] = digest(quantized(library, array, name))
        for name in WEIGHTED:
            if (name, kind) in BROKEN:
                continue
            for weight, matrix in inputs.importance().items():
                out[f"{name}, {kind}, {weight}"] = digest(quantized(library, array, name, matrix))
    Path(__file__).with_name("reference.json").write_text(json.dumps(out, indent=0) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
