"""llama.cpp as a contender, through the C API of an installed llama-cpp-python, at its better setting for each work.

Settings: weights repacked or not (`use_extra_bufts`, the command line's --repack), flash attention on or off.
"""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import Any

from puna.bench.contender import prompt, timed
from puna.bench.work import Work
from puna.errors import PunaError

CHUNK = 512
KV_TYPES = {"f32": 0, "f16": 1, "q8_0": 8}
"""ggml's numbers of the types."""
TRIES = 2
"""Runs by which a setting is chosen, after one that warms up."""


class PeerError(PunaError):
    """The peer is absent, or refused the work."""


def open_library() -> Any:
    """The module; PeerError says how to install it."""
    try:
        import llama_cpp
    except ImportError as error:
        raise PeerError(
            "--peer: llama-cpp-python is not installed here; `pip install llama-cpp-python` builds it"
        ) from error
    return llama_cpp


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the ways to run it."""

    repack: bool
    flash: bool

    def __str__(self) -> str:
        return f"repack {'on' if self.repack else 'off'}, fa {'on' if self.flash else 'off'}"


class LlamaCpp:
    """A GGUF file, loaded once for each setting of its weights."""

    name = "llama.cpp"

    def __init__(self, path: str, threads: int) -> None:
        self._lib, self._path, self._threads = open_library(), path, threads
        silence = self._lib.llama_log_callback(lambda level, text, data: None)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(silence))  # the library calls it until the process has ended
        self._lib.llama_log_set(silence, None)
        self._lib.llama_backend_init()
        self._models: dict[bool, Any] = {}
        self.load_seconds = timed(lambda: self._model(True))

    @property
    def build(self) -> str:
        """What was measured: its version and the system information of its build."""
        return f"llama-cpp-python {self._lib.__version__}; {self._lib.llama_print_system_info().decode().rstrip(' |')}"

    def _model(self, repack: bool) -> Any:
        if repack not in self._models:
            params = self._lib.llama_model_default_params()
            params.use_extra_bufts = repack
            params.n_gpu_layers = 0
            self._models[repack] = self._lib.llama_model_load_from_file(self._path.encode(), params)
        if not self._models[repack]:
            raise PeerError(f"--peer: llama.cpp does not load {self._path}")
        return self._models[repack]

    def session(self, work: Work) -> LlamaSession:
        """Its fastest setting for this work, by trying all."""
        settings = [Setting(repack, flash) for repack in (True, False) for flash in (True, False)]
        if work.kv_type == "q8_0":
            settings = [s for s in settings if s.flash]  # it needs flash attention for quantized values
        return min((self._tried(work, setting) for setting in settings), key=lambda session: session.best)

    def _tried(self, work: Work, setting: Setting) -> LlamaSession:
        session = LlamaSession(self._lib, self._model(setting.repack), work, setting, self._threads)
        session.run()
        session.best = min(session.run() for _ in range(TRIES))
        return session


class LlamaSession:
    """A context that holds what the work begins with."""

    def __init__(self, lib: Any, model: Any, work: Work, setting: Setting, threads: int) -> None:
        self._lib, self._work, self.setting = lib, work, str(setting)
        self.best = 0.0
        self._long = work.sequences == 1 and work.start > CHUNK
        params = lib.llama_context_default_params()
        params.n_ctx = -(-(work.sequences * work.positions + CHUNK) // 256) * 256
        params.n_batch = params.n_ubatch = CHUNK
        params.n_seq_max = 2 if self._long else work.sequences
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = int(setting.flash)
        params.type_k = params.type_v = KV_TYPES[work.kv_type]
        params.kv_unified = True
        self._context = lib.llama_init_from_model(model, params)
        if not self._context:
            raise PeerError(f"--peer: llama.cpp makes no context for '{work.name}' with {setting}")
        self._memory = lib.llama_get_memory(self._context)
        self._batch = lib.llama_batch_init(CHUNK, 0, 1)
        weakref.finalize(self, _free, lib, self._context, self._batch)  # at exit too, while the library is whole
        vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        self._prompt = prompt(max(work.tokens, work.steps, CHUNK), vocabulary)
        (self._fill_long if self._long else self._fill)()

    def run(self) -> float:
        """Prefill in an empty context, or decode from `start`."""
        if self._work.decodes:
            for sequence in range(self._work.sequences):
                if not self._lib.llama_memory_seq_rm(self._memory, sequence, self._work.start, -1):
                    self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)  # it recurs: there is no way back
            return timed(self._decode)
        self._lib.llama_memory_clear(self._memory, True)
        return timed(self._prefill)

    def _prefill(self) -> None:
        for start in range(0, self._work.tokens, CHUNK):
            count = min(CHUNK, self._work.tokens - start)
            self._step(
                [(self._prompt[start + i], start + i, 0) for i in range(count)], start + count == self._work.tokens
            )

    def _decode(self) -> None:
        for i in range(self._work.steps):
            self._step([(self._prompt[i], self._work.start + i, s) for s in range(self._work.sequences)], None)

    def _fill(self) -> None:
        """Every sequence begins with a real prompt."""
        for sequence in range(self._work.sequences):
            if self._work.start:
                self._step([(self._prompt[i], i, sequence) for i in range(self._work.start)], False)

    def _fill_long(self) -> None:
        """One prompt's K/V, copied until the context is long enough; its cells are the sequence's own."""
        lib, memory = self._lib, self._memory
        self._step([(self._prompt[i], i, 0) for i in range(CHUNK)], False)
        size = lib.llama_state_seq_get_size(self._context, 0)
        kept = (ctypes.c_uint8 * size)()
        lib.llama_state_seq_get_data(self._context, kept, size, 0)
        for start in range(CHUNK, self._work.start, CHUNK):
            if not lib.llama_state_seq_set_data(self._context, kept, size, 1):
                raise PeerError(f"--peer: llama.cpp has no room for {self._work.start} positions")
            lib.llama_memory_seq_add(memory, 1, 0, -1, start)
            lib.llama_memory_seq_cp(memory, 1, 0, -1, -1)
            lib.llama_memory_seq_rm(memory, 1, -1, -1)

    def _step(self, tokens: list[tuple[int, int, int]], logits: bool | None) -> None:
        """Tokens as (id, position, sequence); logits of the last one, of none, or with None of all."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, (token, position, sequence) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, position, 1, sequence
            batch.logits[i] = logits is None or (logits and i + 1 == len(tokens))
        if status := self._lib.llama_decode(self._context, batch):
            raise PeerError(f"--peer: llama.cpp refused '{self._work.name}' with status {status}")
        self._lib.llama_synchronize(self._context)


def _free(lib: Any, context: Any, batch: Any) -> None:
    lib.llama_batch_free(batch)
    lib.llama_free(context)
