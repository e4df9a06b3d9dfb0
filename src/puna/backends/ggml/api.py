"""The functions of libggml that the backend calls: their declarations, and where the library is that has them.

Nothing here knows of graphs.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from puna.dtypes import BY_GGML_ID
from puna.errors import BackendError

KINDS: dict[str, Any] = {
    "p": ctypes.c_void_p, "i": ctypes.c_int, "l": ctypes.c_int64, "z": ctypes.c_size_t, "f": ctypes.c_float,
    "b": ctypes.c_bool, "s": ctypes.c_char_p, "v": None,
}  # fmt: skip

TENSORS = {
    **dict.fromkeys(("add", "sub", "mul", "div", "mul_mat", "swiglu_split", "get_rows"), "ppp"),
    **dict.fromkeys(("neg", "abs", "exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "silu"), "pp"),
    **dict.fromkeys(("gelu_erf", "sum_rows", "cont", "soft_max"), "pp"),
    "norm": "ppf",
    "rms_norm": "ppf",
    "scale": "ppf",
    "scale_bias": "ppff",
    "add_id": "pppp",
    "mul_mat_id": "pppp",
    "set_rows": "pppp",
    "concat": "pppi",
    "cast": "ppi",
    "repeat_4d": "ppllll",
    "reshape_4d": "ppllll",
    "permute": "ppiiii",
    "view_1d": "pplz",
    "view_4d": "ppllllzzzz",
    "new_tensor_4d": "pillll",
    "soft_max_ext": "pppff",
    "flash_attn_ext": "pppppfff",
    "rope_ext": "ppppiiiffffff",
}
"""Functions `ggml_...` that give a tensor: what they take, a letter for each, the first the context."""

OTHERS = {
    "ggml_version": "s:",
    "ggml_type_size": "z:i",
    "ggml_blck_size": "l:i",
    "ggml_tensor_overhead": "z:",
    "ggml_graph_overhead_custom": "z:zb",
    "ggml_nbytes": "z:p",
    "ggml_is_contiguous": "b:p",
    "ggml_set_input": "v:p",
    "ggml_set_output": "v:p",
    "ggml_soft_max_add_sinks": "v:pp",
    "ggml_flash_attn_ext_add_sinks": "v:pp",
    "ggml_flash_attn_ext_set_prec": "v:pi",
    "ggml_new_graph_custom": "p:pzb",
    "ggml_build_forward_expand": "v:pp",
    "ggml_graph_n_nodes": "i:p",
    "ggml_free": "v:p",
    "ggml_backend_load_all_from_path": "v:s",
    "ggml_backend_dev_count": "z:",
    "ggml_backend_dev_get": "p:z",
    "ggml_backend_dev_name": "s:p",
    "ggml_backend_dev_description": "s:p",
    "ggml_backend_dev_type": "i:p",
    "ggml_backend_dev_memory": "v:ppp",
    "ggml_backend_dev_init": "p:ps",
    "ggml_backend_dev_buffer_type": "p:p",
    "ggml_backend_dev_supports_op": "b:pp",
    "ggml_backend_dev_backend_reg": "p:p",
    "ggml_backend_reg_get_proc_address": "p:ps",
    "ggml_backend_free": "v:p",
    "ggml_backend_buft_is_host": "b:p",
    "ggml_backend_buft_get_alignment": "z:p",
    "ggml_backend_buft_get_alloc_size": "z:pp",
    "ggml_backend_buft_alloc_buffer": "p:pz",
    "ggml_backend_buffer_free": "v:p",
    "ggml_backend_buffer_get_base": "p:p",
    "ggml_backend_buffer_get_size": "z:p",
    "ggml_backend_buffer_clear": "v:pi",
    "ggml_backend_buffer_set_usage": "v:pi",
    "ggml_backend_cpu_buffer_from_ptr": "p:pz",
    "ggml_backend_tensor_alloc": "i:ppp",
    "ggml_backend_tensor_set": "v:ppzz",
    "ggml_backend_tensor_get": "v:ppzz",
    "ggml_backend_graph_compute": "i:pp",
    "ggml_gallocr_new": "p:p",
    "ggml_gallocr_free": "v:p",
    "ggml_gallocr_alloc_graph": "b:pp",
    "ggml_gallocr_get_buffer_size": "z:pi",
}
"""All other functions: what they give, and what they take."""

ENVIRONMENT = "PUNA_GGML"
"""Variable with a libggml of one's own: the file, or the folder that it is in."""

DIMS, SOURCES, PARAMS, NAME, OBJECT = 4, 10, 16, 64, 32


class InitParams(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Tensor(ctypes.Structure):
    """struct ggml_tensor: only its size is asked for, to see that the library is one that we know."""

    _fields_ = [
        ("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * DIMS),
        ("nb", ctypes.c_size_t * DIMS), ("op", ctypes.c_int), ("op_params", ctypes.c_int32 * PARAMS),
        ("flags", ctypes.c_int32), ("src", ctypes.c_void_p * SOURCES), ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t), ("data", ctypes.c_void_p), ("name", ctypes.c_char * NAME),
        ("extra", ctypes.c_void_p), ("padding", ctypes.c_char * 8),
    ]  # fmt: skip


class Library:
    """libggml's functions, as attributes without their prefix `ggml_`."""

    def __init__(self, parts: list[ctypes.CDLL], folder: Path) -> None:
        self._parts = parts
        for name, given in OTHERS.items():
            result, _, taken = given.partition(":")
            setattr(self, name.removeprefix("ggml_"), self._function(name, result, taken))
        for name, taken in TENSORS.items():
            setattr(self, name, self._function(f"ggml_{name}", "p", taken))
        self.init = self._function("ggml_init", "p", "")
        self.init.argtypes = [InitParams]
        self._check(folder)
        self.backend_load_all_from_path(str(folder).encode())

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"ggml_{name} is not declared in puna.backends.ggml.api")

    def _function(self, name: str, result: str, taken: str) -> Any:
        for part in self._parts:
            if hasattr(part, name):
                function = getattr(part, name)
                function.restype, function.argtypes = KINDS[result], [KINDS[each] for each in taken]
                return function
        raise BackendError(
            f"loading libggml: it has no function '{name}'; libggml-python 0.20.2 or a libggml of that time would work"
        )

    def _check(self, folder: Path) -> None:
        """That tensors and types are laid out as declared here."""
        found, known = self.tensor_overhead(), ctypes.sizeof(Tensor) + OBJECT
        wrong = [
            f"{d.name} has {self.type_size(i)} bytes, not {d.block_bytes}"
            for i, d in BY_GGML_ID.items()
            if (self.type_size(i), self.blck_size(i)) != (d.block_bytes, d.block_size)
        ]
        if found != known:
            wrong.append(f"a tensor takes {found} bytes, not {known}")
        if wrong:
            raise BackendError(
                f"loading libggml {self.version().decode()} in {folder}: {'; '.join(wrong)}; "
                "libggml-python 0.20.2 or a libggml of that time would work"
            )


def _folders() -> Iterator[Path]:
    """Where libggml may be: what the user named, else the package's folders."""
    if named := os.environ.get(ENVIRONMENT):
        path = Path(named)
        yield path if path.is_dir() else path.parent
        return
    found = find_spec("libggml")
    if found is None:
        raise BackendError(
            "backend 'ggml': the package 'libggml' is not installed; pip install 'puna[ggml]' works, and so does "
            f"{ENVIRONMENT}=<the folder of a libggml>"
        )
    for place in found.submodule_search_locations or ():
        yield from (Path(place) / name for name in ("lib64", "lib", "bin"))


def _files(folder: Path) -> list[Path]:
    """The parts of libggml in a folder, each after those that it needs."""
    found = []
    for part in ("ggml-base", "ggml-cpu", "ggml"):
        names = (f"lib{part}.so", f"lib{part}.dylib", f"{part}.dll", f"lib{part}.dll")
        found += [folder / name for name in names if (folder / name).exists()][:1]
    return found


@cache
def library() -> Library:
    """libggml, loaded once; BackendError where it is not to be found or is not one that we know."""
    folders = list(_folders())
    for folder in folders:
        if files := _files(folder):
            try:
                return Library([ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL) for file in files], folder)
            except OSError as error:
                raise BackendError(f"loading libggml from {folder}: {error}; another build of it may work") from error
    raise BackendError(
        f"loading libggml: none in {', '.join(map(str, folders))}; {ENVIRONMENT}=<its folder> says where one is"
    )
