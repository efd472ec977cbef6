"""Room `feature_store`: what we know — feature definitions, pure transitions, keys, codec, the commit, readers.

The transitions (`customer`, `item`, `fold`) know no clock, network, randomness or settings. Only `store` and
`reader` talk to Redis.
"""
