"""Tiny model files for the tests of store and create, written by the gguf package."""

from pathlib import Path

import gguf
import numpy as np


def write_gguf(path: Path, architecture: str = "llama", seed: int = 0) -> Path:
    """A file of 1,536 parameters: one Q8_0 matrix (32, 32) and one F32 matrix (16, 32)."""
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    values = np.random.default_rng(seed).standard_normal((32, 32), dtype=np.float32)
    quantized = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("token_embd.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output.weight", values[:16])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
