"""Dictionaries of arrays that numpy.save pickled, read without pickle: nothing in them is called or imported."""

import io
import pickletools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_OPCODES = 100_000
_MARK = object()


def read_array_dict(data: bytes, largest: int) -> dict[Any, Any]:
    """The dictionary in a .npy file, whose values are arrays of numbers, torch's tensors, numbers, texts or lists.

    Only the few opcodes that such a dictionary needs are understood. A pickle that names another function or class is
    refused.

    Args:
        data: bytes of the file.
        largest: bytes that the file may have.

    Raises:
        ValueError: in one sentence what is wrong.
    """
    if len(data) > largest:
        raise ValueError(f"the .npy file has {len(data)} bytes, more than the {largest} that its maps may have")
    file = io.BytesIO(data)
    try:
        shape, dtype = read_header(file)
        if not dtype.hasobject or shape != ():
            raise ValueError("it holds an array without the keys of its classes, and no dictionary")
        found = _finished(_run(file))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, EOFError, OSError) as error:
        raise ValueError(f"the .npy file cannot be read: {' '.join(str(error).split())}") from error
    while isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, dict):
        raise ValueError("the .npy file holds no dictionary of arrays")
    return {key: _finished(value) for key, value in found.items()}


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a .npy file, which is then at the first byte of its numbers."""
    header = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = header(file)
    return shape, dtype


@dataclass(frozen=True)
class _Name:
    """A function or class that a pickle names."""

    module: str
    name: str


@dataclass
class _Made:
    """An array or a dtype whose state is still to come."""

    kind: str
    arguments: tuple[Any, ...] = ()
    state: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class _Stored:
    """A storage whose bytes follow the pickle."""

    dtype: Any
    count: int


def _run(file: io.BytesIO) -> Any:
    """The value of one pickle, built on our own stack."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def marked() -> list[Any]:
        place = max(index for index, one in enumerate(stack) if one is _MARK)
        items = stack[place + 1 :]
        del stack[place:]
        return items

    for count, (opcode, argument_of, _) in enumerate(pickletools.genops(file)):
        argument: Any = argument_of
        if count > _OPCODES:
            raise ValueError("it is larger than a dictionary of arrays")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(opcode.name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items = marked()
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1][_finished(key)] = value
            case "SETITEMS":
                items = marked()
                stack[-1].update(zip(map(_finished, items[::2]), items[1::2], strict=True))
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[int(argument)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[int(argument)])
            case "GLOBAL":
                stack.append(_Name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_Name(module, name))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_reduced(function, arguments))
            case "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], _Made):
                    _refuse(opcode.name)
                stack[-1].state = state
            case "BINPERSID":
                stack.append(_stored(stack.pop()))
            case _ if argument is not None and isinstance(argument, int | float | str | bytes):
                if opcode.stack_after[:1] and not opcode.stack_before:
                    stack.append(argument)
                else:
                    _refuse(opcode.name)
            case _:
                _refuse(opcode.name)
    raise ValueError("it is cut off")


def _refuse(what: str) -> NoReturn:
    raise ValueError(
        f"it pickles {what}, and only dictionaries of arrays are read, as code could be in the others; save it again "
        "where it was made: numpy.savez(path, keys=..., cam=...)"
    )


def _reduced(function: Any, arguments: tuple[Any, ...]) -> Any:
    """The result of a call in a pickle, for the few calls that arrays need."""
    match function:
        case _Name(module, "_reconstruct") if module in _NUMPY and arguments[0] == _Name("numpy", "ndarray"):
            return _Made("array")
        case _Name("numpy", "dtype"):
            return _Made("dtype", arguments)
        case _Name(module, "scalar") if module in _NUMPY:
            return np.frombuffer(_bytes(arguments[1]), _dtype(arguments[0]), count=1)[0]
        case _Name("_codecs", "encode") if arguments[1:] in (("latin1",), ("latin-1",)):
            return arguments[0].encode("latin-1")
        case _Name("collections", "OrderedDict") if not arguments:
            return {}
        case _Name("torch.storage", "_load_from_bytes"):
            return _storage(arguments[0])
        case _Name("torch._utils", "_rebuild_tensor_v2"):
            return _tensor(*arguments[:4])
        case _Name(module, name):
            _refuse(f"{module}.{name}")
    _refuse(type(function).__name__)


def _finished(value: Any) -> Any:
    """An array made of its state; everything else as it is."""
    if not isinstance(value, _Made):
        return value
    if value.kind == "dtype":
        return _dtype(value)
    assert value.state is not None, "an array without its state"
    _, shape, dtype, fortran, data = value.state
    if isinstance(data, list):  # an array of objects
        return data
    return _array(np.frombuffer(_bytes(data), _dtype(dtype)), shape, "F" if fortran else "C")


def _array(flat: NDArray[Any], shape: Sequence[int], order: Any) -> NDArray[Any]:
    if prod(shape) != flat.size:
        raise ValueError(f"an array of shape {tuple(shape)} has {flat.size} numbers")
    return flat.reshape(tuple(shape), order=order)


def _dtype(value: Any) -> np.dtype[Any]:
    if not isinstance(value, _Made) or value.kind != "dtype":
        raise ValueError("an array has no dtype")
    dtype = np.dtype(str(value.arguments[0]))
    if dtype.kind not in "fiub":
        _refuse(f"an array of {dtype}")
    order = value.state[1] if value.state else "="
    return dtype.newbyteorder("<" if order == "<" else ">") if order in ("<", ">") else dtype


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("latin-1")
    if not isinstance(value, bytes):
        raise ValueError("an array has no bytes")
    return value


def _stored(place: Any) -> _Stored:
    match place:
        case ("storage", _Name(module, name), _, _, int(count), *_) if module in ("torch", "torch.storage"):
            if name in _STORAGES:
                return _Stored(np.dtype(_STORAGES[name]), count)
    _refuse("a storage of another kind")


def _storage(data: Any) -> NDArray[Any]:
    """The numbers of a tensor, as torch.save wrote them before it wrote zip archives."""
    file = io.BytesIO(_bytes(data))
    stored = None
    for _ in range(5):  # magic number, protocol, system, the storage, its key
        part = _run(file)
        stored = part if isinstance(part, _Stored) else stored
    if stored is None:
        raise ValueError("a tensor has no storage")
    count = int.from_bytes(file.read(8), "little")
    rest = file.read()
    if count != stored.count or len(rest) != count * stored.dtype.itemsize:
        raise ValueError("a tensor is cut off")
    return np.frombuffer(rest, stored.dtype)


def _tensor(flat: Any, offset: int, shape: Sequence[int], strides: Sequence[int]) -> NDArray[Any]:
    if not isinstance(flat, np.ndarray) or len(shape) != len(strides):
        raise ValueError("a tensor is not described")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    whole = prod(shape)
    if min((offset, *shape, *strides), default=0) < 0 or whole > flat.size or (whole and last >= flat.size):
        raise ValueError("a tensor reaches beyond its storage")
    steps = [stride * flat.itemsize for stride in strides]
    if not whole:
        return np.zeros(tuple(shape), flat.dtype)
    return np.lib.stride_tricks.as_strided(flat[offset:], tuple(shape), steps).copy()
