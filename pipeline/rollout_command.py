"""Judging a rollout on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from pipeline.rollout_records import JudgeRolloutRecord
from pipeline.run import prepared
from pipeline.stages.judge_rollout import judge_rollout


def judge(parsed: argparse.Namespace) -> int:
    """Judge the step at which the rollout stands; with --act, carry it out although the model file says not to."""
    settings, model, context = prepared(parsed)
    record = judge_rollout(model, context, settings, act=parsed.act)
    print(record.to_json() if parsed.json else "\n".join(told(record)))
    return 0


def told(record: JudgeRolloutRecord) -> Iterator[str]:
    """The verdict for people."""
    if record.challenger is None:
        yield "; ".join(record.reasons)
        return
    yield (
        f"version {record.challenger} beside champion {record.champion}: {record.strategy}, step {record.step}, "
        f"a share of {record.share:.4g}"
    )
    yield f"verdict: {record.decision}"
    yield from (f"  {reason}" for reason in record.reasons)
    found = record.figures
    for arm in ("champion", "challenger") if found else ():
        yield (
            f"  {arm:<11}{found[f'{arm}_units']:>10,.0f} units{found[f'{arm}_answers']:>12,.0f} answers"
            f"{found[f'{arm}_labelled_units']:>10,.0f} labelled, {found[f'{arm}_failed_units']:,.0f} with a failed "
            f"answer, {found[f'{arm}_slow_units']:,.0f} with a slow one"
        )
    if record.done:
        yield f"done: {record.done}"
