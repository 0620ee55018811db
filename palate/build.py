"""``build(cls, options, *provided)``: configuration to object, one to one.

The keys of a TOML table are the constructor's arguments. A misspelt or missing key is an error that names it and the nearest right
one; a value of the wrong type names the key, the type wanted and the value. ``provided`` objects fill arguments by annotated type.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

from palate.schema import nearest

T = TypeVar("T")


class OptionError(ValueError):
    """A recipe's option does not fit the thing it configures; ``option`` is its name ("" where it is none alone)."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


@cache
def parameters(cls: Callable[..., Any]) -> Mapping[str, tuple[inspect.Parameter, Any]]:
    """The arguments of a constructor or function with their resolved annotations. A recipe asks hundreds of times, and reading them takes long."""
    function = cls.__init__ if isinstance(cls, type) else cls  # type: ignore[misc]
    hints = typing.get_type_hints(function)
    found = inspect.signature(function).parameters
    return {name: (p, hints.get(name, Any)) for name, p in found.items() if name != "self"}


def _matches(value: Any, hint: Any) -> bool:
    return isinstance(hint, type) and hint not in (int, float, str, bool, dict, list, tuple, object) and isinstance(value, hint)


def options_of(cls: Callable[..., Any], *provided: Any) -> list[str]:
    """Names of the arguments that a recipe may set (those that ``provided`` does not fill)."""
    return [n for n, (_, hint) in parameters(cls).items() if not any(_matches(p, a) for p in provided for a in _alternatives(hint))]


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) in (typing.Union, types.UnionType):
        return get_args(hint)
    return (hint,)


def convert(value: Any, hint: Any) -> Any:
    """``value`` as ``hint``, or TypeError. Whole numbers pass for floats, lists for tuples; nothing else is bent."""
    if hint in (Any, inspect.Parameter.empty, object):
        return value
    origin = get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for one in sorted(get_args(hint), key=lambda h: h is not type(value)):
            try:
                return convert(value, one)
            except (TypeError, ValueError):
                continue
        raise TypeError
    if origin is typing.Literal:
        if value in get_args(hint):
            return value
        raise ValueError(f"must be one of {', '.join(map(repr, get_args(hint)))}{nearest(str(value), map(str, get_args(hint))).split('; known')[0]}")
    if hint is type(None):
        if value is None:
            return None
        raise TypeError
    if hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        raise TypeError
    if hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise TypeError
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = get_args(hint)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(convert(one, inner[0]) for one in value)
        if len(inner) != len(value):
            raise TypeError
        return tuple(convert(one, h) for one, h in zip(value, inner, strict=True))
    if origin in (list, Sequence) and isinstance(value, (list, tuple)):
        inner = get_args(hint)
        return [convert(one, inner[0]) for one in value] if inner else list(value)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        inner = get_args(hint)
        return {convert(k, inner[0]): convert(v, inner[1]) for k, v in value.items()} if inner else dict(value)
    kind = origin or hint
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise TypeError


def checked(cls: Callable[..., Any], options: Mapping[str, Any], settable: Sequence[str], where: str = "") -> dict[str, Any]:
    """The options as the arguments they stand for; OptionError for one that is not ``settable`` or has the wrong type. Makes nothing."""
    place, known, called = f"{where}: " if where else "", parameters(cls), cls.__name__
    arguments: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known or name not in settable:
            raise OptionError(f"{place}{called} has no option {name!r}{nearest(name, settable)}", name)
        try:
            arguments[name] = convert(value, known[name][1])
        except TypeError:
            wanted = known[name][1]
            shown = getattr(wanted, "__name__", None) if isinstance(wanted, type) else str(wanted).replace("typing.", "")
            raise OptionError(f"{place}option {name!r} of {called} must be {shown}, not {value!r}", name) from None
        except ValueError as error:
            raise OptionError(f"{place}option {name!r} of {called} {error}, not {value!r}", name) from None
    return arguments


def build(cls: type[T], options: Mapping[str, Any], *provided: Any, where: str = "") -> T:
    """Make ``cls`` from a recipe's options and the provided objects; ``where`` names the place in the recipe for errors."""
    place = f"{where}: " if where else ""
    known = parameters(cls)  # type: ignore[arg-type]  # mypy: a class is not hashable
    arguments = checked(cls, options, options_of(cls, *provided), where)
    for name, (parameter, hint) in known.items():
        if name in arguments:
            continue
        fitting = [p for p in provided for a in _alternatives(hint) if _matches(p, a)]
        if fitting:
            arguments[name] = fitting[0]
        elif parameter.default is inspect.Parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise OptionError(f"{place}{cls.__name__} needs the option {name!r}")
    try:
        return cls(**arguments)
    except OptionError:
        raise
    except ValueError as error:
        raise OptionError(f"{place}{cls.__name__}: {error}") from error
