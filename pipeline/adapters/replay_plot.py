"""A replay drawn: what each policy got for how many retrainings, and when it did what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.core.replay_price import Outcome
from pipeline.core.replay_walk import Walk

INK, PALE, CHOSEN, ALARM = "#1d2733", "#9aa7b5", "#0b7a53", "#b3423a"
COLOURS = ("#5b6b7c", "#c98a1b", "#7a5ca8", "#2f7fb8", "#b05c8e", "#4a8f8a", "#8a6d3b", "#0b7a53")


def draw(outcomes: Sequence[Outcome], walks: Sequence[Walk], primary: str, chosen: str, path: Path) -> None:
    """The frontier above; below it the metric by month of each policy, with its alarms and retrainings."""
    figure = Figure(figsize=(10, 8 + 0.3 * len(walks)), layout="constrained")
    FigureCanvasAgg(figure)
    above, middle, below = figure.subplots(3, 1, height_ratios=(3, 3, 0.5 + 0.35 * len(walks)))
    _frontier(above, outcomes, primary, chosen)
    _months(middle, outcomes, primary)
    _marks(below, walks)
    for axes in (above, middle, below):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None} if path.suffix.lower() == ".png" else None)


def _frontier(axes: Axes, outcomes: Sequence[Outcome], primary: str, chosen: str) -> None:
    best = sorted((one for one in outcomes if one.on_frontier), key=lambda one: one.retrainings)
    axes.plot([one.retrainings for one in best], [one.metric for one in best], color=PALE, lw=1, zorder=1)
    for one in outcomes:
        colour = CHOSEN if one.policy == chosen else INK if one.on_frontier else PALE
        axes.scatter(one.retrainings, one.metric, color=colour, s=36 if one.on_frontier else 20, zorder=2)
        axes.annotate(one.policy, (one.retrainings, one.metric), xytext=(6, -11), textcoords="offset points",
                      color=colour, fontsize=9)  # fmt: skip
    axes.set(xlabel="retrainings", ylabel=primary)
    axes.set_title(f"What retraining buys (line: the frontier; green: proposed, {chosen})", color=INK, fontsize=11)


def _months(axes: Axes, outcomes: Sequence[Outcome], primary: str) -> None:
    for place, one in enumerate(outcomes):
        when = np.array([month for month, _ in one.months], dtype="datetime64[M]").astype("datetime64[D]")
        axes.plot(when, [value for _, value in one.months], color=COLOURS[place % len(COLOURS)], lw=1.3,
                  label=one.policy)  # fmt: skip
    axes.set(ylabel=f"{primary} by month")
    axes.legend(fontsize=8, ncols=4, frameon=False)


def _marks(axes: Axes, walks: Sequence[Walk]) -> None:
    """A line each: a stroke where it retrained, a cross for an alarm, a square where a person was called."""
    for place, walk in enumerate(walks):
        for kind, mark, colour in (("retrained", "|", CHOSEN), ("alarm", "x", ALARM), ("called", "s", INK),
                                   ("rolled back", "<", INK)):  # fmt: skip
            days = np.array([event.day for event in walk.of(kind)], dtype="datetime64[D]")
            axes.scatter(days, [place] * len(days), marker=mark, color=colour, s=40, lw=1.2)
    axes.set_yticks(range(len(walks)), [walk.policy for walk in walks], fontsize=9)
    axes.set_ylim(len(walks) - 0.5, -0.5)
    axes.set_xlabel(
        "green stroke: retrained; red cross: alarm; square: a person called; arrow: rolled back", fontsize=8
    )
