"""A proposed model file as text: YAML with the reasons beside what they are reasons for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.core.metric_names import primary_metric
from pipeline.core.proposal import Proposal

LONGEST_KEY = 1000
"""YAML takes a longer key only in its explicit form."""


def model_text(proposal: Proposal, target: str, source: Mapping[str, str], known_after_days: float, about: str) -> str:
    """The whole file. `source` holds the keys of that section; `about` names the table in the heading."""
    lines = [comment(f"Written by `python -m pipeline new` from {about}. docs/model-files.md lists every key.")]
    reasons: dict[str, list[str]] = {}
    shown = {*proposal.features, *proposal.excluded}
    for doubt in proposal.doubts:
        if doubt.column in shown:
            reasons.setdefault(doubt.column, []).append(doubt.reason)
        else:
            lines.append(comment(f"Doubtful: {doubt.column}: {doubt.reason}"))
    lines += [f"task: {proposal.task}", "source:"]
    lines += [f"  {key}: {scalar(value)}" for key, value in source.items()]
    if proposal.entity:
        names = [scalar(name) for name in proposal.entity]
        lines += ["entity: " + names[0]] if len(names) == 1 else ["entity:", *(f"  - {name}" for name in names)]
    lines += _time(proposal)
    lines += ["target:", f"  column: {scalar(target)}"]
    if proposal.positive is not None:
        lines += [f"  positive: {_positive(proposal.positive)}  {comment(proposal.positive_reason)}"]
    if known_after_days:
        lines += [f"  known_after_days: {known_after_days:g}"]
    lines += ["features:", "  columns:"]
    for name, kind in proposal.features.items():
        lines += [f"    {comment(reason)}" for reason in reasons.get(name, [])]
        lines += _entry(name, kind)
    if proposal.excluded:
        lines += ["  exclude:"]
        for name in proposal.excluded:
            lines += [f"    {comment(reason)}" for reason in reasons[name]] + [f"    - {scalar(name)}"]
    if proposal.min_rows:
        lines += ["split:", f"  min_rows: {proposal.min_rows}  # the table is small"]
    lines += ["training:", f"  {comment(proposal.estimator_reason)}", f"  estimator: {proposal.estimator}"]
    lines += ["  parameters:", *(f"    {key}: {scalar(value)}" for key, value in proposal.parameters.items())]
    metric = primary_metric(proposal.task)
    lines += [f"# Candidates are judged by {metric}; metrics.floors can state how good one must be at least."]
    return "\n".join(lines) + "\n"


def scalar(value: Any) -> str:
    """A value on one line, quoted where YAML would read it as something else.

    >>> scalar("Yes"), scalar("a: b"), scalar("plain"), scalar(0.1)
    ("'Yes'", "'a: b'", 'plain', '0.1')
    """
    odd = isinstance(value, str) and not value.isprintable()
    style = '"' if odd else None
    text: str = yaml.safe_dump(value, default_style=style, allow_unicode=not odd, width=float("inf"))
    return text.removesuffix("...\n").removesuffix("\n")


def comment(text: str) -> str:
    """A comment on one line, whatever the text holds.

    >>> comment("two" + chr(10) + "lines")
    '# two lines'
    """
    return "# " + "".join(c for c in " ".join(text.split()) if c.isprintable())


def _positive(value: str) -> str:
    """Whole numbers as numbers; all else quoted as it is, since it is compared as text."""
    return value if value.isascii() and value.isdigit() and str(int(value)) == value else scalar(value)


def _time(proposal: Proposal) -> list[str]:
    if not proposal.event:
        return ["time:", "  order: rows"] if proposal.ordered_rows else []
    lines = ["time:", f"  event: {scalar(proposal.event)}"]
    lines += [f"  arrival: {scalar(proposal.arrival)}"] if proposal.arrival else []
    return lines + ([f"  format: {scalar(proposal.time_format)}"] if proposal.time_format else [])


def _entry(name: str, kind: str) -> list[str]:
    key = scalar(name)
    return [f"    {key}: {kind}"] if len(key) < LONGEST_KEY else [f"    ? {key}", f"    : {kind}"]
