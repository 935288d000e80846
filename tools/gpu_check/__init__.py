"""Proves and measures the CUDA operators on a machine with a GPU: `python -m tools.gpu_check` (make gpu-check).

Every part is a process of its own with a time limit, and its result is written as soon as it is there: one that hangs
or crashes costs the others nothing. Nothing is downloaded. docs/gpu.md says what the machine must have.
"""
