"""The retraining policies that a replay holds against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.core.situation import Policy

POLICIES = ("never", "cron", "always", "drift", "performance", "combined")
CRON_DAYS = (30, 60, 120)
"""Intervals of `cron`: a month, and twice and four times as long, so that the frontier has points between."""
Setting = bool | int | float | str


@dataclass(frozen=True)
class NamedPolicy:
    """A policy, what it needs to know, and how a model file asks for it."""

    name: str
    policy: Policy
    wants_drift: bool
    """Whether the windows of each check are compared with the champion's reference."""
    wants_performance: bool
    """Whether the labelled rows of each check are measured."""
    section: tuple[tuple[str, Setting], ...]
    """Keys of the model file's section `retraining`."""


def named_policies(names: Sequence[str], asked: Policy, every_days: int) -> tuple[NamedPolicy, ...]:
    """The policies of these names; `cron` is several, `cron:45` is the one of 45 days.

    `asked`: the model file's, which `combined` is and `drift` and `performance` are parts of. `never` is watched too:
    it shows what the first model would have been told of. Raises ValueError for a name that is none.

    >>> [one.name for one in named_policies(["never", "cron", "combined"], Policy(), 7)]
    ['never', 'cron 30', 'cron 60', 'cron 120', 'combined']
    """
    found: list[NamedPolicy] = []
    for name in dict.fromkeys(names):
        kind, _, days = name.partition(":")
        if kind == "cron" and (days.isdigit() and int(days) > 0 if days else name == "cron"):
            found += [_by_age(f"cron {n}", n) for n in ([int(days)] if days else CRON_DAYS)]
        elif name == "never":
            found.append(NamedPolicy(name, Policy(mode="disabled"), True, True, (("mode", "disabled"),)))
        elif name == "always":
            found.append(_by_age(name, every_days))
        elif name in POLICIES:
            found.append(_watching(name, asked))
        else:
            raise ValueError(f"{name!r} is no policy; there are {', '.join(POLICIES)}, and cron:DAYS")
    return tuple(found)


def _by_age(name: str, days: int) -> NamedPolicy:
    """Retrained whenever its data is so old, whatever is seen."""
    policy = Policy(on_alarm=False, on_performance=False, max_age_days=days, min_rows=1, cool_down_days=0,
                    budget_per_month=31)  # fmt: skip
    section = (("on_alarm", False), ("on_performance", False), ("max_age_days", days), ("cool_down_days", 0),
               ("budget_per_month", max(1, -(-30 // days))))  # fmt: skip
    return NamedPolicy(name, policy, False, False, section)


def _watching(name: str, asked: Policy) -> NamedPolicy:
    policy = replace(asked, mode="enabled")
    if name != "combined":
        policy = replace(policy, on_alarm=name == "drift", on_performance=name == "performance", max_age_days=None,
                         min_new_share=None)  # fmt: skip
    shown: list[tuple[str, Setting]] = [("on_alarm", policy.on_alarm), ("on_performance", policy.on_performance)]
    if policy.max_age_days is not None:
        shown.append(("max_age_days", policy.max_age_days))
    if policy.min_new_share is not None:
        shown.append(("min_new_share", policy.min_new_share))
    shown += [("cool_down_days", policy.cool_down_days), ("budget_per_month", policy.budget_per_month),
              ("breaker_after", policy.breaker_after)]  # fmt: skip
    return NamedPolicy(name, policy, name != "performance", name != "drift", tuple(shown))
