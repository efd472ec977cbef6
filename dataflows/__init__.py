"""Room `dataflows`: the bytewax flows. Thin over pure functions: what they fold and commit is `feature_store`'s."""
