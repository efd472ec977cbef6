"""The three benchmarks: ingest, freshness, serving. Room: load_tests. Called by `kairos bench` (cli/bench.py).

Each starts what it measures, measures it and its floor in the same run, stops it, and returns one JSON-ready object; or
says why there is no figure (`Verdict`). docs/benchmarks.md tells how to read them.
"""
