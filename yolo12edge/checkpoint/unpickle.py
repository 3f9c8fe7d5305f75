"""A pickle reader that can describe tensors and build containers, and can do nothing else.

Python's own unpickler calls whatever a pickle tells it to call. This one is an interpreter of the
instructions that ``torch.save`` writes, with values of its own for all that is not plain data:
a global is looked up in a table of handlers below and never imported; a class of a model becomes a
``ForeignClass``, its instances ``ForeignObject``, which hold what the pickle says of them and run
nothing; a tensor becomes a ``TensorRef``, a checked description. Everything else is refused by name.

Instructions: ``pickletools`` of the standard library, whose decoder is used here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import CheckpointError

__all__ = ["ForeignClass", "ForeignObject", "StorageRef", "TensorRef", "read_pickle"]

# Bounds that keep a hostile file from filling the memory. The pickle of the largest model is 0.4 MB and
# takes 0.2 million steps; copied elements count as steps.
MAX_BYTES = 16 * 2**20
MAX_STEPS = 2_000_000
_MAX_DIMENSIONS = 8

STORAGES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}


@dataclass(frozen=True, slots=True)
class ForeignClass:
    """A class that is named in the file and never imported."""

    module: str
    name: str


@dataclass(slots=True, eq=False)
class ForeignObject:
    """An instance of a foreign class: the attributes that the file gives it, and no behaviour."""

    cls: ForeignClass
    state: dict[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class StorageRef:
    """A run of ``count`` numbers in the file, by its name there."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A tensor that has not been read: a strided view into a storage, checked to lie inside it."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Malformed(Exception):
    """The pickle contradicts itself."""


@dataclass(frozen=True, slots=True, eq=False)
class _Function:
    """A global with a meaning here. ``call`` gets the interpreter, to account for work, and the arguments."""

    name: str
    call: Callable[[_Machine, tuple[Any, ...]], object]


def read_pickle(data: bytes, *, storage: Callable[[str, str, int], StorageRef], source: str) -> object:
    """Interpret a pickle that ``torch.save`` wrote.

    Args:
        data: The pickle.
        storage: Called with key, dtype and number of elements of each storage; checks that the file has
            it and describes it.
        source: Name of the file, for messages.

    Returns:
        The root object, made of plain data, ``ForeignObject``, ``ForeignClass`` and ``TensorRef``. It may be
        cyclic and deeply nested: walk it with a bound.

    Raises:
        CheckpointError: If the pickle is damaged, too large, or asks for anything that is not admitted.
    """
    if len(data) > MAX_BYTES:
        raise CheckpointError(
            f"the pickle in {source} has {len(data):,} bytes", expected=f"at most {MAX_BYTES:,} for any YOLO12 model"
        )
    try:
        return _Machine(storage, source).run(data)
    # All that a false stack, memo, argument or text encoding can cause in the code below, and nothing it hides.
    except (_Malformed, ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError) as error:
        raise CheckpointError(
            f"the pickle in {source} is damaged: {error or type(error).__name__}",
            remedy="take the file from its source again",
        ) from error


class _Machine:
    """Stack, memo and step count of one run."""

    def __init__(self, storage: Callable[[str, str, int], StorageRef], source: str) -> None:
        self.storage = storage
        self.source = source
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below each open mark
        self.memo: dict[int, object] = {}
        self.steps = 0

    def run(self, data: bytes) -> object:
        for opcode, argument, _ in pickletools.genops(data):
            self.spend(1)
            if opcode.name == "STOP":
                break
            if opcode.name in _LITERALS:
                self.stack.append(argument)
            elif opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in _INSTRUCTIONS:
                _INSTRUCTIONS[opcode.name](self, argument)
            else:
                shown = f" ({argument!r:.80})" if argument is not None else ""
                raise self.refusal(f"the pickle instruction {opcode.name}{shown}")
        if len(self.stack) != 1 or self.outer:
            raise _Malformed("it does not end with one object")
        return self.stack[0]

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise CheckpointError(f"the pickle in {self.source} asks for more work than the largest YOLO12 model")

    def refusal(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self.source} asks for {what}, which is neither a tensor nor plain data; nothing of it was run",
            expected="a checkpoint of a YOLO12",
            remedy="do not open this file with other tools unless you trust where it comes from",
        )

    def pop_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.outer.pop()
        return items

    def mark(self, _: object) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def tuple_of(self, count: int | None) -> None:
        items = self.pop_mark() if count is None else [self.stack.pop() for _ in range(count)][::-1]
        self.stack.append(tuple(items))

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, ForeignObject):  # a foreign list's items are of no use here
            raise _Malformed("items are appended to something that is not a list")

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[self.hashable(key)] = value
        elif not isinstance(target, ForeignObject):
            raise _Malformed("items are set on something that is not a dict")

    def add_items(self, _: object) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, set):
            raise _Malformed("items are added to something that is not a set")
        target.update(self.hashable(item) for item in items)

    def hashable(self, key: object) -> object:
        """Admit keys whose hash is cheap: hashing nested tuples can take for ever or overflow the C stack."""
        if isinstance(key, tuple):
            self.spend(len(key))
            plain = all(part is None or isinstance(part, (str, bytes, bool, int, float)) for part in key)
        else:
            plain = key is None or isinstance(
                key, (str, bytes, bool, int, float, ForeignClass, ForeignObject, TensorRef, StorageRef)
            )
        if not plain:
            raise _Malformed(f"a {type(key).__name__} is used as a key")
        return key

    def global_(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise _Malformed("a global is not named by text")
        known: _Function | ForeignClass | None = _GLOBALS.get(f"{module}.{name}")
        if known is None:
            if not _is_inert(module, name):
                raise self.refusal(f"the global {f'{module}.{name}'!r:.120}")
            known = ForeignClass(module, name)
        self.stack.append(known)

    def stack_global(self, _: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.global_(module, name)

    def call(self, _: object) -> None:
        """REDUCE and NEWOBJ: the only instructions that call."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple):
            raise _Malformed("arguments are not a tuple")
        if isinstance(function, ForeignClass):
            self.stack.append(ForeignObject(function))
        elif isinstance(function, _Function):
            self.stack.append(function.call(self, arguments))
        else:
            raise self.refusal(f"a call of a {type(function).__name__}")

    def call_with_keywords(self, _: object) -> None:
        if self.stack.pop() != {}:
            raise _Malformed("an object is made with keyword arguments")
        self.call(None)

    def build(self, _: object) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, ForeignObject):
            parts = state if isinstance(state, tuple) else (state,)  # (attributes, slots)
            for part in parts:
                if isinstance(part, dict):
                    self.spend(len(part))
                    target.state.update(part)
        elif not isinstance(target, (dict, set)):  # these may carry attributes, which are of no use here
            raise _Malformed(f"attributes are set on a {type(target).__name__}")

    def persistent(self, _: object) -> None:
        match self.stack.pop():
            case ("storage", _Function(name=name), str(key), str(), int(count)) if name in STORAGES and count >= 0:
                self.stack.append(self.storage(key, STORAGES[name][0], count))
            case _:
                raise _Malformed("a storage is described in an unknown way")


_LITERALS = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    }
)
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": _Machine.mark,
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.pop_mark(),
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE": lambda machine, _: machine.tuple_of(None),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(), machine.stack.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "ADDITEMS": _Machine.add_items,
    "GLOBAL": lambda machine, argument: machine.global_(*argument.split(" ", 1)),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}

# Where the classes of models and of the data that trainers store beside them live.
_INERT_PACKAGES = ("ultralytics", "models", "utils", "torch.nn", "torch.optim", "torchvision.transforms")
_INERT_GLOBALS = frozenset(
    (module, name)
    for module, names in {
        "pathlib": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
        "pathlib._local": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
        "datetime": "datetime date time timedelta timezone",
        "types": "SimpleNamespace",
        "argparse": "Namespace",
        "torch": "device",
        "numpy": "dtype ndarray",
        "numpy.core.multiarray": "scalar _reconstruct",
        "numpy._core.multiarray": "scalar _reconstruct",
    }.items()
    for name in names.split()
)


def _is_inert(module: str, name: str) -> bool:
    package = any(module == known or module.startswith(known + ".") for known in _INERT_PACKAGES)
    return package or (module, name) in _INERT_GLOBALS


def _container(kind: type) -> Callable[[_Machine, tuple[Any, ...]], object]:
    """Return what ``kind()`` or ``kind(items)`` does, for items that are a plain container themselves."""

    def make(machine: _Machine, arguments: tuple[Any, ...]) -> object:
        if not arguments:
            return kind()
        (items,) = arguments
        if not isinstance(items, (list, tuple, dict, set, frozenset)):
            raise _Malformed(f"a {kind.__name__} is made of a {type(items).__name__}")
        machine.spend(len(items))
        if kind is dict:
            pairs = items.items() if isinstance(items, dict) else [(key, value) for key, value in items]
            return {machine.hashable(key): value for key, value in pairs}
        if kind in (set, frozenset):
            return kind(machine.hashable(item) for item in items)
        return kind(items)

    return make


def _rebuild_tensor(machine: _Machine, arguments: tuple[Any, ...]) -> TensorRef:
    storage, offset, shape, stride = arguments[:4]
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, StorageRef) or len(shape) != len(stride) or len(shape) > _MAX_DIMENSIONS:
        raise _Malformed("a tensor is described in an unknown way")
    if any(type(number) is not int or number < 0 for number in numbers):
        raise _Malformed("a tensor has a negative size, stride or offset")
    count = 1
    for size in shape:
        count *= size
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    # The second test also bounds what an expanded view (stride 0) would grow to.
    if count and (last >= storage.count or count > storage.count):
        raise _Malformed(f"a tensor of shape {tuple(shape)} reaches beyond its storage of {storage.count} elements")
    return TensorRef(storage, offset, tuple(shape), tuple(stride))


def _rebuild_parameter(machine: _Machine, arguments: tuple[Any, ...]) -> TensorRef:
    if not arguments or not isinstance(arguments[0], TensorRef):
        raise _Malformed("a parameter is not made of a tensor")
    return arguments[0]


def _encode(machine: _Machine, arguments: tuple[Any, ...]) -> bytes:
    """How protocol 2 writes bytes."""
    text, encoding = arguments
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Malformed("bytes are described in an unknown way")
    machine.spend(len(text))
    return text.encode("latin-1")


def _not_callable(machine: _Machine, arguments: tuple[Any, ...]) -> object:
    raise _Malformed("a storage or element type is called")


_GLOBALS: dict[str, _Function] = {
    "torch._utils._rebuild_tensor_v2": _Function("_rebuild_tensor_v2", _rebuild_tensor),
    "torch._utils._rebuild_parameter": _Function("_rebuild_parameter", _rebuild_parameter),
    "torch.Size": _Function("Size", _container(tuple)),
    "collections.OrderedDict": _Function("OrderedDict", _container(dict)),
    "_codecs.encode": _Function("encode", _encode),
    **{f"torch.{name}": _Function(name, _not_callable) for name in STORAGES},
    **{f"torch.{dtype}": _Function(dtype, _not_callable) for dtype, _ in STORAGES.values()},
    **{
        f"{module}.{kind.__name__}": _Function(kind.__name__, _container(kind))
        for module in ("builtins", "__builtin__")
        for kind in (set, frozenset, list, tuple, dict)
    },
}
