"""What a view is made of: a query, and type and meaning of each of its columns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Output:
    """A column of a view: name, type (without LowCardinality), meaning, and whether it may identify a person.

    `expression` is what is behind it, where that is more than the name.
    """

    name: str
    type: str
    doc: str
    expression: str = ""
    personal: bool = False

    @property
    def sql(self) -> str:
        """The column as SELECT lists it."""
        return f"{self.expression} AS `{self.name}`" if self.expression else f"`{self.name}`"


@dataclass(frozen=True, slots=True)
class View:
    """A view: its name, what one row is, its columns, and its query from FROM on.

    `notes` says what a reader must know beyond the columns.
    """

    name: str
    row: str
    columns: tuple[Output, ...]
    source: str
    notes: str = ""

    @property
    def create(self) -> str:
        """The statement that creates the view where it is not there yet."""
        listed = ",\n    ".join(column.sql for column in self.columns)
        return f"CREATE VIEW IF NOT EXISTS {self.name} AS\nSELECT\n    {listed}\n{self.source}"
