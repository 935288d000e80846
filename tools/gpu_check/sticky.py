"""Errors after which a process can do nothing more on its GPU: every later call only repeats them."""

from __future__ import annotations

import re

_STICKY = re.compile(
    # Texts of cudaGetErrorString; drivers and libraries print them, or the names of the codes.
    "an illegal memory access was encountered|misaligned address|an illegal instruction was encountered"
    "|unspecified launch failure|device-side assert triggered|invalid program counter|hardware stack error"
    "|operation not supported on (global/shared|shared/global) address space|the launch timed out and was terminated"
    "|uncorrectable (ECC|NVLink) error|Invalid access of peer GPU memory"
    "|CUDA_?ERROR_?(ILLEGAL_?ADDRESS|ILLEGAL_?INSTRUCTION|MISALIGNED_?ADDRESS|LAUNCH_?FAILED|LAUNCH_?FAILURE"
    "|LAUNCH_?TIMEOUT|ASSERT|INVALID_?PC|INVALID_?ADDRESS_?SPACE|HARDWARE_?STACK_?ERROR|ECC_?UNCORRECTABLE"
    "|NVLINK_?UNCORRECTABLE|CONTAINED|UNKNOWN)"
    # onnxruntime's form: the number of the code.
    r"|CUDA (failure|error) (214|220|700|702|71[014-9]|999)\b",
    re.IGNORECASE,
)


def sticky_error(text: str) -> str | None:
    """Returns the part of a message that tells of such an error, or None."""
    found = _STICKY.search(text)
    return found[0] if found else None
