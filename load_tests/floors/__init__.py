"""Floors: our own work without the framework, and what needs our own formats to be measured. Room: load_tests.

The only part of `load_tests` that may import `events`, `feature_store` and `models`. Each module runs as a process of
its own, started by `load_tests.benchmarks` beside (or instead of) the process that it is the floor of.
"""
