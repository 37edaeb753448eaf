"""Expectations through Great Expectations 1.x: which rows break them, and data docs a browser shows.

Row-level expectations run batch by batch, so memory does not grow with rows; the counts are added up.
Table-level ones (and uniqueness, which no batch can tell) run once, on the columns that they name.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.schema import Schema
from pipeline.errors import BadConfiguration
from pipeline.sections import Expectation

WHOLE_TABLE = ("expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique",
               "expect_select_column_values_to_be_unique_within_record")  # fmt: skip
PLACE = "evergreen.place"


@dataclass
class _Tally:
    """An expectation and what all batches together said of it."""

    expectation: Any
    reason: str
    mostly: float | None
    result: Any = None
    elements: int = 0
    missing: int = 0
    unexpected: int = 0
    examples: list[Any] = field(default_factory=list)


def schema_expectations(schema: Schema, entity: tuple[str, ...]) -> tuple[Expectation, ...]:
    """What the pinned schema says of every row: it names its entity, and its numbers are finite."""
    largest = sys.float_info.max
    named: list[dict[str, Any]] = [
        {"expect": "expect_column_values_to_not_be_null", "reason": f"{name}: empty", "column": name} for name in entity
    ]
    between = {"expect": "expect_column_values_to_be_between", "min_value": -largest, "max_value": largest}
    finite = [
        {**between, "reason": f"{name}: infinite", "column": name}
        for name, kind in schema.features.items()
        if kind == "number"
    ]
    return tuple(Expectation.model_validate(content) for content in [*named, *finite])


class RowChecks:
    """Row-level expectations over the batches of a table."""

    def __init__(self, expectations: Iterable[Expectation]) -> None:
        """Raises BadConfiguration for an unknown expectation or argument, naming it."""
        self._tallies = [
            _Tally(_build(e), _reason(e), e.arguments.get("mostly")) for e in expectations if is_row_level(e)
        ]

    def check(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
        """Reason -> mask of the rows that break it, shape (n,); `frame` has a RangeIndex."""
        if not self._tallies:
            return {}
        answers = _validate(frame, [t.expectation for t in self._tallies])
        broken: dict[str, np.ndarray] = {}
        for tally, result in zip(self._tallies, answers, strict=True):
            _refuse_exception(result, tally.reason)
            indices = result.result.get("unexpected_index_list") or []
            tally.result = tally.result or result
            tally.elements += result.result["element_count"]
            tally.missing += result.result.get("missing_count") or 0
            tally.unexpected += len(indices)
            tally.examples = (tally.examples + (result.result.get("partial_unexpected_list") or []))[:20]
            if indices:
                mask = np.zeros(len(frame), dtype=bool)
                mask[indices] = True
                broken[tally.reason] = mask | broken.get(tally.reason, False)
        return broken

    def results(self) -> list[Any]:
        """One Great Expectations result each, over all batches."""
        return [_total(tally) for tally in self._tallies if tally.result is not None]


def is_row_level(expectation: Expectation) -> bool:
    """Whether single rows break it, so that they can be set apart."""
    import great_expectations.expectations.expectation as gx

    kinds = (gx.ColumnMapExpectation, gx.ColumnPairMapExpectation, gx.MulticolumnMapExpectation)
    return issubclass(_class(expectation), kinds) and expectation.expect not in WHOLE_TABLE


def table_columns(expectations: Iterable[Expectation]) -> list[str]:
    """Columns that the table-level expectations look at."""
    names: list[str] = []
    for expectation in expectations:
        arguments = expectation.arguments
        for key in ("column", "column_A", "column_B"):
            names += [arguments[key]] if key in arguments else []
        names += arguments.get("column_list", []) if expectation.expect in WHOLE_TABLE else []
    return list(dict.fromkeys(names))


def check_table(frame: pd.DataFrame, expectations: list[Expectation]) -> list[Any]:
    """Results of table-level expectations on a frame that has their columns and every row."""
    if not expectations:
        return []
    answers = _validate(frame, [_build(e) for e in expectations])
    for result, expectation in zip(answers, expectations, strict=True):
        _refuse_exception(result, _reason(expectation))
        found = result.result.get("observed_value")
        if isinstance(found, np.generic):  # the renderer of data docs knows plain numbers only
            result.result["observed_value"] = found.item()
    return answers


def summary(result: Any) -> str:
    """A broken expectation in one line."""
    found = result.result.get("observed_value")
    if found is None:
        examples = result.result.get("partial_unexpected_list", [])[:3]
        found = f"{result.result.get('unexpected_count')} rows break it, such as {examples}"
    config = result.expectation_config
    arguments = {k: v for k, v in config.kwargs.items() if k != "batch_id"}
    return f"{config.type}({', '.join(f'{k}={v!r}' for k, v in arguments.items())}): found {found}"


def data_docs(results: list[Any], success: bool, title: str, facts: dict[str, Any]) -> str:
    """The results as one HTML page that needs nothing from outside."""
    from pipeline.adapters.data_docs import render

    return render(results, success, title, facts)


def _context() -> Any:
    import great_expectations as gx

    # Named one by one: this module sets its own level, so that its parent's does not count.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def _validate(frame: pd.DataFrame, expectations: list[Any]) -> list[Any]:
    """Results in the order of the expectations; Great Expectations gives them in an order of its own."""
    import great_expectations as gx

    context = _context()
    name = "rows"
    source = context.data_sources.add_pandas(name)
    try:
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        for place, expectation in enumerate(expectations):
            expectation.meta = {PLACE: place}
        suite = gx.ExpectationSuite(name, expectations=expectations)
        answer = batch.get_batch({"dataframe": frame}).validate(suite, result_format={"result_format": "COMPLETE"})
        return sorted(answer.results, key=lambda result: result.expectation_config.meta[PLACE])
    finally:
        context.data_sources.delete(name)


def _class(expectation: Expectation) -> type:
    import great_expectations.expectations as gxe

    name = "".join(part.title() for part in expectation.expect.split("_"))
    found = getattr(gxe, name, None)
    if found is None:
        import difflib

        known = {n.lower(): n for n in dir(gxe) if n.startswith("Expect")}
        if name.lower() in known:
            found = getattr(gxe, known[name.lower()])
        else:
            near = difflib.get_close_matches(name.lower(), known, n=1)
            hint = f"; did you mean {_snake(known[near[0]])}?" if near else ""
            raise BadConfiguration(
                f"validation.expectations: {expectation.expect} is not known to Great Expectations{hint}"
            )
    return found  # type: ignore[no-any-return]


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _build(expectation: Expectation) -> Any:
    try:
        return _class(expectation)(**expectation.arguments)
    except (ValueError, TypeError) as error:
        raise BadConfiguration(f"validation.expectations: {expectation.expect}: {error}") from None


def _reason(expectation: Expectation) -> str:
    if expectation.reason:
        return expectation.reason
    arguments = expectation.arguments
    where = arguments.get("column") or "+".join(
        str(arguments[k]) for k in ("column_A", "column_B", "column_list") if k in arguments
    )
    rest = ", ".join(f"{k}={v}" for k, v in arguments.items() if not k.startswith("column") and k != "mostly")
    return f"{where}: {expectation.expect.removeprefix('expect_')}{f' ({rest})' if rest else ''}"


def _refuse_exception(result: Any, reason: str) -> None:
    info = result.exception_info or {}
    entries = info.values() if info and "raised_exception" not in info else [info]
    for entry in entries:
        if isinstance(entry, dict) and entry.get("raised_exception"):
            raise BadConfiguration(f"validation.expectations: {reason} cannot be checked: {entry['exception_message']}")


def _total(tally: _Tally) -> Any:
    """The first batch's result with the counts of all batches."""
    result = tally.result
    filled = tally.elements - tally.missing
    share = tally.unexpected / filled if filled else 0.0
    result.result.update(
        element_count=tally.elements, missing_count=tally.missing, unexpected_count=tally.unexpected,
        missing_percent=100 * tally.missing / tally.elements if tally.elements else 0.0,
        unexpected_percent=100 * share, unexpected_percent_nonmissing=100 * share,
        unexpected_percent_total=100 * tally.unexpected / tally.elements if tally.elements else 0.0,
        partial_unexpected_list=tally.examples,
    )  # fmt: skip
    for name in ("unexpected_list", "unexpected_index_list", "unexpected_index_query",
                 "partial_unexpected_counts", "partial_unexpected_index_list"):  # fmt: skip
        result.result.pop(name, None)
    result.success = share <= 1 - (1.0 if tally.mostly is None else tally.mostly)
    return result
