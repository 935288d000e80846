"""Text from files on a terminal."""

import pytest

from reuse_compiler.reports.printable import printable


@pytest.mark.parametrize("text", ["", "conv1/3x3 [1]", "Überlagerung 畳み込み 😀"])
def test_what_can_be_shown_is_left_alone(text: str) -> None:
    assert printable(text) == text


def test_all_else_is_escaped() -> None:
    assert printable("a\x1b[31m\n\r\t\x07\x7f\x9b\u202e\u2028\ufeff\udcff") == (
        r"a\x1b[31m\n\r\t\x07\x7f\x9b\u202e\u2028\ufeff\udcff"
    )
