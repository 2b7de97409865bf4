"""A graph of tasks laid out in layers, from left to right (pure).

The classic way in three steps (Sugiyama, Tagawa, Toda 1981): a node's layer is the longest way to it, edges that skip
layers get bends on the way, and within each layer nodes are put near the middle of their neighbours, in a few sweeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

BOX_WIDTH: Final = 184
BOX_HEIGHT: Final = 40
_GAP_X: Final = 52
_GAP_Y: Final = 14
_BEND: Final = 12  # the height that a passing edge is given
_SWEEPS: Final = 6
_MOST_BENDS: Final = 3000


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """Where a node lies: its upper left corner, in pixels."""

    id: str
    x: float
    y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A line from the node that is needed to the one that needs it, as an SVG path."""

    source: str
    target: str
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The picture; sizes in pixels."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


_Place = tuple[str, str, int]  # a node is (its id, "", 0), a bend (source, target, layer)


def layout(needs: Mapping[str, Sequence[str]]) -> Layout:
    """The picture of the nodes of `needs`, each with what it needs; what isn't among them is left out.

    Needs that another need implies are not drawn. A cycle is cut where it is met.
    """
    known = {id_: [need for need in dict.fromkeys(needs[id_]) if need in needs and need != id_] for id_ in needs}
    depth = _depths(known)
    known = {id_: [need for need in known[id_] if depth[need] < depth[id_]] for id_ in known}
    edges = [(need, id_) for id_, some in _direct(known, depth).items() for need in some]
    layers, links, chains = _places(known, depth, edges)
    _untangle(layers, links)
    at = _positions(layers)
    height = max((y + _tall(place) for place, (_, y) in at.items()), default=0.0)
    return Layout(
        width=len(layers) * (BOX_WIDTH + _GAP_X) - _GAP_X if layers else 0,
        height=height,
        boxes=tuple(Box(id=id_, x=at[id_, "", 0][0], y=at[id_, "", 0][1]) for id_ in known),
        edges=tuple(Edge(source=a, target=b, path=_curve([at[place] for place in chains[a, b]])) for a, b in edges),
    )


def _depths(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    depth: dict[str, int] = {}
    for first in needs:
        stack = [(first, iter(needs[first]))]
        open_ = {first}
        while stack and first not in depth:
            id_, rest = stack[-1]
            below = next((need for need in rest if need not in depth and need not in open_), None)
            if below is not None:
                stack.append((below, iter(needs[below])))
                open_.add(below)
                continue
            depth[id_] = 1 + max((depth[need] for need in needs[id_] if need in depth), default=-1)
            open_.discard(id_)
            stack.pop()
    return depth


def _direct(needs: Mapping[str, Sequence[str]], depth: Mapping[str, int]) -> dict[str, list[str]]:
    """The needs that no other need implies."""
    above: dict[str, set[str]] = {}
    direct: dict[str, list[str]] = {}
    for id_ in sorted(needs, key=depth.__getitem__):
        implied: set[str] = set().union(*(above[need] for need in needs[id_])) if needs[id_] else set()
        direct[id_] = [need for need in needs[id_] if need not in implied]
        above[id_] = implied | set(needs[id_])
    return direct


def _places(
    needs: Mapping[str, Sequence[str]], depth: Mapping[str, int], edges: Sequence[tuple[str, str]]
) -> tuple[list[list[_Place]], dict[_Place, list[_Place]], dict[tuple[str, str], list[_Place]]]:
    """The layers with the bends in them, who is joined to whom, and the way of each edge."""
    layers: list[list[_Place]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for id_ in needs:
        layers[depth[id_]].append((id_, "", 0))
    links: dict[_Place, list[_Place]] = {}
    chains: dict[tuple[str, str], list[_Place]] = {}
    straight = sum(depth[b] - depth[a] - 1 for a, b in edges) > _MOST_BENDS
    for a, b in edges:
        bends = [] if straight else [(a, b, layer) for layer in range(depth[a] + 1, depth[b])]
        for bend in bends:
            layers[bend[2]].append(bend)
        chain: list[_Place] = [(a, "", 0), *bends, (b, "", 0)]
        chains[a, b] = chain
        for one, other in pairwise(chain):
            links.setdefault(one, []).append(other)
            links.setdefault(other, []).append(one)
    return layers, links, chains


def _untangle(layers: list[list[_Place]], links: Mapping[_Place, Sequence[_Place]]) -> None:
    """Put each layer in the order of the middles of its neighbours, forth and back."""
    order = {place: index / max(1, len(layer)) for layer in layers for index, place in enumerate(layer)}
    layer_of = {place: index for index, layer in enumerate(layers) for place in layer}
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        for number in range(len(layers)) if forth else reversed(range(len(layers))):
            layer = layers[number]

            def middle(place: _Place, number: int = number, *, forth: bool = forth) -> float:
                near = [order[other] for other in links.get(place, ()) if (layer_of[other] < number) == forth]
                return sum(near) / len(near) if near else order[place]

            layer.sort(key=middle)
            for index, place in enumerate(layer):
                order[place] = (index + 0.5) / len(layer)


def _positions(layers: Sequence[Sequence[_Place]]) -> dict[_Place, tuple[float, float]]:
    heights = [sum(_tall(place) + _GAP_Y for place in layer) - _GAP_Y for layer in layers]
    tallest = max(heights, default=0.0)
    at: dict[_Place, tuple[float, float]] = {}
    for number, layer in enumerate(layers):
        y = (tallest - heights[number]) / 2
        for place in layer:
            at[place] = (number * (BOX_WIDTH + _GAP_X), round(y, 1))
            y += _tall(place) + _GAP_Y
    return at


def _tall(place: _Place) -> int:
    return _BEND if place[1] else BOX_HEIGHT


def _curve(chain: Sequence[tuple[float, float]]) -> str:
    """From the right side of the first box through the bends to the left side of the last."""
    x, y = chain[0][0] + BOX_WIDTH, chain[0][1] + BOX_HEIGHT / 2
    parts = [f"M{x:g} {y:g}"]
    for index, (left, top) in enumerate(chain[1:], start=1):
        last = index == len(chain) - 1
        to_y = top + (BOX_HEIGHT if last else _BEND) / 2
        half = (left - x) / 2
        parts.append(f"C{x + half:g} {y:g} {x + half:g} {to_y:g} {left:g} {to_y:g}")
        x, y = left, to_y
        if not last:
            x = left + BOX_WIDTH
            parts.append(f"H{x:g}")
    return "".join(parts)
