"""The curves: power against the size of a shift beside KS, and false alarms against rows."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.drift.alarms import SHARE, Seen, interval, seen
from benchmarks.drift.worlds import T4, mixture, normal, number, shifted

SIZES = (0.0, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1)
COLOURS = {"ours": "#0b7a53", "peer": "#5b6b7c"}
CURVES = ("mean, normal", "mean, t4", "scale", "weight of a hump")


def shift_seen(curve: str, size: float, seed: int) -> Seen:
    """Whether we and KS see a shift of this size at 10,000 rows."""
    change = {
        "mean, normal": number(f"{size}", normal, shifted(normal, size)),
        "mean, t4": number(f"{size}", T4, shifted(T4, size * np.sqrt(2))),
        "scale": number(f"{size}", normal, lambda rng, rows: (1 + size) * rng.normal(size=rows)),
        "weight of a hump": number(f"{size}", mixture(0.5), mixture(0.5 + size / 2)),
    }[curve]
    return seen(change, 10_000, seed)


def draw(path: Path, found: Mapping[int, tuple[int, int]], windows: int, processes: int) -> None:
    """One panel a kind of change; the last one for false alarms where they were measured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(CURVES) + bool(found))
    with ProcessPoolExecutor(processes) as pool:
        for axes, curve in zip(panels, CURVES, strict=False):
            drawn = [list(pool.map(partial(shift_seen, curve, size), range(windows), chunksize=20)) for size in SIZES]
            for who, label, style in (("ours", "Evergreen", "-"), ("peer", "KS, corrected alike", "--")):
                shares = [float(np.mean([getattr(one, who) for one in windows_seen])) for windows_seen in drawn]
                axes.plot(SIZES, shares, style, color=COLOURS[who], label=label, lw=2)
            unit = {"scale": "standard deviation, change", "weight of a hump": "twice the change of weight"}
            axes.set(title=curve, xlabel=unit.get(curve, "shift, standard deviations"), ylim=(-0.02, 1.02))
    panels[0].set_ylabel("share of windows of 10,000 rows")
    panels[0].legend(frameon=False, fontsize=8)
    if found:
        rows = list(found)
        rates = np.array([hits / number for hits, number in found.values()])
        bounds = np.array([interval(*one) for one in found.values()])
        panels[-1].errorbar(rows, rates, yerr=np.abs(bounds.T - rates), fmt="o", color="#0b7a53", capsize=3)
        panels[-1].axhline(SHARE, color="#b3261e", lw=1, label="allowed")
        panels[-1].set(title="no change: false alarms", xlabel="rows of the window", xscale="log", ylim=(0, 2 * SHARE))
        panels[-1].legend(frameon=False, fontsize=8)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
