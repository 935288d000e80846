"""Networks for tests and benchmarks: the papers' topologies, packaged real networks, sample data."""
