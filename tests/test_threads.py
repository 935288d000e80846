"""Nothing in the package is set for the whole process while it runs: several threads may compile and measure."""

import ast
from pathlib import Path

import pytest

import reuse_compiler

PACKAGE = Path(reuse_compiler.__file__).parent
CHANGES = {"os.environ", "os.putenv", "os.unsetenv", "os.chdir", "os.umask", "sys.setrecursionlimit", "np.seterr"}


def offences(source: str) -> list[str]:
    """Returns the statements by which code changes something of the process."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Global():
                found.append(ast.unparse(node))
            case ast.Assign(targets=targets) | ast.Delete(targets=targets):
                found += [ast.unparse(node) for target in targets if ast.unparse(target).startswith("os.environ")]
            case ast.Call(func=ast.Attribute(value=owner) as function):
                name, changed = ast.unparse(function), ast.unparse(owner) == "os.environ" and function.attr != "get"
                found += [ast.unparse(node)] if changed or name in CHANGES else []
    return found


def test_offences_are_found() -> None:
    code = "global x\nos.environ['A'] = '1'\ndel os.environ['A']\nos.environ.update(A='1')\nos.chdir('/')\n"
    assert len(offences(code)) == 5
    assert offences("os.environ.get('A'); a = os.environ['A']; environ = 1") == []


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_the_package_changes_nothing_of_the_process(file: Path) -> None:
    assert offences(file.read_text(encoding="utf-8")) == []
