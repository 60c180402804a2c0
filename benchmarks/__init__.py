"""Side-by-side timings of unimix and the bare engines: ``python -m benchmarks``."""
