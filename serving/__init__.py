"""Room `serving`: the FastAPI application — intake, recommendations, profiles, catalogue, probes.

It appends to the log and reads the store; it never writes state. `app.create_app` is the wiring diagram, `recommend`
the hot path, `collect` the intake.
"""
