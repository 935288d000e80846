"""Colours by role. Figures are drawn with stand-ins, which become variables of the style sheet (calibration.css).

So one drawing serves light and dark pages. What a role looks like is the style sheet's business alone.
"""

from __future__ import annotations

SERIES = tuple(f"series-{index}" for index in range(1, 8))
"""Layers, told apart."""
LENGTHS = tuple(f"length-{index}" for index in range(1, 7))
"""Sub-vector lengths, in order."""
ROLES = ("ink", "muted", "grid", "surface", "reuse", "good", "bad", "rest", *SERIES, *LENGTHS)


def stand_in(role: str) -> str:
    """Returns the colour to draw a role with: one that nothing else is drawn in."""
    return f"#fe01{ROLES.index(role):02x}"


def with_variables(svg: str) -> str:
    """Returns the drawing with the page's variables in place of the stand-ins."""
    for role in ROLES:
        svg = svg.replace(stand_in(role), f"var(--{role})")
    return svg


def variable(role: str) -> str:
    """Returns the style sheet's value of a role."""
    return f"var(--{role})"


def length_roles(lengths: list[int]) -> dict[int, str]:
    """Returns the role of each sub-vector length: short to long along the whole range of colours."""
    ordered = sorted(set(lengths))
    last = max(len(ordered) - 1, 1)
    return {length: LENGTHS[round(i * (len(LENGTHS) - 1) / last)] for i, length in enumerate(ordered)}
