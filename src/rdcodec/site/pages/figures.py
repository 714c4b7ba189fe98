"""Figures as the pages write them."""

from typing import Any

NONE = "·"


def percent(value: float | None) -> str:
    """Of rate, with its sign; a dot for None."""
    return NONE if value is None else f"{value:+.1f} %".replace("-", "−")


def three(value: float | None) -> str:
    """Three digits, thousands apart; a dot for None."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def millions(value: float | None) -> str:
    """As "4.27 M"; a dot for None."""
    return NONE if value is None else f"{value / 1e6:.3g} M"


def plain(value: Any) -> str:
    """A value of a record as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
