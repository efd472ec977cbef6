"""Room `events`: the event schema, validation, the log and its two backends, dead letters.

Everybody agrees through this room, so it changes least and imports nothing of ours.
"""
