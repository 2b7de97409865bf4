"""`@dataclass` as the standard library has it, with frozen classes that are defined in a third of the time (pure).

The standard library compiles up to eight methods for each, which was a seventh of the time in which `maos run` starts.
Here one is compiled: the initialiser of a plain dataclass, which an object belongs to only while it is filled. For that
a few things are not to be had, and a test sees to it that no class of ours has them: `__post_init__`, fields that
aren't parameters or have a `hash` of their own, type parameters; and only another class of these may extend one.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen=False, slots=False, order=False, kw_only=False):
        """Make a dataclass of the class that follows; the options are the standard library's."""
        if not (frozen and slots) or order:
            return dataclasses.dataclass(frozen=frozen, slots=slots, order=order, kw_only=kw_only)
        plainly = dataclasses.dataclass(eq=False, repr=False, slots=True, kw_only=kw_only)
        return lambda cls: _frozen(plainly(cls))


def _frozen(plain: Any) -> Any:
    """A class whose objects are filled as those of `plain`, and then refuse."""
    plain.__setattr__ = object.__setattr__  # it may extend a class that refuses
    become = vars(object)["__class__"].__set__
    fields = dataclasses.fields(plain)
    names = [field.name for field in fields]
    shown = [field.name for field in fields if field.repr]
    values = attrgetter("__class__", *[field.name for field in fields if field.compare])
    fill = plain.__init__
    made: Any

    def init(self: Any, *args: Any, **given: Any) -> None:
        if self.__class__ is not made:
            raise TypeError(f"{made.__qualname__} can't be extended by a class that isn't made as it is")
        become(self, plain)
        fill(self, *args, **given)
        self.__class__ = made

    def equal(self: Any, other: object) -> Any:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def text(self: Any) -> str:
        return f"{made.__qualname__}({', '.join([f'{name}={getattr(self, name)!r}' for name in shown])})"

    methods = {
        "__eq__": equal,
        "__hash__": lambda self: hash(values(self)),
        "__repr__": text,
        "__reduce__": lambda self: (_remade, (made, {name: getattr(self, name) for name in names})),
    }
    written = {name: method for name, method in vars(plain).items() if name in methods and method is not None}
    made = type(plain)(
        plain.__name__,
        (plain,),
        {
            **{name: getattr(plain, name) for name in ("__module__", "__qualname__", "__doc__")},
            **(methods | written),
            "__slots__": (),
            "__init__": init,
            "__setattr__": _refuse,
            "__delattr__": _refuse,
        },
    )
    made.__slots__ = plain.__slots__
    init.__wrapped__ = fill  # type: ignore[attr-defined]  # for whoever asks for its parameters
    return made


def _refuse(_: object, name: str, *value: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot {'assign to' if value else 'delete'} field {name!r}")


def _remade(made: type[Any], values: dict[str, Any]) -> Any:
    return made(**values)
