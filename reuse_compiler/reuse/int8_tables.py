"""Limits of int8 tables, as docs/operators.md defines them; the C++ twin is custom_ops/cpu."""

LARGEST_INT8_ENTRY = 126
"""The largest magnitude of an entry, but for rounding (by Cauchy and Schwarz)."""
MOST_INT8_ROWS = 32767 // 127
"""How many table rows can share scales: an int16 can sum entries of so many."""
SMALLEST_INT8_BOUND = 2.0**-100
"""A bound (in static tables: a largest product) below this counts as zero, and its entries are zero."""
LARGEST_INT8_BOUND = 2.0**126
"""With a bound above this, products could overflow: tables are float32."""

STATIC_TAPS_AT_ONCE = 3
"""Neighbouring taps of a kernel row whose entries of static tables are added as bytes."""
LARGEST_STATIC_SUM = 125
"""What the largest products of these taps add up to at most, in units of the scale: rounding adds 1.5."""
MOST_STATIC_BLOCK_SUMS = 32767 // 127
"""How many such sums of one block an output may have: an int16 can sum so many."""
MOST_STATIC_ENTRIES = 2**17
"""How many entries of static tables an output may be the sum of: a float32 has all integers up to that sum."""
LARGEST_STATIC_PRODUCT = 2.0**120
"""With a sum of products above this, the scale of a static table would be no normal number."""
