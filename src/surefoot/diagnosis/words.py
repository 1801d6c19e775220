"""Numbers and names in a sentence."""

__all__ = ["listed", "short"]


def short(number: float) -> str:
    """A number as people write it, to two digits."""
    return (
        f"{number:.0f}"
        if 100 <= abs(number) < 1e5
        else f"{number:.2g}".replace("e-0", "e-").replace("e+0", "e")
    )


def listed(names: list[str]) -> str:
    """The first few names."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
