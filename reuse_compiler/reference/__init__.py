"""The operators of docs/operators.md in NumPy (or CuPy), written for clarity: the oracle of every kernel test."""

from reuse_compiler.reference.op_run import REFERENCE_OPS

__all__ = ["REFERENCE_OPS"]
