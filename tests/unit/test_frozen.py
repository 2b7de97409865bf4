"""Our frozen dataclasses are what the standard library's are, to whoever uses them."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import maos_bot
from maos_bot import frozen
from maos_bot.frozen import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """What both have."""

    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ours(Base):
    """One of ours."""

    size: int = 0
    parts: tuple[int, ...] = ()
    notes: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False)
    secret: str = dataclasses.field(default="", repr=False)

    @property
    def double(self) -> int:
        return 2 * self.size


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TheirBase:
    """The standard library's."""

    name: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Theirs(TheirBase):
    """The standard library's."""

    size: int = 0
    parts: tuple[int, ...] = ()
    notes: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False)
    secret: str = dataclasses.field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Span:
    """Two numbers, by position."""

    low: int
    high: int

    def __repr__(self) -> str:
        return f"{self.low}..{self.high}"


VALUES = st.fixed_dictionaries(
    {"name": st.sampled_from("ab")},
    optional={
        "size": st.integers(0, 1),
        "parts": st.tuples(st.integers(0, 1)),
        "notes": st.dictionaries(st.sampled_from("ab"), st.integers(0, 1), max_size=1),
        "secret": st.sampled_from(("", "s")),
    },
)


@given(first=VALUES, second=VALUES)
def test_they_show_compare_and_hash_as_the_standard_librarys(first: dict[str, Any], second: dict[str, Any]) -> None:
    ours, theirs = [Ours(**each) for each in (first, second)], [Theirs(**each) for each in (first, second)]
    assert [repr(each).replace("Ours", "Theirs") for each in ours] == [repr(each) for each in theirs]
    assert (ours[0] == ours[1]) is (theirs[0] == theirs[1])
    if ours[0] == ours[1]:
        assert hash(ours[0]) == hash(ours[1])
    assert dataclasses.asdict(ours[0]) == dataclasses.asdict(theirs[0])
    assert dataclasses.replace(ours[0], size=7) == Ours(**{**first, "size": 7})


@given(values=VALUES)
def test_copies_are_equal_and_frozen_too(values: dict[str, Any]) -> None:
    it = Ours(**values)
    copies: list[Any] = [copy.copy(it), copy.deepcopy(it), pickle.loads(pickle.dumps(it))]
    for other in copies:
        assert (other, other.notes, type(other)) == (it, it.notes, Ours)
        with pytest.raises(dataclasses.FrozenInstanceError):
            other.size = 1


def test_nothing_can_be_set_deleted_or_added() -> None:
    it = Ours(name="a")
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
        it.name = "b"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'name'"):
        del it.name
    with pytest.raises(AttributeError):
        it.other = 1  # type: ignore[attr-defined]
    assert not hasattr(it, "__dict__")


def test_a_class_is_told_as_its_author_wrote_it() -> None:
    it = Ours(name="a", size=2)
    assert (Ours.__name__, Ours.__qualname__, Ours.__doc__, Ours.__module__) == (
        "Ours",
        "Ours",
        "One of ours.",
        __name__,
    )
    assert isinstance(it, Base)
    assert type(it) is Ours
    assert it != Base(name="a")
    assert it.double == 4
    assert [field.name for field in dataclasses.fields(it)] == [field.name for field in dataclasses.fields(Theirs)]
    assert str(inspect.signature(Ours)) == str(inspect.signature(Theirs))
    assert Ours.__slots__ == Theirs.__slots__


def test_what_is_wrong_with_the_values_is_told() -> None:
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'name'"):
        Ours()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'nmae'"):
        Ours(nmae="a")  # type: ignore[call-arg]


def test_methods_that_a_class_has_stay_and_its_fields_can_be_matched() -> None:
    match Span(1, 2):
        case Span(1, high=high):
            assert (high, repr(Span(1, 2))) == (2, "1..2")
        case _:
            pytest.fail("no match")


def test_a_class_that_extends_one_otherwise_says_so_when_it_is_used() -> None:
    class Child(Span):
        pass

    with pytest.raises(TypeError, match="Span can't be extended"):
        Child(1, 2)


def test_no_class_of_the_product_wants_what_these_have_not() -> None:
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(maos_bot.__path__, "maos_bot.")
        if found.name != "maos_bot.__main__"
    ]
    ours: list[Any] = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and value.__setattr__ is frozen._refuse
    ]
    assert len(ours) > 150
    for kind in ours:
        fields = dataclasses.fields(kind)
        assert not hasattr(kind, "__post_init__"), kind
        assert not hasattr(kind, "__parameters__"), kind
        assert all(field.init and field.hash is None for field in fields), kind
        assert kind.__dataclass_fields__.keys() == {field.name for field in fields}, kind  # no InitVar, no ClassVar


def test_other_kinds_are_left_to_the_standard_library() -> None:
    @dataclass(kw_only=True, slots=True)
    class Open:
        size: int

    @dataclass(frozen=True, kw_only=True, slots=True, order=True)
    class Ordered:
        size: int

    it = Open(size=1)
    it.size = 2
    assert it == Open(size=2)
    assert Ordered(size=1) < Ordered(size=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Ordered(size=1).size = 2  # type: ignore[misc]
