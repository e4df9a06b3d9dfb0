"""What PyTorch's pickles are made of: the globals they may name, storages, and tensors as views of storages.

    persistent id := ("storage", type, key, device, elements [, view])      view := (key, first element, elements)
    tensor        := _rebuild_tensor*(storage, first element, size, strides in elements, ...)

It knows no file layout: a container says at which byte of the file each storage begins.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from puna.dtypes import BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, DType
from puna.dtypes import F8_E4M3 as E4M3
from puna.dtypes import F8_E5M2 as E5M2
from puna.errors import FormatError
from puna.formats.unpickle import Name, put

MAX_DIMS = 32  # what every NumPy has

C64 = DType("C64", None, 1, 8, np.dtype("<c8"))
C128 = DType("C128", None, 1, 16, np.dtype("<c16"))


@dataclass(frozen=True, slots=True)
class TorchType:
    """A torch dtype; `dtype` is None where Puna has no equal."""

    name: str
    itemsize: int
    dtype: DType | None


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes of the storage that the container keeps under `key`; `type` is None where elements have none."""

    key: str
    type: TorchType | None
    begin: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class View:
    """A tensor: `first` and `strides` count elements of the storage."""

    storage: Storage
    type: TorchType
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(slots=True)
class Storages:
    """The storages a pickle names, by key: bytes in all, and bytes of an element."""

    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def find(self, saved: Any) -> Storage:
        """The storage of a persistent id; FormatError where it is no such id, or says two things of one storage."""
        if type(saved) is not tuple or len(saved) not in (5, 6) or saved[0] != "storage":
            raise FormatError("a persistent id that is no storage")
        kind, key, _, count = saved[1:5]
        view = saved[5] if len(saved) == 6 else None
        if type(kind) is not Name or type(kind.value) is not _StorageType or type(key) is not str or not _size(count):
            raise FormatError("a storage without type, key or number of elements")
        itemsize = kind.value.itemsize
        if self.sizes.setdefault(key, (count * itemsize, itemsize)) != (count * itemsize, itemsize):
            raise FormatError(f"storage {key!r} has two sizes or types")
        begin, elements = _window(view, count)
        return Storage(key, kind.value.type, begin * itemsize, elements * itemsize)


@dataclass(frozen=True, slots=True)
class _StorageType:
    itemsize: int
    type: TorchType | None


def _size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _sizes(values: tuple[Any, ...]) -> bool:
    return len(values) <= MAX_DIMS and all(map(_size, values))


def _window(view: Any, count: int) -> tuple[int, int]:
    """First element and number of elements of a view of a storage (old files only)."""
    if view is None:
        return 0, count
    if type(view) is not tuple or len(view) != 3 or not _sizes(view[1:]) or view[1] + view[2] > count:
        raise FormatError(f"a view that is not inside its storage of {count} elements")
    return view[1], view[2]


def _view(storage: Storage, first: Any, shape: Any, strides: Any, kind: TorchType | None) -> View:
    if kind is None:
        raise FormatError("a tensor of a storage without element type")
    if not (_size(first) and _sizes(shape) and _sizes(strides) and len(shape) == len(strides)):
        raise FormatError(f"a tensor whose offset, sizes and strides are no up to {MAX_DIMS} sizes")
    return View(storage, kind, first, shape, strides)


def _rebuild(storage: Storage, first: int, shape: Any, strides: Any, *rest: Any) -> View:
    _refuse_lazy(rest[2:])
    return _view(storage, first, shape, strides, storage.type)


def _rebuild_typed(
    storage: Storage, first: int, shape: Any, strides: Any, grad: Any, hooks: Any, kind: Name, *rest: Any
) -> View:
    _refuse_lazy(rest)
    return _view(storage, first, shape, strides, kind.value if type(kind.value) is TorchType else None)


def _refuse_lazy(rest: tuple[Any, ...]) -> None:
    """Refuse the bits for "values are to be negated" and "conjugated"."""
    if rest and rest[0]:
        raise FormatError("a tensor with conjugate or negative bit; save its resolve_conj().resolve_neg()")


def _rebuild_subclass(function: Name, kind: Name, args: tuple[Any, ...], *state: Any) -> Any:
    if function.name not in _REBUILDS:
        raise FormatError(f"a tensor rebuilt by {function.name}")
    return function.call(args)


def _ordered(*items: Any) -> dict[Any, Any]:
    if len(items) > 1 or not all(type(each) is list for each in items):
        raise FormatError("an OrderedDict of something else than a list of pairs")
    made: dict[Any, Any] = {}
    for pair in items[0] if items else ():
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise FormatError("an OrderedDict of something else than a list of pairs")
        put(made, *pair)
    return made


def _latin(text: str, encoding: str, *rest: Any) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise FormatError(f"bytes encoded as {encoding[:20]!r}; latin1 is what pickle writes")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise FormatError("bytes encoded as latin1 with characters beyond it") from error


_TYPES: dict[str, tuple[int, DType | None]] = {
    "float64": (8, F64),
    "float32": (4, F32),
    "float16": (2, F16),
    "bfloat16": (2, BF16),
    "float8_e4m3fn": (1, E4M3),
    "float8_e5m2": (1, E5M2),
    "int64": (8, I64),
    "int32": (4, I32),
    "int16": (2, I16),
    "int8": (1, I8),
    "uint64": (8, U64),
    "uint32": (4, U32),
    "uint16": (2, U16),
    "uint8": (1, U8),
    "bool": (1, BOOL),
    "complex64": (8, C64),
    "complex128": (16, C128),
    "complex32": (4, None),
    "float8_e4m3fnuz": (1, None),
    "float8_e5m2fnuz": (1, None),
    "float8_e8m0fnu": (1, None),
    "float4_e2m1fn_x2": (1, None),
}
_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}
_Calls = dict[str, tuple[Callable[..., Any], tuple[type, ...]]]
_REBUILDS: _Calls = {
    "torch._utils._rebuild_tensor": (_rebuild, (Storage, int, tuple, tuple)),
    "torch._utils._rebuild_tensor_v2": (_rebuild, (Storage, int, tuple, tuple)),
    "torch._utils._rebuild_tensor_v3": (_rebuild_typed, (Storage, int, tuple, tuple, bool, dict, Name)),
    "torch._utils._rebuild_parameter": (lambda tensor, *rest: tensor, (View,)),
    "torch._utils._rebuild_parameter_with_state": (lambda tensor, *rest: tensor, (View,)),
}
_CALLS: _Calls = {
    **_REBUILDS,
    "torch._tensor._rebuild_from_type_v2": (_rebuild_subclass, (Name, Name, tuple)),
    "torch.Size": (lambda sizes, *rest: sizes, (tuple,)),
    "torch.device": (lambda kind, *index: ":".join([kind, *map(str, index[:1])]), (str,)),
    "collections.OrderedDict": (_ordered, ()),
    "collections.defaultdict": (lambda *factory: {}, ()),
    "builtins.set": (lambda items, *rest: items, (list,)),
    "__builtin__.set": (lambda items, *rest: items, (list,)),
    "_codecs.encode": (_latin, (str, str)),
}
_ONLY_NAMED = (
    *("torch.Tensor", "torch.nn.parameter.Parameter"),
    *(f"{module}.{kind}" for module in ("builtins", "__builtin__") for kind in ("dict", "list", "int", "float")),
)


def _names() -> dict[str, Name]:
    types = {name: TorchType(name, *rest) for name, rest in _TYPES.items()}
    listed = [Name(name, make, takes) for name, (make, takes) in _CALLS.items()]
    listed += [Name(name, value=None) for name in _ONLY_NAMED]
    listed += [Name(f"torch.{name}", value=kind) for name, kind in types.items()]
    for module in ("torch", "torch.cuda", "torch.storage"):
        for name, kind in _STORAGES.items():
            value = _StorageType(types[kind].itemsize, types[kind])
            listed.append(Name(f"{module}.{name}Storage", value=value))
        listed.append(Name(f"{module}.UntypedStorage", value=_StorageType(1, None)))
    return {each.name: each for each in listed}


NAMES: Mapping[str, Name] = _names()
"""Every global that a checkpoint may name."""
