"""Playing data files into a stack: the parts of `kairos replay`. Room: cli.

`columns` says which column means what, `files` reads rows in time order, `rows` turns a row into an event as a caller
would send it, `items` reads the catalogue file, `sending` takes events to the API or the log, `account` counts.
"""
