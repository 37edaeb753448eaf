"""`replay`: the loop turned over past data under several retraining policies, priced."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import BadConfiguration
from pipeline.writable import prove_writable

if TYPE_CHECKING:
    from pipeline.adapters.replay_past import Past
    from pipeline.config import ModelConfig
    from pipeline.core.replay_price import Outcome
    from pipeline.core.replay_walk import Walk
    from pipeline.settings import Settings

BEGIN = "30%"
"""What the first model knows, where --from is not given."""
PICTURES = (".pdf", ".png", ".svg")
"""What a plot can be."""


@dataclass(frozen=True)
class Asked:
    """What is to be replayed."""

    begin: str = BEGIN
    """The first model's cut-off: a date, or a share of the days such as 40%."""
    until: date | None = None
    rows_a_day: int | None = None
    every_days: int = 7
    policies: tuple[str, ...] = ("never", "cron", "always", "drift", "performance", "combined")
    retraining_cost: float = 1.0
    error_cost: float = 10.0
    gate: bool = False


@dataclass(frozen=True)
class Replay:
    """What came out."""

    model: str
    primary: str
    days: str
    """Which days, and what a day is, for people."""
    begin: date
    last: date
    every_days: int
    outcomes: tuple[Outcome, ...]
    walks: tuple[Walk, ...]
    proposed: str
    section: str
    """The proposed policy as YAML of the model file."""
    reason: str
    models: int
    decisions: int
    seconds: float
    """All of it but the reading: models, scores, checks, decisions."""
    deciding_seconds: float
    """The same decisions once more, with models and checks at hand: what another policy costs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.add_argument("--model", required=True, metavar="NAME", help="the model file models/NAME.yaml")
    parser.add_argument("--from", dest="begin", default=BEGIN, metavar="DATE",
                        help="the first model's cut-off, a date or a share of the days (default: 30%%)")  # fmt: skip
    parser.add_argument("--to", type=date.fromisoformat, metavar="DATE", help="the last day (default: of the data)")
    parser.add_argument("--rows-a-day", type=int, metavar="N",
                        help="a day, where the order of rows is time (default: monitoring.min_rows)")  # fmt: skip
    parser.add_argument(
        "--every", type=int, default=7, metavar="DAYS", help="days between checks (default %(default)s)"
    )
    parser.add_argument("--policies", default="never,cron,always,drift,performance,combined", metavar="NAMES",
                        help="of these, and cron:DAYS (default: %(default)s)")  # fmt: skip
    parser.add_argument("--retraining-cost", type=_cost, default=1.0, metavar="X", help="(default %(default)g)")
    parser.add_argument("--error-cost", type=_cost, default=10.0, metavar="Y",
                        help="of one per cent of the metric, lost over the span (default %(default)g)")  # fmt: skip
    parser.add_argument("--gate", action="store_true", help="a retrained model has to pass the gate")
    parser.add_argument(
        "--plot", type=_picture, metavar="FILE", help="draw frontier and timeline into this file (PNG, SVG, PDF)"
    )


def _cost(text: str) -> float:
    try:
        cost = float(text)
    except ValueError:
        cost = math.nan
    if not (math.isfinite(cost) and cost >= 0):
        raise argparse.ArgumentTypeError(f"{text}: a cost is a finite number from 0 on")
    return cost


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text}: end the name with one of {', '.join(PICTURES)}")
    return path


def replay(parsed: argparse.Namespace) -> int:
    """The command."""
    from pipeline.config import load_model
    from pipeline.settings import load_settings

    settings = load_settings()
    names = tuple(name.strip() for name in parsed.policies.split(",") if name.strip())
    asked = Asked(parsed.begin, parsed.to, parsed.rows_a_day, parsed.every, names, parsed.retraining_cost,
                  parsed.error_cost, parsed.gate)  # fmt: skip
    if parsed.plot:
        prove_writable(parsed.plot.parent, "--plot")
        if parsed.plot.is_dir():
            raise BadConfiguration(f"--plot {parsed.plot} is a folder; name a file")
    found = replayed(load_model(parsed.model, settings.models_dir), asked, settings, datetime.now(UTC))
    if parsed.plot:
        from pipeline.adapters.replay_plot import draw

        draw(found.outcomes, found.walks, found.primary, found.proposed, parsed.plot)
    print(json.dumps(asdict(found), default=str, sort_keys=True) if parsed.json else told(found))
    return 0


def replayed(model: ModelConfig, asked: Asked, settings: Settings, now: datetime) -> Replay:
    """Turn the loop over the past under every policy.

    Raises BadConfiguration for a policy or a date that cannot be, NotEnoughData where no first model can be made,
    and as ingest and validate do.
    """
    from pipeline.adapters.replay_history import PastHistory
    from pipeline.adapters.situations import policy_of
    from pipeline.core.replay_policies import named_policies
    from pipeline.core.replay_price import Prices, price, propose, reason, section
    from pipeline.core.replay_walk import walk

    if asked.every_days < 1:
        raise BadConfiguration(f"--every {asked.every_days}: checks are at least a day apart")
    try:
        policies = named_policies(asked.policies, policy_of(model), asked.every_days)
    except ValueError as error:
        raise BadConfiguration(f"--policies: {error}") from None
    if not policies:
        raise BadConfiguration("--policies names none")
    wanted = _begin(asked.begin)
    past = _past(model, asked, settings, now)
    begin = _day_of(wanted, past)
    started = time.perf_counter()
    history = PastHistory(past, begin, asked.every_days, gate=asked.gate)
    walks = []
    for named in policies:
        walks.append(walk(named, history))
        print(f"{named.name}: {walks[-1].retrainings} retrainings, {time.perf_counter() - started:.0f} s",
              file=sys.stderr, flush=True)  # fmt: skip
    metrics, months = {}, {}
    for one in walks:
        rows, scores = history.scores(one)
        metrics[one.policy] = history.metric(rows, scores)
        months[one.policy] = history.months(rows, scores)
    prices = Prices(asked.retraining_cost, asked.error_cost)
    outcomes = price(walks, policies, metrics, months, model.primary_metric, prices)
    chosen = propose(outcomes)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    for named in policies:
        walk(named, history)
    deciding = time.perf_counter() - started
    return Replay(
        model.name, model.primary_metric, _days(past), begin, past.last, asked.every_days, outcomes, tuple(walks),
        chosen.policy, section(next(named for named in policies if named.name == chosen.policy)),
        reason(chosen, outcomes, model.primary_metric, prices), history.models, sum(one.decisions for one in walks),
        seconds, deciding,
    )  # fmt: skip


def _past(model: ModelConfig, asked: Asked, settings: Settings, now: datetime) -> Past:
    """All that is known by now, through the same door as a training run."""
    from pipeline.adapters.replay_past import load_past
    from pipeline.context import run_context
    from pipeline.stages.ingest import ingest
    from pipeline.stages.validate import validate

    context = run_context(model.name, run_id="replay", kind="manual", triggered_at=now)
    rows_a_day = model.monitoring.min_rows if asked.rows_a_day is None else asked.rows_a_day
    if rows_a_day < 1:
        raise BadConfiguration(f"--rows-a-day {rows_a_day}: a day has at least one row")
    checked = validate(ingest(model, context, settings), model, context, settings)
    return load_past(checked, model, asked.until, context.cutoff, rows_a_day, settings)


def _begin(text: str) -> date | float:
    """A day, or a share of the days."""
    try:
        begin = float(text[:-1]) / 100 if text.endswith("%") else date.fromisoformat(text)
    except ValueError:
        raise BadConfiguration(f"--from {text}: write a date such as 2026-03-01, or a share such as 40%") from None
    if isinstance(begin, float) and not 0 < begin < 1:
        raise BadConfiguration(f"--from {text}: a share of the days lies between 0% and 100%")
    return begin


def _day_of(begin: date | float, past: Past) -> date:
    if isinstance(begin, float):
        begin = past.first + timedelta(days=round(begin * ((past.last - past.first).days + 1)))
    if not past.first < begin <= past.last:
        raise BadConfiguration(f"--from {begin}: the data has the days {past.first} to {past.last}")
    return begin


def _days(past: Past) -> str:
    span = f"{past.first} to {past.last}"
    if not past.numbered:
        return f"{span}, by arrival"
    return f"{span}, numbered: the order of rows is time, {past.starts[1]} rows a day"


def told(found: Replay) -> str:
    """As people read it."""
    lines = [
        f"{found.model}: {found.days}; first model {found.begin}, a check every {found.every_days} days", "",
        f"{'policy':<14}{found.primary:>12}{'lost':>9}{'retrained':>11}{'alarms':>8}{'calls':>7}{'price':>9}  frontier",
    ]  # fmt: skip
    for one in found.outcomes:
        alarms = "-" if one.alarms is None else str(one.alarms)
        mark = "*" if one.on_frontier else ""
        lines.append(f"{one.policy:<14}{one.metric:>12.4f}{one.lost_percent:>8.2f}%{one.retrainings:>11}{alarms:>8}"
                     f"{one.calls:>7}{one.price:>9.1f}  {mark}")  # fmt: skip
    for walk in found.walks:
        lines += ["", *_story(walk)] if walk.of("alarm") or walk.of("called") else []
    a_minute, at_hand = (60 * found.decisions / seconds for seconds in (found.seconds, found.deciding_seconds))
    speed = (
        f"{found.decisions:,} decisions in {found.seconds:.1f} s, {found.models} models trained on the way: "
        f"{a_minute:,.0f} a minute; with models and checks at hand {at_hand:,.0f} a minute"
    )
    return "\n".join([*lines, "", speed, "", found.reason, found.section])


def _story(walk: Walk) -> Sequence[str]:
    """Alarms, calls and what was done, without retrainings by age."""
    return [f"{walk.policy}:", *(f"  {e.day} {e.kind}: {e.told}"[:200] for e in walk.events)]
