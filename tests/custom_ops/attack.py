"""Runs changed nodes one after another, as a program of its own: no node may end or corrupt the process.

python -m tests.custom_ops.attack FIRST LAST
"""

from __future__ import annotations

import faulthandler
import resource
import sys
from pathlib import Path

import numpy as np

from tests.custom_ops.nodes import OPERATORS, change, valid_node
from tests.running import make_session

MEMORY = 4 * 2**30
"""Bytes beyond what is in use at the start, so that sizes that no machine has are refused on every one."""
LEAKED = ("::_M_", "vector::", "basic_string::", "bad_array_new_length", "bad_function_call", "map::at")
"""What the standard library says of its own errors: no sentence for a user."""


def attack(case: int) -> None:
    """Runs one node, changed up to three times; raises if what it is refused with is no sentence."""
    rng = np.random.default_rng([11, case])
    node = valid_node(rng, OPERATORS[case % len(OPERATORS)])
    changes = int(rng.integers(0, 4))
    for _ in range(changes):
        if node.attributes:
            change(rng, node)
    try:
        make_session(node.model()).run(None, node.feeds())
    except UnicodeDecodeError:
        raise
    except Exception as error:
        if not changes or not str(error) or any(word in str(error) for word in LEAKED):
            raise


def main() -> None:
    faulthandler.enable()
    in_use = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY,) * 2)
    for case in range(int(sys.argv[1]), int(sys.argv[2])):
        print(f"case {case}", flush=True)
        attack(case)


if __name__ == "__main__":
    main()
