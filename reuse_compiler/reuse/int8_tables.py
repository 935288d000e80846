"""Limits of int8 tables, as docs/operators.md defines them; the C++ twin is custom_ops/cpu."""

LARGEST_INT8_ENTRY = 126
"""No entry is larger but for rounding, by Cauchy and Schwarz."""
MOST_INT8_ROWS = 32767 // 127
"""Table rows whose entries an int16 can sum: so many share scales."""
SMALLEST_INT8_BOUND = 2.0**-100
"""Bounds below count as zero."""
