"""Hash families: how neuron vectors get the codes that group them into clusters. One file each.

To add one, follow the recipe in CONTRIBUTING.md: a file here, its entries in `FamilyName` and `FAMILIES`, and its
C++ twin.
"""

from typing import Literal, get_args

from reuse_compiler.reuse.families.base import FitSample, HashFamily, HashParameters
from reuse_compiler.reuse.families.exact import Exact
from reuse_compiler.reuse.families.learned import Learned
from reuse_compiler.reuse.families.sign import Sign

FamilyName = Literal["sign", "learned", "exact"]
FAMILIES: dict[str, HashFamily] = {family.name: family for family in (Sign(), Learned(), Exact())}

assert get_args(FamilyName) == tuple(FAMILIES)

__all__ = ["FAMILIES", "FamilyName", "FitSample", "HashFamily", "HashParameters"]
