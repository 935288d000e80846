"""The picture of the house in CONTRIBUTING.md is true: files import rooms of the floors below theirs, no others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tools.cpp_build import ROOT

PACKAGE = "reuse_compiler"
OUTSIDE = {"models", "tests", "tools"}
"""Packages of this repository that the installed one must not know."""
UPSTAIRS = {
    ("__init__.py", "compiled"),
    ("__init__.py", "environment"),
    ("calibration/calibrate.py", "reports"),
    ("calibration/tuning.py", "training"),
    ("reuse/families/trees.py", "runtime"),
}
"""What may import a room of a floor above: the picture's own exceptions."""
WALLED = re.compile(r"^ *\|(.+)\|", re.MULTILINE)
ROOM = re.compile(r"\b(\w+)(?:/|\.py)")


def floors() -> list[set[str]]:
    """Returns the rooms of the picture, floor by floor, the lowest first."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = text.partition("## The house")[2].partition("\n## ")[0]
    return [set(ROOM.findall(rooms)) for rooms in reversed(WALLED.findall(picture)) if ROOM.search(rooms)]


def imports(path: Path) -> set[str]:
    """Returns the modules that a file imports, also those that functions import, with the names taken from them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}: imports name the whole module"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    """Returns the room that a file of the package stands in."""
    return path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")


def files() -> list[Path]:
    return sorted((ROOT / PACKAGE).rglob("*.py"))


def test_the_picture_has_every_room_once() -> None:
    drawn = [name for floor in floors() for name in floor]
    assert sorted(drawn) == sorted({room(path) for path in files()})


def test_files_import_from_lower_floors_only() -> None:
    level = {name: number for number, floor in enumerate(floors()) for name in floor}
    upwards = set()
    for path in files():
        own = room(path)
        for module in imports(path):
            package, _, rest = module.partition(".")
            if package != PACKAGE:
                continue
            other = rest.partition(".")[0]
            other = other if other in level else "__init__"
            if other != own and level[other] >= level[own]:
                upwards.add((str(path.relative_to(ROOT / PACKAGE)), other))
    assert upwards == UPSTAIRS


def test_the_package_knows_nothing_of_tools_models_and_tests() -> None:
    assert not [path for path in files() if {module.partition(".")[0] for module in imports(path)} & OUTSIDE]
