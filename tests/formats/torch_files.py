"""PyTorch files made by hand: a writer of pickles that can name what is not installed, and both containers."""

import io
import struct
import zipfile
from dataclasses import dataclass
from typing import Any


@dataclass
class Global:
    name: str


@dataclass
class Call:
    function: str
    args: tuple[Any, ...] = ()


@dataclass
class Persistent:
    id: Any


@dataclass
class Code:
    """Opcodes as they are."""

    text: bytes


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + opcodes(value) + b"."


def opcodes(value: Any) -> bytes:
    match value:
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            size = value.bit_length() // 8 + 1
            return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case bytes():
            return b"B" + struct.pack("<I", len(value)) + value
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(opcodes(key) + opcodes(member) for key, member in value.items()) + b"u"
        case Global():
            module, _, name = value.name.rpartition(".")
            return f"c{module}\n{name}\n".encode()
        case Call():
            return opcodes(Global(value.function)) + opcodes(value.args) + b"R"
        case Persistent():
            return opcodes(value.id) + b"Q"
        case Code():
            return value.text
    raise TypeError(type(value))


def storage(key: str, count: int, kind: str = "torch.FloatStorage", *view: Any) -> Persistent:
    return Persistent(("storage", Global(kind), key, "cpu", count, *view))


def tensor(of: Persistent, shape: tuple[Any, ...], strides: tuple[Any, ...], first: Any = 0) -> Call:
    return Call("torch._utils._rebuild_tensor_v2", (of, first, shape, strides, False, Call("collections.OrderedDict")))


def zip_file(
    value: Any, storages: dict[str, bytes], *, top: str = "archive/", compression: int = zipfile.ZIP_STORED, **more: str
) -> bytes:
    """`more` are further entries, such as byteorder."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr(f"{top}data.pkl", value if isinstance(value, bytes) else pickled(value))
        for name, text in more.items():
            archive.writestr(top + name, text)
        for key, content in storages.items():
            archive.writestr(f"{top}data/{key}", content)
    return out.getvalue()


def legacy_file(value: Any, storages: dict[str, tuple[int, bytes]]) -> bytes:
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}]
    out = b"".join(pickled(each) for each in [*head, value, list(storages)])
    return out + b"".join(struct.pack("<q", count) + content for count, content in storages.values())
