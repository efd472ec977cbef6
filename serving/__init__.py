"""Room: serving."""
