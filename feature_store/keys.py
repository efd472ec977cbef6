"""The declared key layout. Room: feature_store; also the table that operators read.

Every key that a partition's flow writes carries that partition's hash tag, so one commit lies in one Cluster slot;
there are no logical databases.

============================  ======  =====================================================================
key                           type    value
============================  ======  =====================================================================
``{pN}position``              string  `Head`: log id, position, watermark and exact account of the partition
``{pN}c:<customer_id>``       string  `Customer` of a known customer
``{pN}a:<anonymous_id>``      string  `Customer` of a visitor who has not said who they are
``{pN}items``                 hash    item_id -> `ItemState`
``{pN}items:changes``         stream  item_id -> `ItemState` of each catalogue event, newest 10,000 events
``{pN}pop:<bucket>``          hash    ``<kind>:<item_id>`` -> count, per six-hour bucket of event time
``{pN}dead``                  stream  dead letters of the flow
``{pN}log``                   stream  the log itself, where it is Redis Streams (written by intake)
``{items}popular``            string  `Popular`: the materialised lists, one version for all partitions
============================  ======  =====================================================================
"""

from __future__ import annotations

from typing import Final

POPULAR: Final = "{items}popular"


def tag(partition: int) -> str:
    """Return the hash tag that all keys of a partition begin with."""
    return f"{{p{partition}}}"


def position(partition: int) -> str:
    return f"{{p{partition}}}position"


def customer(partition: int, customer_id: str) -> str:
    return f"{{p{partition}}}c:{customer_id}"


def anonymous(partition: int, anonymous_id: str) -> str:
    return f"{{p{partition}}}a:{anonymous_id}"


def items(partition: int) -> str:
    return f"{{p{partition}}}items"


def changes(partition: int) -> str:
    return f"{{p{partition}}}items:changes"


def popularity(partition: int, bucket: int) -> str:
    return f"{{p{partition}}}pop:{bucket}"


def dead(partition: int) -> str:
    return f"{{p{partition}}}dead"
