"""Puna and llama.cpp behind the same three verbs, so that a benchmark can alternate them in one process.

Both run the same GGUF with the same threads, greedily, on token ids; neither tokenizes, samples or prints in the
measured part. llama.cpp is called through its C API, without the Python layer's copies.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

import numpy as np


class Contender(Protocol):
    """A loaded model that forgets between calls of `prefill`."""

    name: str

    def prefill(self, tokens: list[int]) -> int:
        """Compute a prompt in an empty context; the best next token."""

    def decode(self, token: int, position: int) -> int:
        """Compute one token more; the best next token."""


class Puna:
    """The cpu backend, driven as the engine drives it."""

    name = "puna"

    def __init__(self, path: str, context: int, threads: int, backend: str = "cpu") -> None:
        import puna

        self._runner = puna.load(path, backend=backend, context_length=context, threads=threads)._runtime.engine._runner
        self._chunk = self._runner.limits.tokens
        self._blocks = list(range(self._runner.limits.table))

    def prefill(self, tokens: list[int]) -> int:
        for start in range(0, len(tokens), self._chunk):
            chunk = tokens[start : start + self._chunk]
            last = start + self._chunk >= len(tokens)
            logits = self._runner.step([(chunk, start, self._blocks)], [len(chunk) - 1] if last else [])
        return int(np.argmax(logits[0]))

    def decode(self, token: int, position: int) -> int:
        return int(np.argmax(self._runner.step([([token], position, self._blocks)], [0])[0]))


class LlamaCpp:
    """llama.cpp as `llama-cpp-python` builds it from source, with its own defaults."""

    name = "llama.cpp"

    def __init__(self, path: str, context: int, threads: int) -> None:
        import llama_cpp

        self._lib = llama_cpp
        self._llama = llama_cpp.Llama(
            path, n_ctx=context, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads, verbose=False
        )
        self._context = self._llama._ctx.ctx
        self._vocab = self._llama.n_vocab()

    def prefill(self, tokens: list[int]) -> int:
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)
        for start in range(0, len(tokens), 512):
            best = self._run(tokens[start : start + 512])
        return best

    def decode(self, token: int, position: int) -> int:
        return self._run([token])

    def _run(self, tokens: list[int]) -> int:
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        if self._lib.llama_decode(self._context, self._lib.llama_batch_get_one(array, len(tokens))):
            raise RuntimeError("llama_decode failed")
        logits = self._lib.llama_get_logits_ith(self._context, -1)
        return int(np.argmax(np.ctypeslib.as_array(logits, shape=(self._vocab,))))


CONTENDERS = {"puna": Puna, "llama.cpp": LlamaCpp}
