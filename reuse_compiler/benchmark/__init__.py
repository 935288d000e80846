"""Measuring: one convolution, dense against reuse, on an input of known redundancy; and two models side by side.

Nothing here is needed to compile or to run a model; the command is `reuse-bench`.
"""
