"""What a check tells the alarms: a signal for each column, prediction and metric of every window that can be judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.core.alarms import Signal
from pipeline.core.drift_test import ColumnDrift, WindowDrift
from pipeline.core.impact import impact_of_change
from pipeline.core.loss_test import ConceptTest
from pipeline.core.realised import Realised


def feature_signals(window: WindowDrift, importance: Mapping[str, float], cost: float) -> Iterator[Signal]:
    """Features and pairs of them. The estimated cost of all changes is shared out by what each would cost alone.

    `importance` and `cost`: shares of the champion's error; the cost at the end of its band that is nearer to none.
    """
    if window.status != "ok":
        return
    own = {c.column: impact_of_change(_importance(c, importance), c.total_variation) for c in window.columns}
    material = sum(own[c.column] for c in window.changed)
    for column in window.columns:
        impact = own[column.column]
        if material > 0 and column.p_value <= window.level:
            impact = max(impact, cost * impact / material)
        yield Signal("pair" if column.kind == "pair" else "column", column.column, window.days, column.p_value,
                     window.level, column.psi, impact, column.told, _importance(column, importance))  # fmt: skip


def _importance(column: ColumnDrift, importance: Mapping[str, float]) -> float:
    """Of a pair: of the one that matters less, since a change between two needs both to matter."""
    names = column.column.split(" × ") if column.kind == "pair" else [column.column]
    return max(0.0, min(importance.get(name, 0.0) for name in names))


def prediction_signals(window: WindowDrift, cost: float) -> Iterator[Signal]:
    """What the model said."""
    if window.status != "ok":
        return
    for column in window.columns:
        if column.kind != "pair":
            yield Signal("prediction", column.column, window.days, column.p_value, window.level, column.psi,
                         max(0.0, cost), column.told)  # fmt: skip


def performance_signals(
    windows: Sequence[tuple[int, Realised]], concept: ConceptTest | None, usual_loss: float, error: float, level: float
) -> Iterator[Signal]:
    """Only of windows whose labels are known.

    `windows`: their length in days and what was realised, shortest first. `usual_loss`: mean loss of a row at
    registration. `error`: of the champion at registration. `level`: of one look.
    """
    for days, realised in windows:
        drop = realised.drop
        if realised.mature and drop is not None:
            lost = drop.value / error
            yield Signal("performance", "performance", days, drop.p_worse, level, lost, max(0.0, lost), realised.told)
    if concept is not None:
        lost = concept.mean_excess_loss / usual_loss if usual_loss > 0 else 0.0
        yield Signal("performance", "concept", windows[-1][0], concept.p_value, level, lost, max(0.0, lost),
                     concept.told)  # fmt: skip
