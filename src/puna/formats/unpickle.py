"""Pickles read as data: nothing is imported or called but what the caller lists. It knows opcodes, not PyTorch.

    pickle := opcode*, one byte each with its arguments, on a stack; marks bound runs of it; a memo names values

Protocols 2 to 5. Memory grows with the bytes read, whatever they say; values may share parts, so what walks them
must count its steps. Sets come back as lists, so that nothing in the stream is ever hashed but plain dictionary keys.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any

from puna.errors import FormatError

MAX_PICKLE = 100_000_000  # bytes
MAX_OPCODES = 4_000_000
MAX_INT = 64  # bytes of one integer
MAX_KEY = 2**60  # of integers as keys; larger ones can be made to share a hash
MAX_PROTOCOL = 5


@dataclass(frozen=True, slots=True)
class Name:
    """A global that a pickle may name: `make` builds what calling it gives, from arguments that begin with `takes`.

    Without `make` it can only be passed on, and `value` is what it stands for.
    """

    name: str
    make: Callable[..., Any] | None = None
    takes: tuple[type, ...] = ()
    value: Any = None

    def call(self, args: tuple[Any, ...]) -> Any:
        """What the call gives; FormatError where the arguments are of other types."""
        if self.make is None:
            raise FormatError(f"{self.name} is called, but only stands for something")
        fits = len(args) >= len(self.takes) and all(
            type(arg) is kind for arg, kind in zip(args, self.takes, strict=False)
        )
        if not fits:
            wanted, given = (", ".join(kind.__name__ for kind in kinds) for kinds in (self.takes, map(type, args)))
            raise FormatError(f"{self.name} takes ({wanted}), not ({given})")
        return self.make(*args)


def unpickle(
    data: memoryview, names: Mapping[str, Name], persistent: Callable[[Any], Any] | None = None, at: int = 0
) -> tuple[Any, int]:
    """Return the value of the pickle that begins at byte `at`, and where it ends.

    `names` are the globals it may use, by full name; `persistent` resolves persistent ids. FormatError names the byte
    and the opcode, and a global that is not listed.
    """
    machine = _Machine(data[at : at + MAX_PICKLE], names, persistent)
    try:
        return machine.run(), at + machine.at
    except FormatError as error:
        raise FormatError(f"at byte {at + machine.began}, opcode {_opcode(machine)}: {error}") from error


def _opcode(machine: "_Machine") -> str:
    from pickletools import opcodes

    if machine.began >= len(machine.data):
        return "none"
    code = machine.data[machine.began]
    return next((each.name for each in opcodes if ord(each.code) == code), f"{code:#04x}")


class _Machine:
    """The state of one run: `at` is the next byte, `began` where the current opcode is."""

    def __init__(self, data: memoryview, names: Mapping[str, Name], persistent: Callable[[Any], Any] | None) -> None:
        self.data = data
        self.names = names
        self.persistent = persistent
        self.at = self.began = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            self.began = self.at
            code = self.take(1)[0]
            if code == _STOP:
                return self.result()
            step = _STEPS.get(code)
            if step is None:
                raise FormatError("it is not one of those that state dictionaries need; save again with torch.save")
            step(self)
        raise FormatError(f"more than {MAX_OPCODES} opcodes")

    def result(self) -> Any:
        value = self.pop()
        if self.stack or self.marks:
            raise FormatError(f"{len(self.stack)} values and {len(self.marks)} marks are left over")
        return value

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise FormatError(f"{count} bytes wanted, {len(self.data) - self.at} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, kind: Struct) -> Any:
        return kind.unpack(self.take(kind.size))[0]

    def line(self) -> str:
        """The text before the next line feed, which is passed."""
        text = self.data[self.at : self.at + 1024].tobytes()
        if b"\n" not in text:
            raise FormatError("a name without an end, or of more than 1024 bytes")
        return _text(self.take(text.index(b"\n") + 1)[:-1])

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise FormatError("the stack is empty")
        return self.stack.pop()

    def peek(self) -> Any:
        """The value on top, which stays."""
        value = self.pop()
        self.push(value)
        return value

    def top(self, kind: type) -> Any:
        """The value on top, which stays; it must be of `kind`."""
        value = self.peek()
        if type(value) is not kind:
            raise FormatError(f"a {kind.__name__} is wanted, a {type(value).__name__} is there")
        return value

    def pop_marked(self) -> list[Any]:
        if not self.marks:
            raise FormatError("there is no mark")
        begin = self.marks.pop()
        values = self.stack[begin:]
        del self.stack[begin:]
        return values


def put(target: dict[Any, Any], key: Any, value: Any) -> None:
    """Set a member of a dictionary; FormatError for keys other than text, bytes, numbers, bool and None."""
    if type(key) not in _KEYS or (type(key) is int and abs(key) > MAX_KEY):
        raise FormatError(f"a {type(key).__name__} is a dictionary's key; text and small numbers can be")
    target[key] = value


_KEYS = (str, int, bytes, bool, float, type(None))


def _text(raw: memoryview, errors: str = "strict") -> str:
    try:
        return raw.tobytes().decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise FormatError(f"text that is not UTF-8: {error.reason}") from error


def _old_text(raw: memoryview) -> str:
    return _text(raw, "surrogateescape")  # Python 2 did not say whether it is text or bytes


def _constant(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(value)


def _number(kind: str) -> Callable[[_Machine], None]:
    struct = Struct(kind)
    return lambda machine: machine.push(machine.number(struct))


def _integer(length: str) -> Callable[[_Machine], None]:
    struct = Struct(length)

    def step(machine: _Machine) -> None:
        size = machine.number(struct)
        if not 0 <= size <= MAX_INT:
            raise FormatError(f"an integer of {size} bytes, of at most {MAX_INT}")
        machine.push(int.from_bytes(machine.take(size), "little", signed=True))

    return step


def _sized(length: str, decode: Callable[[memoryview], Any]) -> Callable[[_Machine], None]:
    struct = Struct(length)

    def step(machine: _Machine) -> None:
        size = machine.number(struct)
        if size < 0:
            raise FormatError(f"a length of {size}")
        machine.push(decode(machine.take(size)))

    return step


def _marked(build: Callable[[list[Any]], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(build(machine.pop_marked()))


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(values)))

    return step


def _dict_of(values: list[Any]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    _put_all(made, values)
    return made


def _put_all(target: dict[Any, Any], values: list[Any]) -> None:
    if len(values) % 2:
        raise FormatError("a key without a value")
    for key, value in zip(values[::2], values[1::2], strict=True):
        put(target, key, value)


def _set_items(machine: _Machine) -> None:
    values = machine.pop_marked()
    _put_all(machine.top(dict), values)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    put(machine.top(dict), key, value)


def _append_all(machine: _Machine) -> None:
    values = machine.pop_marked()
    machine.top(list).extend(values)


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _recall(index: str) -> Callable[[_Machine], None]:
    struct = Struct(index)

    def step(machine: _Machine) -> None:
        key = machine.number(struct)
        if key not in machine.memo:
            raise FormatError(f"the memo has no {key}")
        machine.push(machine.memo[key])

    return step


def _remember(index: str) -> Callable[[_Machine], None]:
    struct = Struct(index)

    def step(machine: _Machine) -> None:
        machine.memo[machine.number(struct)] = machine.peek()

    return step


def _memoize(machine: _Machine) -> None:
    machine.memo[len(machine.memo)] = machine.peek()


def _find(machine: _Machine, module: Any, name: Any) -> None:
    full = f"{module}.{name}" if type(module) is type(name) is str else "what is not text"
    if full not in machine.names:
        raise FormatError(
            f"it names {full}, which is not on the list of what state dictionaries need; nothing was run. "
            "Load it where it is trusted and save its state_dict() alone"
        )
    machine.push(machine.names[full])


def _global(machine: _Machine) -> None:
    module = machine.line()
    _find(machine, module, machine.line())


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    _find(machine, module, name)


def _reduce(machine: _Machine) -> None:
    args, function = machine.pop(), machine.pop()
    if type(function) is not Name or type(args) is not tuple:
        raise FormatError(f"a {type(function).__name__} is called with a {type(args).__name__}")
    machine.push(function.call(args))


def _build(machine: _Machine) -> None:
    """Drop the attributes of an object: of dictionaries they tell the versions of modules."""
    machine.pop()
    machine.top(dict)


def _resolve(machine: _Machine) -> None:
    if machine.persistent is None:
        raise FormatError("a persistent id where none has a meaning")
    machine.push(machine.persistent(machine.pop()))


def _drop(machine: _Machine) -> None:
    machine.pop()


def _drop_marked(machine: _Machine) -> None:
    machine.pop_marked()


def _protocol(machine: _Machine) -> None:
    version = machine.take(1)[0]
    if version > MAX_PROTOCOL:
        raise FormatError(f"protocol {version}, of at most {MAX_PROTOCOL}")


def _frame(machine: _Machine) -> None:
    size = machine.number(Struct("<Q"))
    if size > len(machine.data) - machine.at:
        raise FormatError(f"a frame of {size} bytes, {len(machine.data) - machine.at} are left")


_STOP = ord(".")
_STEPS: dict[int, Callable[[_Machine], None]] = {
    0x80: _protocol,
    0x95: _frame,
    ord("("): lambda machine: machine.marks.append(len(machine.stack)),
    ord("0"): _drop,
    ord("1"): _drop_marked,
    ord("2"): lambda machine: machine.push(machine.peek()),
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord("J"): _number("<i"),
    ord("K"): _number("<B"),
    ord("M"): _number("<H"),
    ord("G"): _number(">d"),
    0x8A: _integer("<B"),
    0x8B: _integer("<i"),
    ord("X"): _sized("<I", _text),
    0x8C: _sized("<B", _text),
    0x8D: _sized("<Q", _text),
    ord("U"): _sized("<B", _old_text),
    ord("T"): _sized("<i", _old_text),
    ord("C"): _sized("<B", bytes),
    ord("B"): _sized("<I", bytes),
    0x8E: _sized("<Q", bytes),
    0x96: _sized("<Q", bytes),
    ord("]"): lambda machine: machine.push([]),
    ord("}"): lambda machine: machine.push({}),
    ord(")"): _constant(()),
    0x8F: lambda machine: machine.push([]),
    ord("l"): _marked(list),
    ord("t"): _marked(tuple),
    ord("d"): _marked(_dict_of),
    0x91: _marked(list),
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    ord("a"): _append,
    ord("e"): _append_all,
    0x90: _append_all,
    ord("s"): _set_item,
    ord("u"): _set_items,
    ord("h"): _recall("<B"),
    ord("j"): _recall("<I"),
    ord("q"): _remember("<B"),
    ord("r"): _remember("<I"),
    0x94: _memoize,
    ord("c"): _global,
    0x93: _stack_global,
    ord("R"): _reduce,
    0x81: _reduce,
    ord("b"): _build,
    ord("Q"): _resolve,
}
"""What each opcode does, in the order of `pickletools`' groups."""
