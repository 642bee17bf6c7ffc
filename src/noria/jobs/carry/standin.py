"""As much of msgspec as Noria's client needs, in plain Python, with the same bytes: for a Python that the agent's msgspec does not fit.

A job's environment is the user's, and its node has no network to install anything from. A call of `noria.log` takes some ten
microseconds with it instead of two; the real one is used wherever it is installed. Types are checked as far as records and
settings need it.
"""

from __future__ import annotations

import json as _json
import math
import struct
import sys
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from types import SimpleNamespace
from typing import Any

__version__ = "0"
_MISSING = object()


class MsgspecError(Exception):
    pass


class DecodeError(MsgspecError):
    pass


class ValidationError(DecodeError):
    pass


class EncodeError(MsgspecError):
    pass


class UnsetType(Enum):
    UNSET = "UNSET"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNSET"


UNSET = UnsetType.UNSET


class Meta:
    """Constraints, which are the server's to check."""

    def __init__(self, **constraints: object) -> None:
        self.constraints = constraints


class _Field:
    def __init__(self, default: object = _MISSING, default_factory: Any = _MISSING, name: str | None = None) -> None:
        self.default, self.factory, self.name = default, default_factory, name


def field(*, default: object = _MISSING, default_factory: Any = _MISSING, name: str | None = None) -> Any:
    return _Field(default, default_factory, name)


class Struct:
    """A class whose annotations are its fields."""

    __struct_fields__: tuple[str, ...] = ()
    __struct_config__ = SimpleNamespace(tag=None, array_like=False, frozen=False, omit_defaults=False)
    _defaults_: dict[str, _Field] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__()
        known = {name: value for name, value in options.items() if name in vars(cls.__struct_config__)}
        cls.__struct_config__ = SimpleNamespace(**{**vars(cls.__struct_config__), **known})
        defaults, names = dict(cls._defaults_), list(cls.__struct_fields__)
        for name, annotation in _annotations(cls).items():
            if "ClassVar" in str(annotation):
                continue
            names += [] if name in names else [name]
            value = vars(cls).get(name, _MISSING)
            defaults[name] = value if isinstance(value, _Field) else _Field(value)
        cls.__struct_fields__ = cls.__match_args__ = tuple(names)  # type: ignore[attr-defined, misc]
        cls._defaults_ = defaults

    def __init__(self, *values: object, **named: object) -> None:
        if len(values) > len(self.__struct_fields__):
            raise TypeError("Extra positional arguments provided")
        given = dict(zip(self.__struct_fields__, values, strict=False)) | named
        for name in self.__struct_fields__:
            value = given.pop(name, _MISSING)
            object.__setattr__(self, name, _default(self, name) if value is _MISSING else value)
        if given:
            raise TypeError(f"Unexpected keyword argument '{next(iter(given))}'")
        if hasattr(self, "__post_init__"):
            self.__post_init__()

    def __setattr__(self, name: str, value: object) -> None:
        if self.__struct_config__.frozen:
            raise AttributeError(f"immutable type: '{type(self).__name__}'")
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and structs.astuple(self) == structs.astuple(other)

    def __hash__(self) -> int:
        if not self.__struct_config__.frozen:
            raise TypeError(f"unhashable type: '{type(self).__name__}'")
        return hash((type(self), structs.astuple(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__struct_fields__)})"

    def __copy__(self) -> Struct:
        return type(self)(*structs.astuple(self))


def _annotations(cls: type) -> dict[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return dict(annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF))
    return dict(vars(cls).get("__annotations__", {}))


def _default(owner: Any, name: str) -> object:
    given = owner._defaults_[name]
    if given.factory is not _MISSING:
        return given.factory()
    if given.default is _MISSING:
        raise TypeError(f"Missing required argument '{name}'")
    return given.default.copy() if isinstance(given.default, (list, dict, set)) else given.default


def _named(value: Struct) -> Iterator[tuple[str, object]]:
    """The fields that stand in an object."""
    config = value.__struct_config__
    if config.tag is not None:
        yield "type", config.tag
    for name in value.__struct_fields__:
        each = getattr(value, name)
        if each is not UNSET and not (config.omit_defaults and _is_default(value, name, each)):
            yield name, each


def _is_default(value: Struct, name: str, each: object) -> bool:
    given = value._defaults_[name]
    if given.factory in (list, dict, set) or isinstance(given.default, (list, dict, set)):
        return type(each) in (list, dict, set) and not each
    return given.default is not _MISSING and (
        each is given.default or (type(each) is type(given.default) and each == given.default)
    )


# MessagePack (msgpack.org, spec.md). Every value in its shortest form, as msgspec has it.


def _pack(value: Any, out: list[bytes]) -> None:
    kind = type(value)
    if kind is str:
        data = value.encode()
        out += [_head(len(data), 0xA0, 32, 0xD9), data]
    elif kind is float:
        out.append(struct.pack(">Bd", 0xCB, value))
    elif kind is bool or value is None:
        out.append({None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value])
    elif isinstance(value, int):
        out.append(_integer(value))
    elif isinstance(value, (list, tuple)):
        out.append(_head(len(value), 0x90, 16, 0xDB))
        for each in value:
            _pack(each, out)
    elif isinstance(value, dict):
        out.append(_head(len(value), 0x80, 16, 0xDD))
        for key, each in value.items():
            _pack(key, out)
            _pack(each, out)
    elif isinstance(value, Struct):
        _pack(_array(value) if value.__struct_config__.array_like else dict(_named(value)), out)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        out += [_head(len(value), 0, 0, 0xC4), bytes(value)]
    elif isinstance(value, (float, str)):
        _pack(float(value) if isinstance(value, float) else str(value), out)
    else:
        raise TypeError(f"Encoding objects of type {kind.__name__} is unsupported")


def _array(value: Struct) -> list[object]:
    config = value.__struct_config__
    return [*([] if config.tag is None else [config.tag]), *structs.astuple(value)]


def _head(size: int, short: int, below: int, long: int) -> bytes:
    """The head of a text, an array or a map: `short` holds sizes `below` a limit, `long` is the code before a size of 8 bits
    (texts and bytes) or one less than that before 16."""
    if size < below:
        return bytes([short | size])
    if size < 256 and long in (0xD9, 0xC4):
        return struct.pack(">BB", long, size)
    return struct.pack(">BH", long + 1, size) if size < 2**16 else struct.pack(">BI", long + 2, size)


def _integer(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes([value])
    if -32 <= value < 0:
        return struct.pack("b", value)
    for code, kind, bits in ((0xCC, "B", 8), (0xCD, "H", 16), (0xCE, "I", 32), (0xCF, "Q", 64)):
        if 0 <= value < 2**bits:
            return struct.pack(f">B{kind}", code, value)
    for code, kind, bits in ((0xD0, "b", 7), (0xD1, "h", 15), (0xD2, "i", 31), (0xD3, "q", 63)):
        if -(2**bits) <= value < 0:
            return struct.pack(f">B{kind}", code, value)
    raise OverflowError("can't serialize ints >= 2**64 or < -2**63")


_FIXED = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_SIZES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}


class _Reader:
    """One value of MessagePack after the other."""

    def __init__(self, data: Any) -> None:
        self.data, self.at = bytes(data), 0

    def take(self, form: str) -> Any:
        try:
            (value,) = struct.unpack_from(form, self.data, self.at)
        except struct.error:
            raise DecodeError("Input data was truncated") from None
        self.at += struct.calcsize(form)
        return value

    def text(self, size: int, kind: type) -> Any:
        piece = self.data[self.at : self.at + size]
        if len(piece) < size:
            raise DecodeError("Input data was truncated")
        self.at += size
        return piece.decode() if kind is str else piece

    def value(self) -> Any:
        code = self.take(">B")
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 256
        if code in _FIXED:
            return self.take(_FIXED[code])
        if code in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[code]
        if code < 0xC0:
            size, family = (code & 31, "text") if code >= 0xA0 else (code & 15, "array" if code >= 0x90 else "map")
        elif code in _SIZES:
            size = self.take(_SIZES[code])
            family = "bytes" if code <= 0xC6 else "text" if code <= 0xDB else "array" if code <= 0xDD else "map"
        else:
            raise DecodeError(f"MessagePack data is malformed: invalid opcode '\\x{code:02x}'")
        if family in ("text", "bytes"):
            return self.text(size, str if family == "text" else bytes)
        if family == "array":
            return [self.value() for _ in range(size)]
        return {self.value(): self.value() for _ in range(size)}


# From plain values to types.


def convert(value: Any, type: Any, *, strict: bool = True, **_: Any) -> Any:
    """`value` as `type`; not strict: numbers may come as text."""
    return _converted(value, type, strict)


def _converted(value: Any, kind: Any, strict: bool) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is typing.Annotated:
        return _converted(value, arguments[0], strict)
    if origin in (typing.Union, types.UnionType):
        return _member(value, arguments, strict)
    if origin is typing.Literal:
        return value if value in arguments else _wrong(value, f"one of {arguments}")
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _structure(value, kind, strict)
    if origin in (list, tuple, set, frozenset, dict) or kind in (list, tuple, set, frozenset, dict):
        return _collection(value, origin or kind, arguments, strict)
    return _plain(value, kind, strict)


def _member(value: Any, members: tuple[Any, ...], strict: bool) -> Any:
    tagged = [each for each in members if isinstance(each, type) and issubclass(each, Struct)]
    if isinstance(value, list) and tagged and value:
        members = tuple(each for each in tagged if each.__struct_config__.tag == value[0])
    for each in sorted(members, key=lambda kind: kind is not type(value)):
        try:
            return _converted(value, each, strict)
        except ValidationError:
            continue
    return _wrong(value, " | ".join(str(each) for each in members) or "a known tag")


def _structure(value: Any, kind: Any, strict: bool) -> Any:
    hints, config = _hints(kind), kind.__struct_config__
    if isinstance(value, kind):
        return value
    if config.array_like and isinstance(value, (list, tuple)):
        rest = list(value)
        if config.tag is not None and (not rest or rest.pop(0) != config.tag):
            return _wrong(value, kind.__name__)
        given = dict(zip(kind.__struct_fields__, rest, strict=False))
    elif isinstance(value, dict) and not config.array_like:
        given = {name: each for name, each in value.items() if name in hints}
    else:
        return _wrong(value, kind.__name__)
    try:
        return kind(**{name: _converted(each, hints[name], strict) for name, each in given.items()})
    except TypeError as error:
        raise ValidationError(str(error)) from None


_HINTS: dict[Any, dict[str, Any]] = {}


def _hints(kind: Any) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = typing.get_type_hints(kind, include_extras=True)
    return _HINTS[kind]


def _collection(value: Any, kind: Any, arguments: tuple[Any, ...], strict: bool) -> Any:
    if kind is dict:
        key, each = arguments or (Any, Any)
        if not isinstance(value, dict):
            return _wrong(value, "object")
        return {_converted(name, key, strict): _converted(item, each, strict) for name, item in value.items()}
    if not isinstance(value, (list, tuple, set, frozenset)):
        return _wrong(value, "array")
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            return _wrong(value, f"array of length {len(arguments)}")
        return tuple(_converted(item, each, strict) for item, each in zip(value, arguments, strict=True))
    return kind(_converted(item, arguments[0] if arguments else Any, strict) for item in value)


_WORDS = {"true": True, "1": True, "false": False, "0": False}


def _plain(value: Any, kind: Any, strict: bool) -> Any:
    if kind in (None, type(None), UnsetType):
        return value if value is None or isinstance(value, UnsetType) else _wrong(value, "null")
    if kind is float and type(value) is int:
        return float(value)
    if not strict and isinstance(value, str) and kind in (bool, int, float):
        try:
            return _WORDS[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            return _wrong(value, kind.__name__)
    if not strict and kind is bool and value in (0, 1) and type(value) is int:
        return bool(value)
    fits = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
    return value if fits else _wrong(value, getattr(kind, "__name__", str(kind)))


def _wrong(value: object, expected: str) -> Any:
    raise ValidationError(f"Expected `{expected}`, got `{type(value).__name__}`")


def to_builtins(value: Any, *, str_keys: bool = False, **_: Any) -> Any:
    """Plain lists, dictionaries and values."""
    if isinstance(value, Struct):
        return to_builtins(_array(value) if value.__struct_config__.array_like else dict(_named(value)), str_keys=str_keys)
    if isinstance(value, dict):
        return {str(key) if str_keys else key: to_builtins(each, str_keys=str_keys) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_builtins(each, str_keys=str_keys) for each in value]
    return value


def _json_value(value: Any) -> Any:
    """What JSON can say; it has no word for NaN and infinities."""
    if isinstance(value, dict):
        return {key: _json_value(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_json_value(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _encode_msgpack(value: Any) -> bytes:
    out: list[bytes] = []
    _pack(value, out)
    return b"".join(out)


def _decode_msgpack(data: Any, *, type: Any = Any, strict: bool = True) -> Any:
    reader = _Reader(data)
    value = reader.value()
    if reader.at != len(reader.data):
        raise DecodeError("MessagePack data is malformed: trailing characters")
    return _converted(value, type, strict)


def _encode_json(value: Any) -> bytes:
    return _json.dumps(_json_value(to_builtins(value, str_keys=True)), ensure_ascii=False, separators=(",", ":")).encode()


def _decode_json(data: Any, *, type: Any = Any, strict: bool = True) -> Any:
    try:
        value = _json.loads(data if isinstance(data, str) else bytes(data))
    except ValueError as error:
        raise DecodeError(f"JSON is malformed: {error}") from None
    return _converted(value, type, strict)


def _codec(encode: Callable[[Any], bytes], decode: Callable[..., Any]) -> SimpleNamespace:
    class Encoder:
        def encode(self, value: Any) -> bytes:
            return encode(value)

    class Decoder:
        def __init__(self, type: Any = Any, *, strict: bool = True) -> None:
            self.type, self.strict = type, strict

        def __class_getitem__(cls, _: Any) -> Any:
            return cls

        def decode(self, data: Any) -> Any:
            return decode(data, type=self.type, strict=self.strict)

    return SimpleNamespace(encode=encode, decode=decode, Encoder=Encoder, Decoder=Decoder)


def _fields(kind: Any) -> tuple[Any, ...]:
    kind = kind if isinstance(kind, type) else type(kind)
    found = [(name, kind._defaults_[name]) for name in kind.__struct_fields__]
    return tuple(
        SimpleNamespace(name=name, encode_name=name, type=_hints(kind)[name], default=given.default, default_factory=given.factory,
                        required=given.default is _MISSING and given.factory is _MISSING)
        for name, given in found
    )  # fmt: skip


msgpack = _codec(_encode_msgpack, _decode_msgpack)
json = _codec(_encode_json, _decode_json)
structs = types.ModuleType("msgspec.structs")
for _name, _function in {
    "asdict": lambda value: {name: getattr(value, name) for name in value.__struct_fields__},
    "astuple": lambda value: tuple(getattr(value, name) for name in value.__struct_fields__),
    "replace": lambda value, **changes: type(value)(**{**structs.asdict(value), **changes}),
    "fields": _fields,
    "force_setattr": object.__setattr__,
}.items():
    setattr(structs, _name, _function)
sys.modules[f"{__name__}.structs"] = structs
