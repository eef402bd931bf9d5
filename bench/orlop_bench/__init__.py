"""The side-by-side benchmarks of orlop: see bench/README.md."""
