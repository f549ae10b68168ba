"""What a view is made of: a query, and a line of documentation for each of its columns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Output:
    """A column of a view: its name, what it means, and the expression behind it, if that is not just its name."""

    name: str
    doc: str
    expression: str = ""
    personal: bool = False

    @property
    def sql(self) -> str:
        """The column as SELECT lists it."""
        return f"{self.expression} AS `{self.name}`" if self.expression else f"`{self.name}`"


@dataclass(frozen=True, slots=True)
class View:
    """A view: its name, what one row is, its columns, and the rest of its query behind the list of columns.

    `notes` says what a reader must know beyond the columns. Where `select` is given it is the whole query.
    """

    name: str
    row: str
    columns: tuple[Output, ...]
    source: str
    notes: str = ""

    @property
    def query(self) -> str:
        """The query of the view."""
        listed = ",\n    ".join(column.sql for column in self.columns)
        return f"SELECT\n    {listed}\n{self.source}"

    @property
    def create(self) -> str:
        """The statement that creates the view where it is not there yet."""
        return f"CREATE VIEW IF NOT EXISTS {self.name} AS\n{self.query}"
