"""Pickles as data: equal to Python's own for plain values; whatever else a stream says, it is a FormatError."""

import pickle
import struct
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.torch_files import Call, Code, Global, Persistent, pickled
from puna.errors import FormatError
from puna.formats.unpickle import Name, unpickle

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**500), 2**500), st.floats(allow_nan=False), st.text(), st.binary()
)
KEYS = st.one_of(st.text(), st.integers(-(2**60), 2**60), st.binary(), st.none())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(KEYS, inner, max_size=5), st.tuples(inner, inner)
    ),
    max_leaves=12,
)


def read(text: bytes, **names: Name) -> Any:
    value, end = unpickle(memoryview(text), {name.replace("__", "."): made for name, made in names.items()})
    assert end == len(text)
    return value


@settings(max_examples=150, deadline=None)
@given(VALUES, st.sampled_from([3, 4, 5]))
def test_plain_values_are_read_as_python_reads_them(value: Any, protocol: int) -> None:
    text = pickle.dumps([value, value], protocol)  # the second time it comes from the memo
    assert read(text) == [value, value]


def test_what_python_2_and_long_values_need_is_read() -> None:
    assert read(b"\x80\x02U\x02ab.") == "ab"
    assert read(b"\x80\x02T\x02\0\0\0a\xff.") == "a\udcff"
    assert read(pickle.dumps("x" * 300, 4)) == "x" * 300
    assert read(b"\x8d" + struct.pack("<Q", 1) + b"x.") == "x"
    assert read(b"\x8e" + struct.pack("<Q", 1) + b"x.") == b"x"
    assert read(pickle.dumps(list(range(70000)), 2)) == list(range(70000))
    assert read(pickle.dumps({i: i for i in range(3000)}, 2)) == {i: i for i in range(3000)}
    assert read(b"\x8b\x01\0\0\0\xff.") == -1


def test_sets_are_lists_and_bytearrays_are_bytes() -> None:
    assert sorted(read(pickle.dumps({1, 2}, 4))) == [1, 2]
    assert sorted(read(pickle.dumps(frozenset([1, 2]), 4))) == [1, 2]
    assert read(pickle.dumps(bytearray(b"ab"), 5)) == b"ab"


def test_a_value_begins_where_it_is_said_and_tells_where_it_ends() -> None:
    text = memoryview(b"xyz" + pickled(1) + pickled("a") + b"rest")
    first, at = unpickle(text, {}, at=3)
    second, end = unpickle(text, {}, at=at)
    assert (first, second, bytes(text[end:])) == (1, "a", b"rest")


def test_a_listed_name_is_called_and_its_attributes_are_dropped() -> None:
    make = Name("a.b", lambda *args: {"args": args}, (str,))
    assert read(pickled(Call("a.b", ("x", 1))), a__b=make) == {"args": ("x", 1)}
    assert read(b"\x80\x04\x8c\x01a\x8c\x01b\x93\x8c\x01x\x85\x81}b.", a__b=make) == {"args": ("x",)}


def test_a_persistent_id_is_resolved() -> None:
    assert unpickle(memoryview(pickled([Persistent((1, "a"))])), {}, lambda saved: saved[::-1])[0] == [("a", 1)]


UNLISTED = {
    "global": pickled(Call("posix.system", ("true",))),
    "only named": pickled(Global("posix.system")),
    "nested": pickled({"a": [Call("posix.system", ("true",))]}),
    "stack global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    "newobj": b"\x80\x02cposix\nsystem\n(t\x81.",
    "after the value": b"\x80\x02K\x01cposix\nsystem\n0.",
}


@pytest.mark.parametrize("case", UNLISTED)
def test_a_global_that_is_not_listed_is_refused_by_its_full_name(case: str) -> None:
    with pytest.raises(FormatError, match=r"it names posix\.system, which is not on the list"):
        read(UNLISTED[case], a__b=Name("a.b", print))


def test_a_module_that_a_pickle_names_is_not_imported() -> None:
    with pytest.raises(FormatError, match=r"it names this\.s,"):
        read(pickled(Global("this.s")))
    assert "this" not in sys.modules


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "at byte 0, opcode none: 1 bytes wanted, 0 are left"),
    "no stop": (b"\x80\x02K\x01", "1 bytes wanted"),
    "nothing": (b".", "opcode STOP: the stack is empty"),
    "too much": (b"NN.", "1 values and 0 marks are left over"),
    "mark left": (b"N(.", "the stack is empty"),
    "mark under": (b"(N0N.", "the stack is empty|0 values and 1 marks"),
    "pop past mark": (b"N(0.", "at byte 2, opcode POP: the stack is empty"),
    "no mark": (b"Nt.", "opcode TUPLE: there is no mark"),
    "no mark to pop": (b"1.", "there is no mark"),
    "dup of nothing": (b"2.", "opcode DUP: the stack is empty"),
    "short tuple": (b"N\x86.", "the stack is empty"),
    "memo": (b"h\x05.", "opcode BINGET: the memo has no 5"),
    "put nothing": (b"q\x05.", "the stack is empty"),
    "memoize nothing": (b"\x94.", "the stack is empty"),
    "append to none": (b"NNa.", "a list is wanted, a NoneType is there"),
    "append to a tuple": (b")Na.", "a list is wanted, a tuple is there"),
    "extend a dict": (b"}(Ne.", "a list is wanted, a dict"),
    "items of a list": (b"](NNu.", "a dict is wanted, a list"),
    "odd items": (b"}(Nu.", "a key without a value"),
    "odd dict": (b"(Nd.", "a key without a value"),
    "tuple key": (b"})Ns.", "a tuple is a dictionary's key"),
    "list key": (b"}]Ns.", "a list is a dictionary's key"),
    "huge key": (b"}" + b"\x8a\x09" + b"\xff" * 8 + b"\x7f" + b"Ns.", "a int is a dictionary's key"),
    "text past the end": (b"X\xff\xff\xff\x7fab.", "2147483647 bytes wanted, 3 are left"),
    "text of 2**64": (b"\x8d" + b"\xff" * 8 + b"ab.", "18446744073709551615 bytes wanted"),
    "negative text": (b"T\xff\xff\xff\xffab.", "a length of -1"),
    "utf-8": (b"X\x01\0\0\0\xff.", "text that is not UTF-8"),
    "huge integer": (b"\x8b\x41\0\0\0" + bytes(65) + b".", "an integer of 65 bytes, of at most 64"),
    "negative integer": (b"\x8b\xff\xff\xff\xff.", "an integer of -1 bytes"),
    "protocol": (b"\x80\x06N.", "protocol 6, of at most 5"),
    "frame": (b"\x80\x04\x95" + b"\xff" * 8 + b"N.", "a frame of 18446744073709551615 bytes"),
    "name without end": (b"cos\nsystem", "a name without an end"),
    "endless name": (b"c" + b"a" * 5000 + b"\n.", "a name without an end, or of more than 1024 bytes"),
    "name of no text": (b"NN\x93.", "it names what is not text"),
    "inst": (b"(ios\nsystem\n.", "opcode INST: it is not one of those"),
    "obj": (b"(No.", "opcode OBJ: it is not one of those"),
    "extension": (b"\x82\x01.", "opcode EXT1: it is not one of those"),
    "text protocol": (b"I1\n.", "opcode INT: it is not one of those"),
    "buffer": (b"\x97.", "opcode NEXT_BUFFER: it is not one of those"),
    "text id": (b"P1\n.", "opcode PERSID: it is not one of those"),
    "no opcode": (b"\xff.", "opcode 0xff: it is not one of those"),
    "id": (b"NQ.", "a persistent id where none has a meaning"),
    "call of a list": (b"])R.", "a list is called with a tuple"),
    "call of text": (b"U\x02os)R.", "a str is called with a tuple"),
    "call without tuple": (b"ca\nb\n]R.", "a Name is called with a list"),
    "arguments": (b"ca\nb\nK\x01\x85R.", r"a\.b takes \(str\), not \(int\)"),
    "no arguments": (b"ca\nb\n)R.", r"a\.b takes \(str\), not \(\)"),
    "call of a constant": (b"ca\nc\n)R.", r"a\.c is called, but only stands for something"),
    "state of a list": (b"]}b.", "a dict is wanted, a list is there"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_stream_is_refused_with_byte_and_opcode(case: str) -> None:
    text, message = BROKEN[case]
    with pytest.raises(FormatError, match=message) as raised:
        read(text, a__b=Name("a.b", str, (str,)), a__c=Name("a.c"))
    assert str(raised.value).startswith("at byte ")


LIMIT = 40 << 20  # bytes
BOMBS = {
    "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples": b")" + b"\x85" * 100_000 + b".",
    "shared lists": b"](" + b"Ne" + b"".join(b"q\0](" + b"h\0" * 10 + b"e" for _ in range(100)) + b"0" * 100 + b".",
    "a list in itself": b"]q\0h\0a.",
    "a dictionary in itself": b"}q\0U\x01ah\0s.",
    "marks": b"(" * 100_000,
    "memo": b"N" + b"".join(b"r" + struct.pack("<I", i * 9973) for i in range(20_000)) + b".",
}


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("case", BOMBS)
def test_values_that_share_or_nest_without_end_take_memory_by_the_byte(case: str) -> None:
    if case == "marks":
        with pytest.raises(FormatError):
            read(BOMBS[case])
    else:
        value = read(BOMBS[case])
        assert value is None or type(value) in (list, tuple, dict)


def test_a_stream_of_too_many_opcodes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puna.formats.unpickle.MAX_OPCODES", 100)
    with pytest.raises(FormatError, match="more than 100 opcodes"):
        read(b"N" + b"20" * 50 + b".")


def test_a_stream_ends_at_the_longest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puna.formats.unpickle.MAX_PICKLE", 10)
    with pytest.raises(FormatError, match="20 bytes wanted, 5 are left"):
        read(b"X\x14\0\0\0" + b"a" * 20 + b".")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from([pickled([1, "a"])[2:-1], b"(", b"t", b"}", b"u"]), st.binary()), max_size=20)
)
def test_random_streams_are_values_or_refused(parts: list[bytes]) -> None:
    with suppress(FormatError):
        _, end = unpickle(memoryview(b"".join(parts) + b"."), {})
        assert 0 < end <= len(b"".join(parts)) + 1


def test_code_of_the_writer_is_what_python_reads() -> None:
    value = {"a": [1, -300, 2**70, 0.5, None, True, False], "é": (b"x", ())}
    assert pickle.loads(pickled(value)) == value
    assert pickle.loads(pickled(Code(b"K\x05"))) == 5
