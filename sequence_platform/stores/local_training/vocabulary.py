"""The texts of a column, numbered as they come; a number never changes its text."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sequence_platform.engine.columns import Ints
from sequence_platform.stores.local_training.arrow_table import read_table, write_table


def is_text(dtype: pl.DataType) -> bool:
    """Return whether a column is held as codes."""
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


class Vocabulary:
    """Texts by code; code 0 is null, code ``n`` the n-th text.

    Args:
        texts: Those there are, by code.
    """

    def __init__(self, texts: pl.Series | None = None) -> None:
        held = pl.Series("text", [], pl.String) if texts is None else texts.alias("text")
        self._numbered = held.to_frame().with_columns(
            code=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32)
        )

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Read what ``write`` wrote."""
        return cls(read_table(path)["text"])

    def write(self, path: Path) -> None:
        """Write the texts to a file."""
        write_table(path, self._numbered.select("text"))

    def forget_all_but(self, codes: Ints) -> None:
        """Drop the texts of other codes, which stay taken: what nobody says is not kept."""
        is_used = pl.col("code").is_in(pl.Series(codes, dtype=pl.UInt32).implode())
        self._numbered = self._numbered.with_columns(text=pl.when(is_used).then("text"))

    @property
    def texts(self) -> pl.Series:
        """The texts, by code less 1; null for one that is not used."""
        return self._numbered["text"]

    def codes(self, values: pl.Series) -> Ints:
        """Return the code of each value; texts that are new get the next ones, in their order."""
        texts = values.cast(pl.String).alias("text")
        distinct = texts.drop_nulls().unique().to_frame()
        new = distinct.join(self._numbered, on="text", how="anti").sort("text")
        if not new.is_empty():
            first = self._numbered.height + 1
            numbered = new.with_columns(code=pl.int_range(first, first + pl.len(), dtype=pl.UInt32))
            self._numbered = pl.concat([self._numbered, numbered])
        found = texts.to_frame().join(self._numbered, on="text", how="left", maintain_order="left")
        codes: Ints = found["code"].fill_null(0).to_numpy()
        return codes
