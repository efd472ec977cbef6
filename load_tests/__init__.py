"""Room: load_tests."""
