"""The compiler inside other projects' tools, which are imported here and nowhere else."""
