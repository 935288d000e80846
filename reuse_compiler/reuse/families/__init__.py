"""Hash families: how neuron vectors get the codes that group them into clusters. One file each.

To add one, follow the recipe in CONTRIBUTING.md: a file here, its entry in `FAMILIES`, and its C++ twin.
"""

from reuse_compiler.reuse.families.base import HashFamily, HashParameters
from reuse_compiler.reuse.families.exact import Exact
from reuse_compiler.reuse.families.learned import Learned
from reuse_compiler.reuse.families.sign import Sign

FAMILIES: dict[str, HashFamily] = {family.name: family for family in (Sign(), Learned(), Exact())}

__all__ = ["FAMILIES", "HashFamily", "HashParameters"]
