"""Tables in Markdown."""

from collections.abc import Sequence


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a column whose name starts with '>' is for numbers."""
    head = [column.removeprefix(">") for column in columns]
    rule = ["---:" if column.startswith(">") else "---" for column in columns]
    return "".join(f"| {' | '.join(_escape(cell) for cell in row)} |\n" for row in (head, rule, *rows))


def _escape(cell: str) -> str:
    return cell.replace("|", r"\|")
