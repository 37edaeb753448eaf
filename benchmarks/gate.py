"""The gate's operating curve: how often it promotes, holds and rejects a candidate whose true quality is known.

Beside it the rule that most pipelines use, `candidate >= champion` on the point values. Scores are drawn from two
correlated normals whose ROC AUC is exact; the champion's is 0.80. `python -m benchmarks.gate [--picture FILE]`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.worlds import RULES, TwoModels
from pipeline.core.gate import judge
from pipeline.core.verdict import Decision

DIFFERENCES = (-0.03, -0.02, -0.01, -0.005, 0.0, 0.005, 0.01, 0.02, 0.03)
ROWS = (1_000, 5_000, 20_000)
NAIVE = "naive"


def rates(rows: int, difference: float, pairs: int) -> dict[str, float]:
    """Shares of the pairs that each decision was made for, and that the naive rule promotes."""
    counts: dict[str, int] = dict.fromkeys(("PROMOTE", "HOLD", "REJECT", NAIVE), 0)
    for seed in range(pairs):
        world = TwoModels(rows, 0.80, 0.80 + difference, np.random.default_rng([rows, seed]))
        examined = world.examine()
        decision: Decision = judge(examined, RULES).decision
        counts[decision] += 1
        assert examined.difference is not None
        counts[NAIVE] += examined.difference.value >= 0
    return {name: count / pairs for name, count in counts.items()}


def main() -> None:
    """Print the table; draw it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200, help="pairs of models at each point (default %(default)s)")
    parser.add_argument("--picture", type=Path, help="also draw the curves into this file")
    parsed = parser.parse_args()
    found = {}
    print(f"{'rows':>7}{'true difference':>17}{'PROMOTE':>10}{'HOLD':>8}{'REJECT':>9}{'naive rule promotes':>21}")
    for rows in ROWS:
        for difference in DIFFERENCES:
            one = found[rows, difference] = rates(rows, difference, parsed.pairs)
            shares = (one["PROMOTE"], one["HOLD"], one["REJECT"], one[NAIVE])
            print(f"{rows:>7,}{difference:>+17.3f}" + "".join(
                f"{share:>{width}.1%}" for share, width in zip(shares, (10, 8, 9, 21), strict=True)
            ), flush=True)  # fmt: skip
    if parsed.picture:
        draw(found, parsed.picture)


def draw(found: dict[tuple[int, float], dict[str, float]], path: Path) -> None:
    """One panel for each number of rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(ROWS), sharey=True)
    for axes, rows in zip(panels, ROWS, strict=True):
        for name, colour, style in (("PROMOTE", "#0b7a53", "-"), ("HOLD", "#a86400", "-"), ("REJECT", "#b3261e", "-"),
                                    (NAIVE, "#5b6b7c", "--")):  # fmt: skip
            label = "candidate >= champion" if name == NAIVE else name
            axes.plot(DIFFERENCES, [found[rows, d][name] for d in DIFFERENCES], style, color=colour, label=label, lw=2)
        axes.axvline(0, color="#dfe5ec", zorder=0)
        axes.set(title=f"{rows:,} rows", xlabel="true difference in ROC AUC")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of decisions")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
