"""Scatter plots as plain SVG: text stays text, and the same numbers give the same bytes. Takes points, gives a string.

A panel is a task; its points are rungs, with the standard deviation of the score as a bar. The x axis is logarithmic.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import product

WIDTH, HEIGHT = 440, 310  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 50, 16, 30, 46  # margins inside it
COLUMNS = 2
LETTER = 6.2  # width of a letter of a label
LINE = 12.0  # height of a label
RADIUS = 4.5
TICKS = 5  # of the y axis, about
MOST_TICKS = 8  # of the x axis
STYLE = "font-family='DejaVu Sans, Verdana, Arial, sans-serif' font-size='11' fill='#222'"
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Point:
    """A rung."""

    label: str
    x: float  # above 0
    y: float
    deviation: float
    color: str


@dataclass(frozen=True)
class Panel:
    """A task."""

    title: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Axes:
    """Where numbers are in a panel."""

    low_x: float  # logarithms of base 10
    high_x: float
    low_y: float
    high_y: float

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.low_x) / (self.high_x - self.low_x)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low_y) / (self.high_y - self.low_y)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def draw(panels: list[Panel], *, x_label: str, y_label: str) -> str:
    """The whole picture."""
    columns = min(COLUMNS, len(panels))
    width, height = WIDTH * columns, HEIGHT * math.ceil(len(panels) / columns)
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'>",
        f"<rect width='{width}' height='{height}' fill='#fff'/>",
    ]
    for number, panel in enumerate(panels):
        left, top = WIDTH * (number % columns), HEIGHT * (number // columns)
        lines += [f"<g transform='translate({left},{top})' {STYLE}>", *_panel(panel, x_label, y_label), "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, x_label: str, y_label: str) -> Iterator[str]:
    axes = axes_of(panel.points)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    yield _text(LEFT, TOP - 12, panel.title, extra="font-weight='bold' font-size='12'")
    for value in ticks(axes.low_y, axes.high_y):
        yield _line(LEFT, axes.y(value), right, axes.y(value), "#e4e4e4")
        yield _text(LEFT - 6, axes.y(value) + 4, f"{value:g}", extra="text-anchor='end'")
    for value in log_ticks(axes.low_x, axes.high_x):
        yield _line(axes.x(value), TOP, axes.x(value), bottom, "#e4e4e4")
        yield _text(axes.x(value), bottom + 15, f"{value:,g}", extra="text-anchor='middle'")
    yield _line(LEFT, bottom, right, bottom, "#222")
    yield _line(LEFT, TOP, LEFT, bottom, "#222")
    yield _text((LEFT + right) / 2, HEIGHT - 12, x_label, extra="text-anchor='middle'")
    middle = (TOP + bottom) / 2
    turned = f"text-anchor='middle' transform='rotate(-90 12 {middle:.1f})'"
    yield _text(12, middle, y_label, extra=turned)
    for point, (left, base) in zip(panel.points, place_labels(panel.points, axes), strict=True):
        x, y = axes.x(point.x), axes.y(point.y)
        high, low = axes.y(point.y + point.deviation), axes.y(point.y - point.deviation)
        yield _line(x, high, x, low, point.color)
        yield f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{RADIUS}' fill='{point.color}'/>"
        yield _text(left, base, point.label, extra=f"fill='{point.color}'")


def axes_of(points: tuple[Point, ...]) -> Axes:
    """Axes that hold all points and their bars, with room at the sides for labels."""
    xs = [math.log10(point.x) for point in points]
    lows, highs = [p.y - p.deviation for p in points], [p.y + p.deviation for p in points]
    x_room, y_room = max(0.15 * (max(xs) - min(xs)), 0.2), max(0.12 * (max(highs) - min(lows)), 0.5)
    return Axes(min(xs) - x_room, max(xs) + x_room, min(lows) - y_room, max(highs) + y_room)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, about `TICKS` of them."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from 10**low to 10**high: the finest of three kinds of which there are not too many."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for factors in (range(1, 10), (1, 2, 5), (1,)):
        found = [factor * 10.0**power for power, factor in product(powers, factors)]
        inside = [value for value in found if low <= math.log10(value) <= high]
        if len(inside) <= MOST_TICKS:
            break
    return inside


def place_labels(points: tuple[Point, ...], axes: Axes) -> list[tuple[float, float]]:
    """Left end and baseline of each label: beside its point, where it covers least of others."""
    marks = [_around(axes.x(point.x), axes.y(point.y)) for point in points]
    taken, placed = list(marks), []
    for point in points:
        x, y, width = axes.x(point.x), axes.y(point.y), LETTER * len(point.label)
        beside = [(left, y + 4) for left in (x + 8, x - 8 - width)]
        around = [
            (left, base) for base in (y - 9, y + 17, y - 22, y + 30) for left in (x - width / 2, x + 8, x - 8 - width)
        ]
        costs = [_cost(_label_box(place, width), taken) for place in (*beside, *around)]
        best = [*beside, *around][costs.index(min(costs))]  # the first, which is the nearest, of equal ones
        taken.append(_label_box(best, width))
        placed.append(best)
    return placed


def _around(x: float, y: float) -> Box:
    return x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS


def _label_box(place: tuple[float, float], width: float) -> Box:
    left, base = place
    return left, base - LINE + 2, left + width, base + 2


def _cost(box: Box, taken: list[Box]) -> float:
    """Area that a label covers of what is there, and much more for what is outside of the panel."""
    outside = max(0.0, LEFT - box[0]) + max(0.0, box[2] - WIDTH + 2) + max(0.0, TOP - box[1])
    outside += max(0.0, box[3] - HEIGHT + BOTTOM)
    return sum(_overlap(box, other) for other in taken) + 1000 * outside


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{color}'/>"


def _text(x: float, y: float, text: str, *, extra: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {extra}>{escape(text)}</text>".replace(" >", ">")
