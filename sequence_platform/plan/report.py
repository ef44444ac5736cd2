"""Collects problems while compiling, so that all are reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from sequence_platform.errors import Problem, nearest
from sequence_platform.plan.expressions import output_type, row_level_fault


@dataclass(frozen=True, slots=True)
class Report:
    """Where problems of one definition go."""

    file: str
    definition: str
    problems: list[Problem]

    def add(self, field: str, found: str, expected: str, next_step: str = "") -> None:
        """Note a problem of a field."""
        self.problems.append(Problem(self.file, self.definition, field, found, expected, next_step))

    @property
    def is_clean(self) -> bool:
        """Whether this definition has no problem so far."""
        return not any(
            (p.file, p.definition) == (self.file, self.definition) for p in self.problems
        )

    def type_of(
        self, field: str, expr: pl.Expr, schema: Mapping[str, pl.DataType]
    ) -> pl.DataType | None:
        """Return the type of an expression, or note why it has none."""
        missing = [name for name in expr.meta.root_names() if name not in schema]
        if missing:
            self.add(
                field,
                f"column '{missing[0]}'",
                f"a column that is there; {nearest(missing[0], schema)}",
            )
            return None
        try:
            return output_type(expr, schema)
        except ValueError as error:
            self.add(field, str(error), "an expression that resolves over its columns")
            return None

    def row_type_of(
        self, field: str, expr: pl.Expr, schema: Mapping[str, pl.DataType]
    ) -> pl.DataType | None:
        """Return the type of a row-level expression, or note why it is none."""
        dtype = self.type_of(field, expr, schema)
        fault = row_level_fault(expr, schema) if dtype is not None else ""
        if fault:
            step = (
                "for the order or history of an entity use Sequence.derived; "
                "for your own code an executor"
            )
            self.add(field, fault, "one value per row, from that row alone", step)
            return None
        return dtype
