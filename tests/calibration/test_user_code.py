"""Finding the user's functions in modules and files."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reuse_compiler.calibration.metric_kinds import Python
from reuse_compiler.calibration.samples import open_samples
from reuse_compiler.calibration.user_code import describe_exception, load_function, split_name
from reuse_compiler.errors import ConfigError, DataError


def test_modules_and_files(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("FACTOR = 3")
    file = tmp_path / "own.py"
    file.write_text(
        "from dataclasses import dataclass\nimport neighbour\n\n@dataclass\nclass Own:\n    factor: 'int'\n\n"
        "def times(x):\n    return neighbour.FACTOR * x\n"
    )
    path = list(sys.path)
    assert load_function(f"{file}:times")(2) == load_function(str(file), "times")(2) == 6
    assert load_function("os.path:basename")("a/b") == "b"
    assert sys.path == path


def test_the_name_is_cut_at_the_last_colon() -> None:
    assert split_name("a.b:c") == ("a.b", "c")
    assert split_name("dir:1/reader.py:load") == ("dir:1/reader.py", "load")
    assert split_name("reader.py") == ("reader.py", None)


def test_files_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metric.py").write_text(f"def name():\n    return '{folder}'")
    assert [load_function(f"{tmp_path / folder}/metric.py:name")() for folder in ("a", "b")] == ["a", "b"]


def test_names_without_a_function() -> None:
    for name in ("module", "module:", ":function"):
        with pytest.raises(ConfigError, match="names no function: write module:function"):
            load_function(name)
    with pytest.raises(ConfigError, match="math has no function 'pi'"):
        load_function("math:pi")


def test_code_that_does_not_compile(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f(:\n")
    with pytest.raises(ConfigError, match=r"importing .*bad\.py raises SyntaxError"):
        load_function(f"{tmp_path / 'bad.py'}:f")


def test_an_import_that_fails_inside_a_module_is_told_from_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import no_such_module_at_all")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="importing needs_more raises ModuleNotFoundError: No module named 'no_such"):
        load_function("needs_more:f")


def test_exceptions_in_one_line() -> None:
    assert describe_exception(ValueError("a\n  b")) == "ValueError: a b"
    assert describe_exception(KeyError()) == "KeyError"


ENDS = """
import sys

def load():
    sys.exit(0)

def load_data():
    yield {}
    sys.exit()

def score(expected, actual, labels):
    sys.exit(0)
"""


def test_code_that_ends_the_program_is_an_error_like_another(tmp_path: Path) -> None:
    file, at_once = tmp_path / "ends.py", tmp_path / "at_once.py"
    file.write_text(ENDS)
    at_once.write_text("import sys\nsys.exit(0)")
    with pytest.raises(ConfigError, match=r"importing .*at_once\.py raises SystemExit: 0 \(at_once\.py, line 2\)"):
        load_function(f"{at_once}:f")
    with pytest.raises(DataError, match=r"ends\.py:load raises SystemExit: 0 \(ends\.py, line 5\)"):
        open_samples(f"{file}:load", [], {})
    with pytest.raises(DataError, match=r"the reader raises SystemExit \(ends\.py, line 9\)"):
        open_samples(str(file), [], {})
    metric = Python(f"{file}:score").start()
    with pytest.raises(ConfigError, match=r"the metric .* raises SystemExit: 0 \(ends\.py, line 12\)"):
        metric.add({}, {}, None)


def test_files_of_one_name_may_be_imported_in_several_threads(tmp_path: Path) -> None:
    """Each looks for its neighbour, and itself up in sys.modules, while the other one is being imported."""
    code = (
        "import time\nfrom dataclasses import dataclass\ntime.sleep(0.05)\nfrom neighbour_{0} import NAME\n\n"
        "@dataclass\nclass Own:\n    name: 'str' = NAME\n\ndef name():\n    import sys\n"
        "    return NAME, sys.modules[Own.__module__].NAME\n"
    )
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metric.py").write_text(code.format(folder))
        (tmp_path / folder / f"neighbour_{folder}.py").write_text(f"NAME = '{folder}'")
    with ThreadPoolExecutor(2) as pool:
        functions = list(pool.map(load_function, [f"{tmp_path / folder}/metric.py:name" for folder in ("a", "b")]))
    assert [function() for function in functions] == [("a", "a"), ("b", "b")]
