"""The shopper simulator: a shop, its customers and what they do, from one seed. Room: load_tests.

Called by the demo and the load driver (`load_tests.traffic`), by the benchmarks and by tests. The model is one page,
docs/simulator.md. Absent: sockets (`traffic` has them) and anything of the engine: what is here is only what a shop
and its visitors know, in the wire format of the API.
"""

from load_tests.simulator.catalogue import Catalogue
from load_tests.simulator.customers import Customers, Stage
from load_tests.simulator.dice import Dice
from load_tests.simulator.history import history, write_history
from load_tests.simulator.shopping import Shown, Step, shop
from load_tests.simulator.stream import Delivery, deliveries
from load_tests.simulator.world import World

__all__ = [
    "Catalogue",
    "Customers",
    "Delivery",
    "Dice",
    "Shown",
    "Stage",
    "Step",
    "World",
    "deliveries",
    "history",
    "shop",
    "write_history",
]
