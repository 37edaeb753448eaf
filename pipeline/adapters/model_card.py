"""The model card (Mitchell et al., Model Cards for Model Reporting, 2019): one HTML page that prints well."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.adapters.form_trial import Tried, read_trial
from pipeline.config import ModelConfig
from pipeline.context import RunContext
from pipeline.core.metric_names import MONEY
from pipeline.core.verdict import Interval, SliceResult
from pipeline.records import RegisterRecord
from pipeline.settings import Settings

TEMPLATE = "model_card.html.j2"
OUTSIDE = ("behaviour", "fairness", "latency")
"""Checks that have a section of their own."""
WIDTH = 190
"""Pixels of the drawn intervals."""


@dataclass(frozen=True)
class Drawn:
    """One metric as a row of the table."""

    name: str
    primary: bool
    value: str
    interval: str
    champion: str
    x: float
    x1: float
    x2: float
    xc: float | None


def model_card(record: RegisterRecord, model: ModelConfig, context: RunContext, settings: Settings, commit: str) -> str:
    """The page: what the version is, what it learned from, how good it is and where not, and where it comes from."""
    evaluate = record.evaluate
    evidence, train = evaluate.evidence, evaluate.train
    prepare = train.prepare
    told = set(evaluate.verdict.reasons)
    passed = {c.told for c in evidence.checks if c.kind in OUTSIDE and c.outcome == "pass"}
    plots = (settings.home / evaluate.predictions).with_name("plots")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(TEMPLATE).render(
        record=record,
        model=model,
        title=model.description or f"Model {model.name}",
        estimator=model.training.estimator.rsplit(".", 1)[-1],
        cutoff=_day(context.cutoff),
        verdict=evaluate.verdict,
        reasons=[reason for reason in evaluate.verdict.reasons if reason not in passed],
        tiles=_tiles(record, model),
        what=_what(record, model),
        use=_use(record, model),
        others=[c for c in evidence.checks if c.told not in told and c.kind not in OUTSIDE],
        rows=f"{evidence.rows:,}",
        entities=f"{evidence.entities:,}" if evidence.entities != evidence.rows else "",
        entity=" and ".join(model.entity),
        confidence=f"{model.gate.confidence:.0%}",
        champion=evaluate.champion_version if evaluate.champion_metrics else None,
        metrics=[
            _drawn(name, found, evaluate.champion_metrics.get(name), model) for name, found in _ordered(record, model)
        ],
        slices=[_slice(s, model) for s in evidence.slices],
        loss=_loss(model),
        searched=f"{evidence.slices_searched:,}" if evidence.slices_searched else "",
        asked=[c for c in evidence.checks if c.kind in OUTSIDE],
        pictures=[{"name": p.stem, "data": _base64(p)} for p in sorted(plots.glob("*.png"))],
        served=[_served(entry) for entry in read_trial(settings.home / record.package)],
        data=_data(record, model, context, settings),
        limits=_limits(record, model),
        lineage=[
            ("data snapshot (MD5)", prepare.validate.ingest.digest),
            ("code", commit),
            ("judged against", "no champion" if evaluate.champion is None else f"version {evaluate.champion_version}"),
            ("MLflow run", train.mlflow_run),
            ("run", f"{context.run_id} ({context.kind})"),
            ("model (SHA-256)", train.digest),
            ("package (SHA-256)", record.digest),
            ("predictions (SHA-256)", evaluate.predictions_digest),
            ("made again by", f"python -m pipeline reproduce {record.version} --model {model.name}"),
        ],
    )  # fmt: skip


def attach(page: str, record: RegisterRecord, settings: Settings) -> None:
    """Leave the card on the version's MLflow run."""
    from pipeline.adapters.tracking import open_run

    with open_run(settings, record.evaluate.train.mlflow_run) as run:
        run.text(page, "model_card.html")
        tried = read_trial(settings.home / record.package)
        run.text(json.dumps([asdict(entry) for entry in tried], indent=2), "serving_trial.json")


def _day(instant: datetime | str) -> str:
    """An instant as people write it.

    >>> _day("2026-06-01T08:05:00+00:00")
    '1 June 2026, 08:05 UTC'
    """
    when = (datetime.fromisoformat(instant) if isinstance(instant, str) else instant).astimezone(UTC)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _tiles(record: RegisterRecord, model: ModelConfig) -> list[dict[str, str]]:
    evaluate = record.evaluate
    primary = evaluate.metrics[model.primary_metric]
    tiles = [{"value": _number(primary.value), "label": model.primary_metric.replace("_", " ")}]
    if evaluate.difference is not None:
        gap = evaluate.difference
        side = "better" if gap.value >= 0 else "worse"
        label = f"{side} than the champion (gain between {gap.low:+.3f} and {gap.high:+.3f})"
        tiles.append({"value": _number(abs(gap.value)), "label": label})
    if MONEY in evaluate.metrics:
        money = evaluate.metrics[MONEY]
        label = f"made per thousand rows ({money.low:,.0f} to {money.high:,.0f})"
        tiles.append({"value": f"{money.value:,.0f}", "label": label})
    if "calibration_error" in evaluate.metrics:
        error = evaluate.metrics["calibration_error"]
        label = f"typical error of a probability ({100 * error.low:.1f} to {100 * error.high:.1f})"
        tiles.append({"value": f"{100 * error.value:.1f} points", "label": label})
    if evaluate.latency_ms is not None:
        tiles.append({"value": f"{evaluate.latency_ms:.1f} ms", "label": "99th percentile in the server"})
    tiles.append({"value": f"{evaluate.evidence.rows:,}", "label": "rows judged"})
    return tiles


def _what(record: RegisterRecord, model: ModelConfig) -> str:
    name = model.training.estimator.rsplit(".", 1)[-1]
    kinds = {"binary": "a yes or no with its probability", "multiclass": "one of several classes with its probability",
             "regression": "a number"}  # fmt: skip
    return (
        f"{name} of scikit-learn, predicting {model.target.column}: {kinds[model.task]}. It is served in the form "
        f"“{record.form}”, which was shown to give scikit-learn's own answers on real rows."
    )


def _use(record: RegisterRecord, model: ModelConfig) -> str:
    if model.task != "binary":
        return "One row is one answer."
    source = "where the declared payoffs make yes worth more than no" if model.payoff else "the default"
    return f"The answer is yes from a probability of {record.evaluate.threshold:.3f} on, {source}."


def _ordered(record: RegisterRecord, model: ModelConfig) -> list[tuple[str, Interval]]:
    return sorted(record.evaluate.metrics.items(), key=lambda item: (item[0] != model.primary_metric, item[0]))


def _drawn(name: str, found: Interval, champion: Interval | None, model: ModelConfig) -> Drawn:
    """Bars on a scale of 0 to 1 where the metric has one, else around what was found."""
    known = [found.low, found.high, found.value, *([champion.value] if champion else [])]
    low, high = (0.0, 1.0) if min(known) >= 0 and max(known) <= 1 else (min(known), max(known))
    room = (high - low) or 1.0

    def place(value: float) -> float:
        return round(4 + (WIDTH - 8) * (value - low) / room, 1)

    return Drawn(
        name.replace("_", " "), name == model.primary_metric, _number(found.value),
        f"{_number(found.low)} to {_number(found.high)}", _number(champion.value) if champion else "",
        place(found.value), place(found.low), place(found.high), place(champion.value) if champion else None,
    )  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"


def _slice(found: SliceResult, model: ModelConfig) -> dict[str, Any]:
    thin = found.rows < model.gate.slice_min_rows
    known = not thin and found.champion_loss is not None
    return {
        "name": found.name, "declared": found.declared, "rows": f"{found.rows:,}",
        "outcome": "thin" if thin and found.outcome == "pass" else found.outcome,
        "mine": "-" if thin else f"{found.candidate_loss:.4f}",
        "theirs": f"{found.champion_loss:.4f}" if known else "-",
    }  # fmt: skip


def _served(entry: Tried) -> dict[str, str]:
    """One form of the trial as a row of the table."""
    names = {"linear": "plain arrays", "mlp": "plain arrays", "naive_bayes": "plain arrays", "onnx": "ONNX Runtime",
             "treelite": "treelite", "skops": "scikit-learn itself"}  # fmt: skip

    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return {
        "name": names[entry.form], "outcome": entry.outcome, "reason": entry.reason,
        "difference": "" if entry.form == "skops" else shown(entry.difference, ".0e"),
        "one": shown(entry.one_row_us, ",.0f" if (entry.one_row_us or 0) >= 10 else ".1f"),
        "batch": shown(entry.batch_us, ",.0f" if (entry.batch_us or 0) >= 10 else ".1f"),
    }  # fmt: skip


def _loss(model: ModelConfig) -> str:
    """What the loss of a part is, as `paired.row_losses` computes it."""
    if model.task != "regression":
        return "squared error of the probability (Brier score)"
    return "absolute error" if model.primary_metric == "mean_absolute_error" else "squared error"


def _data(record: RegisterRecord, model: ModelConfig, context: RunContext, settings: Settings) -> list[tuple[str, str]]:
    prepare = record.evaluate.train.prepare
    until = f", until {_day(prepare.train_until)}" if prepare.train_until else ""
    window = ""
    if prepare.test_from and prepare.test_until:
        window = f", {_day(prepare.test_from)} to {_day(prepare.test_until)}"
    days = model.target.known_after_days
    data = [
        ("table as known at", _day(context.cutoff)),
        ("rows known", f"{prepare.validate.ingest.rows:,}, {prepare.validate.quarantined_rows:,} set apart as bad"),
        ("learned from", f"{prepare.train_rows:,} rows{until}"),
        ("judged on", f"{prepare.test_rows:,} rows{window}"),
        ("features", ", ".join(_features(record, settings))),
        ("target", f"{model.target.column}, final after {days:g} days" if days else model.target.column),
    ]
    if prepare.embargoed_rows:
        between = f"{prepare.embargoed_rows:,} rows, whose labels were not final in time"
        data.insert(4, ("left out between", between))
    return data


def _features(record: RegisterRecord, settings: Settings) -> list[str]:
    from pipeline.core.schema import Schema

    path = settings.home / record.evaluate.train.prepare.validate.schema
    return list(Schema.from_json(path.read_text(encoding="utf-8")).features)


def _limits(record: RegisterRecord, model: ModelConfig) -> list[str]:
    """What follows from the way it was made; nothing here is a phrase for every model."""
    evaluate = record.evaluate
    prepare, evidence = evaluate.train.prepare, evaluate.evidence
    limits = []
    if model.time and model.time.event and prepare.test_until:
        limits.append(
            f"It was judged on events until {_day(prepare.test_until)}; how it does on later ones has to be watched."
        )
    elif model.time:
        limits.append("Time is told by the order of rows only; nothing is known of how fast the world changes.")
    else:
        limits.append(
            "The table has no time: rows were parted by who they are about, so change over time is not judged."
        )
    if "calibration_error" in evaluate.metrics and evaluate.metrics["calibration_error"].low > 0.02:
        error = evaluate.metrics["calibration_error"].value
        limits.append(f"Its probabilities are off by {100 * error:.1f} points in a typical case: rank by them only.")
    thin = [s.name for s in evidence.slices if s.rows < model.gate.slice_min_rows]
    if thin:
        limits.append(f"Too few rows to tell how it does on: {', '.join(thin)}.")
    if evidence.compared_rows and evidence.compared_rows < evidence.rows:
        limits.append(f"Only {evidence.compared_rows:,} of the rows were new to the champion, and compare the two.")
    if evidence.wear and evidence.wear.candidates > 1:
        limits.append(
            f"The rows that judged it have judged {evidence.wear.candidates:.1f} candidates; "
            f"it had to be better with {evidence.wear.confidence:.3%} confidence."
        )
    if prepare.validate.quarantined_rows:
        worst = max(prepare.validate.quarantined_reasons.items(), key=lambda item: item[1])
        limits.append(
            f"{prepare.validate.quarantined_rows:,} rows were set apart, most for: {worst[0]} ({worst[1]:,})."
        )
    if not model.gate.fairness:
        limits.append("No groups are declared in the model file, so fairness between groups was not looked at.")
    if not model.behaviour:
        limits.append("No behavioural tests are declared in the model file.")
    return limits
