"""The compiler's passes, one file each, named after what it does; `reuse_compiler.pipeline` lists them in order.

CONTRIBUTING.md has the recipe for a new one.
"""
