"""The tests, which run beside each other: one thread of NumPy's and PyTorch's linear algebra each.

Two processes whose threads wait for one another on two processors take four times as long to calibrate a small network.
Set before anything imports NumPy; who sets them keeps what they set.
"""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")
