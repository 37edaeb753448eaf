"""What changed, from what to what, in a line for people."""

from __future__ import annotations

import math

import numpy as np

from pipeline.core.drift_bins import CategoryBins
from pipeline.core.drift_columns import Question
from pipeline.core.sketch import Sketch


def told_of(column: str, question: Question, reference: Sketch, current: Sketch) -> str:
    """A line about a column, by what has changed most in it."""
    if question == "missing":
        return f"missing {_percent(reference.missing_share(column))} -> {_percent(current.missing_share(column))}"
    if column in reference.bins.categories:
        return _category(column, reference, current)
    (was, width), (now, wide) = reference.moments(column), current.moments(column)
    if math.isnan(was) or math.isnan(now):
        return "no finite value " + ("any more" if math.isnan(now) else "before")
    if question in ("spread", "outer spread"):
        ratio = f" ({wide / width:.2f} times)" if width > 0 else ""
        return f"standard deviation {width:.4g} -> {wide:.4g}{ratio}"
    if question == "one cell":
        return _bin(column, reference, current)
    if question == "many cells":
        points = (0.1, 0.5, 0.9)
        before, after = reference.quantiles(column, points), current.quantiles(column, points)
        shown = ", ".join(f"{a:.4g} -> {b:.4g}" for a, b in zip(before, after, strict=True))
        return f"shape: quantiles 10 %, 50 %, 90 % {shown}"
    cuts: dict[Question, float] = {"lower part": 0.3, "middle": 0.5, "upper part": 0.7}
    if question in cuts:
        cut = cuts[question]
        start, end = reference.quantiles(column, (cut,))[0], current.quantiles(column, (cut,))[0]
        return f"quantile {cut:.0%} {start:.4g} -> {end:.4g}"
    moved = f" ({(now - was) / width:+.2f} standard deviations)" if width > 0 else ""
    return f"mean {was:.4g} -> {now:.4g}{moved}"


def told_of_pair(before: float, after: float) -> str:
    """A line about a pair of numbers."""
    return f"correlation {before:+.2f} -> {after:+.2f}"


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 0.1 else f"{share:.1%}"


def _category(column: str, reference: Sketch, current: Sketch) -> str:
    """The name whose share has moved most, for its own size."""
    before, after = reference.shares(column), current.shares(column)
    if not before and not after:
        return "no rows"
    names = list(before) + [name for name in after if name not in before]

    def moved(name: str) -> float:
        p, q = before.get(name, 0.0), after.get(name, 0.0)
        middle = (p + q) / 2
        return abs(q - p) / math.sqrt(middle * (1 - middle)) if 0 < middle < 1 else 0.0

    name = max(names, key=moved)
    new = "" if name in before else "new "
    cut: CategoryBins = reference.bins.categories[column]
    shown = name if cut.hashed and name in before else repr(name)
    return f"{new}{shown} {_percent(before.get(name, 0.0))} -> {_percent(after.get(name, 0.0))}"


def _bin(column: str, reference: Sketch, current: Sketch) -> str:
    """The bin whose share has moved most, for its own size."""
    p, q = (np.array(s.numbers[column].counts) / max(s.numbers[column].present, 1) for s in (reference, current))
    place = int((np.abs(q - p) / np.sqrt(np.maximum(p + q, 1e-12))).argmax())
    edges = reference.bins.numbers[column].edges
    low = edges[place - 1] if place > 0 else -math.inf
    high = edges[place] if place < len(edges) else math.inf
    if place > 0 and high <= np.nextafter(low, math.inf):
        where = f"value {low:.4g}"
    elif place == 0:
        where = f"below {high:.4g}"
    else:
        where = f"from {low:.4g} on" if high == math.inf else f"{low:.4g} to {high:.4g}"
    return f"share of {where}: {_percent(float(p[place]))} -> {_percent(float(q[place]))}"
