"""`python -m cli`: how the supervisor starts its parts, whatever the PATH. Room: cli."""

from cli.main import main

main()
