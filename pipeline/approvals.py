"""Asking a person: whether there is something to ask, what they have to see, and what they answered."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.adapters.champions import champion_of
from pipeline.adapters.registry import Registry
from pipeline.records import RegisterRecord
from pipeline.settings import Settings


@dataclass(frozen=True)
class Question:
    """What a person is shown."""

    subject: str
    evidence: str
    """Markdown."""


def question(registered: str, model: str, kind: str, mlflow_ui: str, settings: Settings) -> Question | None:
    """What to ask about a version, or None where there is nothing to agree to. Never in a backfill.

    `registered`: the JSON of its RegisterRecord; `mlflow_ui`: address that a browser reaches.
    """
    record = RegisterRecord.from_json(registered)
    champion = champion_of(model, settings)
    unchanged = champion is not None and champion.digest == record.digest
    if kind == "backfill" or unchanged or record.evaluate.verdict.decision != "PROMOTE":
        return None
    return Question(f"Make version {record.version} of {model} champion?", evidence(record, mlflow_ui))


def write_answer(
    registered: str, model: str, *, approve: bool, by: str, reason: str, run_id: str, settings: Settings
) -> None:
    """The answer as a line of the ledger; the same run's answer is written once."""
    version = RegisterRecord.from_json(registered).version
    Registry(model, settings).answer(version, approve=approve, by=by, reason=reason, run_id=run_id)


def evidence(record: RegisterRecord, mlflow_ui: str) -> str:
    """What a person has to see to decide, as Markdown."""
    evaluate = record.evaluate
    prepare, champion = evaluate.train.prepare, evaluate.champion_version
    lines = [f"**The gate says {evaluate.verdict.decision}**", ""]
    lines += [f"- {_plain(reason)}" for reason in evaluate.verdict.reasons]
    others = [c for c in evaluate.evidence.checks if c.told not in evaluate.verdict.reasons]
    lines += [f"- {check.outcome}: {_plain(check.told)}" for check in others]
    lines += ["", *_table(record)]
    lines += [
        "",
        f"Learned from {prepare.train_rows:,} rows, judged on {prepare.test_rows:,} others. "
        f"[MLflow run with the model card]({mlflow_ui.rstrip('/')}/#/runs/{evaluate.train.mlflow_run})",
        "",
        f"*Reject* keeps {f'version {champion}' if champion is not None else 'everything'} as it is.",
    ]
    return "\n".join(lines)


def _table(record: RegisterRecord) -> list[str]:
    evaluate = record.evaluate
    rival = evaluate.champion_version if evaluate.champion_metrics else None
    head = ["metric", f"version {record.version}", "interval"] + ([f"champion (version {rival})"] if rival else [])
    rows = [head, ["---"] * len(head)]
    for name, found in sorted(evaluate.metrics.items(), key=lambda item: (item[0] != evaluate.primary, item[0])):
        label = f"**{name}** (decides)" if name == evaluate.primary else name
        row = [label, f"{found.value:.4f}", f"{found.low:.4f} to {found.high:.4f}"]
        theirs = evaluate.champion_metrics.get(name)
        rows.append([*row, f"{theirs.value:.4f}" if theirs else "-"] if rival else row)
    return [f"| {' | '.join(row)} |" for row in rows]


def _plain(text: str) -> str:
    r"""Text that Markdown leaves as it is: names of slices hold values of the data, which may be anything.

    >>> print(_plain("slice plan=*x* & size in [1, 2)"))
    slice plan=\*x\* & size in \[1, 2)
    """
    return re.sub(r"([\\`*\[<|~])", r"\\\1", " ".join(text.split()))
