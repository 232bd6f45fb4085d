"""Classes of msgspec's Structs by value: those of ``__main__``, which no other process can import.

Cloudpickle makes a class anew from its name, its bases and what is in it. What makes a Struct is none of these: its
metaclass lays out the fields while the class is made. So it is defined anew over there, by what msgspec says of it.
"""

from __future__ import annotations

import inspect
import types
from typing import Any

import msgspec
from cloudpickle import cloudpickle

StructMeta: type = type(msgspec.Struct)
_OPTIONS = (
    "tag",
    "tag_field",
    "omit_defaults",
    "forbid_unknown_fields",
    "frozen",
    "eq",
    "order",
    "array_like",
    "gc",
    "repr_omit_defaults",
    "weakref",
    "dict",
    "cache_hash",
)
_MADE = (
    "__module__",
    "__qualname__",
    "__slots__",
    "__dict__",
    "__weakref__",
    "__annotations__",
    "__doc__",
    "__match_args__",
)
"""What a class has of itself, and is not to be given."""


def reduce_struct(cls: type[msgspec.Struct]) -> tuple[Any, ...]:
    """How to make a class again, which cannot be imported. The same class twice is one class over there."""
    identity = cloudpickle._get_or_create_tracker_id(cls)
    config = cls.__struct_config__
    options = {name: getattr(config, name) for name in _OPTIONS if hasattr(config, name)}
    own = inspect.get_annotations(cls)
    options["kw_only"] = any(name in own and name not in cls.__match_args__ for name in cls.__struct_fields__)
    all_fields = msgspec.structs.fields(cls)
    slots = {each.name for each in all_fields}
    fields = [
        (each.name, each.type, each.encode_name, *_default(each)) for each in all_fields if each.name in own
    ]
    space = {
        name: value
        for name, value in vars(cls).items()
        if name not in _MADE and name not in slots and not name.startswith("__struct_")
    }
    space = {
        name: value for name, value in space.items() if not isinstance(value, types.MemberDescriptorType)
    }
    state = (
        cls.__name__,
        cls.__qualname__,
        cls.__module__,
        cls.__doc__,
        cls.__bases__,
        fields,
        options,
        space,
    )
    return define_struct, (identity, state)


def _default(field: msgspec.structs.FieldInfo) -> tuple[str, Any]:
    if field.default is not msgspec.NODEFAULT:
        return ("value", field.default)
    if field.default_factory is not msgspec.NODEFAULT:
        return ("factory", field.default_factory)
    return ("", None)


def define_struct(identity: str, state: tuple[Any, ...]) -> type[msgspec.Struct]:
    """Make the class, unless it has been made here already."""
    name, qualname, module, doc, bases, fields, options, space = state
    annotations = {each[0]: each[1] for each in fields}
    namespace = {
        **space,
        "__module__": module,
        "__qualname__": qualname,
        "__doc__": doc,
        "__annotations__": annotations,
    }
    rename = {field: encoded for field, _, encoded, *_ in fields if encoded != field}
    for field, _, _, has, default in fields:
        if has:
            namespace[field] = default if has == "value" else msgspec.field(default_factory=default)
    if rename:
        options = {**options, "rename": rename}
    made = StructMeta(name, bases, namespace, **options)
    found: type[msgspec.Struct] = cloudpickle._lookup_class_or_track(identity, made)
    return found
