"""Enrichments looked up when a sequence is read, with rows, for tests of whatever reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import strategies as st

from sequence_platform.definition import Enrichment, Files, Vector
from sequence_platform.engine.columns import Column
from sequence_platform.plan.compile import Located, compile_plan
from sequence_platform.plan.plan import EnrichmentPlan
from sequence_platform_tests import oracle
from sequence_platform_tests.oracle import Row, Rows

T0 = datetime(2026, 3, 1, tzinfo=UTC)
KEYS: Mapping[str, list[object]] = {
    "numbers": [0, 1, -1, 7, 2**63 - 1, -(2**63)],
    "texts": ["", "a", "A", "é", "é", "1", "a" * 40],
}
VALUES: Mapping[str, pl.DataType] = {
    "price": pl.Float64(),
    "label": pl.String(),
    "is_new": pl.Boolean(),
    "vector": Vector(2),
    "tags": pl.List(pl.String()),
}


def enrichment_of(kind: str, *, is_versioned: bool) -> EnrichmentPlan:
    """Return an enrichment by numbers or texts."""
    key = pl.Int64() if kind == "numbers" else pl.String()
    since = {"since": pl.Datetime("us", "UTC")} if is_versioned else {}
    definition = Enrichment(
        name=f"{kind}_{'versioned' if is_versioned else 'plain'}",
        owner="team:tests",
        key="id",
        schema={"id": key, **since, **VALUES},
        source=Files("rows.parquet"),
        columns=list(VALUES),
        available_time="since" if is_versioned else None,
        resolve="read",
    )
    return compile_plan([Located("tests.py", definition)]).enrichments[definition.name]


ENRICHMENTS = {
    (kind, is_versioned): enrichment_of(kind, is_versioned=is_versioned)
    for kind in KEYS
    for is_versioned in (True, False)
}


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Rows of an enrichment, and what is looked up in them."""

    enrichment: EnrichmentPlan
    rows: Rows
    keys: list[object]
    at: datetime

    @property
    def frame(self) -> pl.DataFrame:
        """The rows as its table has them."""
        frame = pl.DataFrame(self.rows, schema=self.enrichment.schema, orient="row")
        return frame.sort(frame.columns[: 2 if self.enrichment.is_versioned else 1])

    @property
    def column(self) -> Column:
        """The keys."""
        return Column.of(pl.Series("key", self.keys, dtype=self.enrichment.schema["key"]))

    def expected(self) -> dict[str, list[object]]:
        """Return the columns, as the oracle says."""
        found = [oracle.look_up(self.rows, key, self.at) or {} for key in self.keys]
        return {name: [row.get(name) for row in found] for name in self.enrichment.columns}


def listed(columns: Mapping[str, Column]) -> dict[str, list[object]]:
    """Return columns as lists."""
    return {name: column.to_series(name).to_list() for name, column in columns.items()}


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """Draw few keys with many versions each, some at the very time that is asked for."""
    kind = draw(st.sampled_from(sorted(KEYS)))
    enrichment = ENRICHMENTS[kind, draw(st.booleans())]
    keys = st.sampled_from(KEYS[kind])
    times = st.integers(-3, 3).map(lambda hours: T0 + timedelta(hours=hours))
    by_identity: dict[object, Row] = {}
    for key, time in draw(st.lists(st.tuples(keys, times), max_size=12)):
        identity = (key, time) if enrichment.is_versioned else key
        since = {"available_time": time} if enrichment.is_versioned else {}
        by_identity[identity] = {"key": key, **since, **draw(st.fixed_dictionaries(DRAWN))}
    wanted = draw(st.lists(st.none() | keys, max_size=10))
    return Asked(enrichment, list(by_identity.values()), wanted, draw(times))


NUMBERS = st.floats(-1e6, 1e6, width=32)
DRAWN: dict[str, st.SearchStrategy[object]] = {
    "price": st.none() | NUMBERS,
    "label": st.none() | st.text(max_size=3),
    "is_new": st.none() | st.booleans(),
    "vector": st.none() | st.lists(NUMBERS, min_size=2, max_size=2),
    "tags": st.none() | st.lists(st.text(max_size=2), max_size=2),
}
