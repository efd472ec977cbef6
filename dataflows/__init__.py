"""Room: dataflows."""
