"""Room: cli. The `kairos` command, its settings and the local supervisor; the only room that may import all others."""
