"""Scripts for developers: demo, builds, compatibility checks, benchmarks. Nothing in the package imports them."""
