"""Giving freed memory back: a request that some systems know, and that does no harm elsewhere."""

import ctypes
from typing import Any

import numpy as np
import pytest

from reuse_compiler.memory import give_back_freed


def test_what_is_in_use_stays() -> None:
    arrays = [np.full(2**18, index) for index in range(64)]
    kept = arrays[1::2]
    del arrays
    give_back_freed()
    assert all((array == index).all() for index, array in zip(range(1, 64, 2), kept, strict=True))


@pytest.mark.parametrize("error", [OSError, TypeError])
def test_systems_without_it(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: Any) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    give_back_freed()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    give_back_freed()
