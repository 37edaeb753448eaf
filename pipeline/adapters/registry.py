"""The registry as people know it: register, get, promote, roll back; with a memory of who was champion when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.adapters.champions import record_of, registered
from pipeline.adapters.promotion import Order, Refusal, answering, may_be_promoted, roll_out, variant_of
from pipeline.adapters.trials import Why, on_trial, withdraw
from pipeline.adapters.versions import CHALLENGER, CHAMPION, name_challenger, name_champion, version_under
from pipeline.errors import BadConfiguration, DeploymentFailed, RefusedByGate
from pipeline.ledger import MOVES, Event, Ledger, Line
from pipeline.records import RegisterRecord
from pipeline.rollout import Rollout, RolloutStore, Variant
from pipeline.settings import Settings

STAGES = {"production": CHAMPION, "champion": CHAMPION, "staging": CHALLENGER, "challenger": CHALLENGER}
"""Both pairs of words are understood; the registry itself knows aliases only."""


@dataclass(frozen=True)
class Version:
    """A registered version."""

    model: str
    number: int
    cutoff: datetime
    registered_at: datetime
    record: RegisterRecord
    line: Line


@dataclass(frozen=True)
class Reign:
    """A version's time as champion."""

    version: int
    since: datetime
    until: datetime | None
    kind: Literal["promoted", "rolled_back"]
    by: str
    reason: str
    line: int
    """Number of the ledger line that began it."""


class Registry:
    """The versions of one model."""

    def __init__(self, model: str, settings: Settings) -> None:
        self.model, self._settings = model, settings

    def get(self, which: int | str = "latest") -> Version:
        """A version by number, "latest", or an alias ("champion" or "production", "challenger" or "staging").

        Raises BadConfiguration where there is none.
        """
        with Ledger(self._settings.database_url) as ledger:
            return self._get(which, ledger)

    def _get(self, which: int | str, ledger: Ledger) -> Version:
        line = registered(self.model, self._number(which, ledger), ledger)
        assert line.version is not None
        cutoff = datetime.fromisoformat(line.body["cutoff"])
        return Version(self.model, line.version, cutoff, line.instant, record_of(line), line)

    def _number(self, which: int | str, ledger: Ledger) -> int:
        if isinstance(which, int) or which.isdigit():
            return int(which)
        if which == "latest":
            numbers = [line.version or 0 for line in ledger.lines(self.model, "registered")]
            if not numbers:
                raise BadConfiguration(f"{self.model} has no version yet; `python -m pipeline run` makes one")
            return max(numbers)
        if which not in STAGES:
            raise BadConfiguration(f"{which!r} is no version: give a number, latest, {', '.join(STAGES)}")
        if STAGES[which] == CHAMPION:
            with RolloutStore(self._settings.database_url) as store:
                champion = answering(store.get(self.model))
            number = champion.version if champion else None
        else:
            number = version_under(self.model, CHALLENGER, self._settings)
        if number is None:
            raise BadConfiguration(f"{self.model} has no {STAGES[which]}")
        return number

    def promote(
        self, which: int | str, stage: str = "production", *, by: str, reason: str, overrule: bool = False
    ) -> Version:
        """Put a version on trial ("staging"), or make it champion ("production") and move the traffic.

        Raises RefusedByGate where a law or the verdict stands against it, DeploymentFailed where the servers do
        not take it or another promotion came first. Every refusal is in the ledger.
        """
        if stage not in STAGES:
            raise BadConfiguration(f"{stage!r} is no stage: {', '.join(STAGES)}")
        with Ledger(self._settings.database_url) as ledger, RolloutStore(self._settings.database_url) as store:
            version = self._get(which, ledger)
            if STAGES[stage] == CHALLENGER:
                name_challenger(self.model, version.number, self._settings)
                ledger.append(Event(self.model, "staged", version.number, {
                    "by": by, "reason": reason, "digest": version.record.digest,
                }))  # fmt: skip
                return version
            rollout = store.get(self.model)
            champion = self._champion(rollout)
            if champion is not None and champion.version == version.number:
                return version
            refused = may_be_promoted(version.record, version.cutoff, champion, overrule=overrule)
            if refused is not None:
                self._refuse(version, refused, by, ledger)
            variant = variant_of(version.record, version.cutoff)
            order = Order("promoted", reason, by, overruled=version.record.evaluate.verdict.decision != "PROMOTE")
            evidence = {"verdict_key": version.record.evaluate.key, "mode": version.record.evaluate.verdict.mode}
            try:
                roll_out(store, rollout, variant, order, evidence, self._settings)
            except DeploymentFailed as error:
                if str(error).startswith("champion moved"):
                    self._refuse(version, Refusal("champion_moved", str(error)), by, ledger)
                raise
            return version

    def _champion(self, rollout: Rollout) -> Variant | None:
        """Who answers; its alias is moved where a process died between the traffic and the alias."""
        champion = answering(rollout)
        if champion is not None:
            name_champion(self.model, champion.version, rollout.generation, self._settings)
        return champion

    def _refuse(self, version: Version, refused: Refusal, by: str, ledger: Ledger) -> None:
        ledger.append(Event(self.model, "refused", version.number, {
            "code": refused.code, "reason": refused.reason, "by": by, "cutoff": version.cutoff.isoformat(),
            "digest": version.record.digest, "run_id": None,
        }))  # fmt: skip
        raise RefusedByGate(refused.reason)

    def rollback(self, *, to: int | None = None, by: str, reason: str) -> tuple[int, int]:
        """Let an earlier champion answer again; without `to`, the one before. Returns (from, to).

        While a challenger is on trial, and without `to`, it is withdrawn: the champion answers alone again.

        Raises BadConfiguration where there is none to go back to.
        """
        with Ledger(self._settings.database_url) as ledger, RolloutStore(self._settings.database_url) as store:
            rollout = store.get(self.model)
            champion = self._champion(rollout)
            if champion is None:
                raise BadConfiguration(f"{self.model} has no champion to roll back")
            challenger = on_trial(rollout)
            if challenger is not None and to in (None, champion.version):
                withdraw(store, rollout, Why(reason, by))
                return challenger.version, champion.version
            target = to if to is not None else before(ledger.lines(self.model, *MOVES))
            if target is None:
                raise BadConfiguration(f"{self.model}: no version answered before version {champion.version}")
            if target == champion.version:
                raise BadConfiguration(f"{self.model}: version {target} answers already")
            reigned = {line.version for line in ledger.lines(self.model, *MOVES)}
            if target not in reigned:
                raise BadConfiguration(
                    f"{self.model}: version {target} was never champion; "
                    f"those that were: {', '.join(str(v) for v in sorted(v for v in reigned if v))}"
                )
            version = self._get(target, ledger)
            variant = variant_of(version.record, version.cutoff)
            roll_out(store, rollout, variant, Order("rolled_back", reason, by), {}, self._settings)
            return champion.version, target

    def answer(self, which: int | str, *, approve: bool, by: str, reason: str, run_id: str | None = None) -> Line:
        """Write down a person's answer to whether this version may become champion."""
        with Ledger(self._settings.database_url) as ledger:
            version = self._get(which, ledger)
            evaluate = version.record.evaluate
            return ledger.append(Event(self.model, "approved" if approve else "rejected", version.number, {
                "by": by, "reason": reason, "champion": evaluate.champion, "verdict": evaluate.verdict.decision,
                "reasons": list(evaluate.verdict.reasons), "digest": version.record.digest, "run_id": run_id,
            }, once=f"{run_id} {version.number}" if run_id else None))  # fmt: skip

    def history(self, until: datetime | None = None) -> list[Reign]:
        """Who was champion from when to when, the oldest first."""
        with Ledger(self._settings.database_url) as ledger:
            moves = ledger.lines(self.model, *MOVES, until=until)
        return [
            Reign(line.version or 0, line.instant, after.instant if after else None, line.kind,  # type: ignore[arg-type]
                  line.body["by"], line.body["reason"], line.number)
            for line, after in zip(moves, [*moves[1:], None], strict=False)
        ]  # fmt: skip

    def champion_at(self, instant: datetime) -> Reign | None:
        """Who was champion at an instant; None before the first."""
        reigns = self.history(until=instant)
        return reigns[-1] if reigns else None


def before(moves: list[Line]) -> int | None:
    """The champion before the present one, what was rolled back not counting."""
    reigns: list[int] = []
    for line in moves:
        version = line.version or 0
        if line.kind == "rolled_back" and version in reigns:
            del reigns[reigns.index(version) + 1 :]
        else:
            reigns.append(version)
    return reigns[-2] if len(reigns) > 1 else None
