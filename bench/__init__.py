"""Benchmarks: ``make bench`` prints the tables of bench/README.md, ``pytest bench`` measures with pytest-benchmark."""
