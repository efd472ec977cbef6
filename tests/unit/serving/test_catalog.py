"""The items in memory: columns, stamping, search."""

from __future__ import annotations

from events.schema import Event, Line
from feature_store.item import ItemState
from serving.catalog import Catalog
from serving.search import SearchIndex, tokens


def a_catalog(*items: ItemState) -> Catalog:
    catalog = Catalog()
    catalog.update(items)
    return catalog


def a_view(*lines: Line, currency: str = "") -> Event:
    return Event(event="view_item", event_id="e", at_ms=1, received_ms=1, items=list(lines), currency=currency)


def test_out_of_stock_and_hidden_items_are_not_allowed() -> None:
    catalog = a_catalog(
        ItemState("sold", stock=0), ItemState("hidden", hidden=True), ItemState("there", stock=2), ItemState("unsaid")
    )
    allowed = {item: bool(catalog.allowed[catalog.row_of[item]]) for item in catalog.ids}
    assert allowed == {"sold": False, "hidden": False, "there": True, "unsaid": True}
    catalog.update([ItemState("sold", stock=1)])
    assert catalog.allowed[catalog.row_of["sold"]]
    assert catalog.told_count == 4


def test_rows_stay_true_while_the_table_grows() -> None:
    catalog = a_catalog(ItemState("first", price_micros=5, category="a/b"))
    rows = catalog.rows([f"i{n}" for n in range(5_000)])
    assert rows.tolist() == list(range(1, 5_001))
    assert catalog.allowed[rows].all()
    assert not catalog.told[rows].any()
    assert (catalog.price_micros[0], catalog.category_of("first")) == (5, "a/b")
    assert catalog.category_of("nobody") == ""


def test_what_the_sender_left_out_is_stamped() -> None:
    catalog = a_catalog(ItemState("i", category="home/pans", brand="B", price_micros=7, currency="EUR"))
    event = a_view(Line("i"), Line("i", price_micros=3, category="own", brand="X"), Line("unknown"))
    catalog.stamp(event)
    assert event.items == [Line("i", 1, 7, "home/pans", "B"), Line("i", 1, 3, "own", "X"), Line("unknown")]
    assert event.currency == "EUR"


def test_a_price_is_not_stamped_in_another_currency() -> None:
    catalog = a_catalog(ItemState("i", category="c", price_micros=7, currency="EUR"))
    event = a_view(Line("i"), currency="USD")
    catalog.stamp(event)
    assert event.items == [Line("i", 1, -1, "c")]
    assert event.currency == "USD"


def test_words_are_compared_without_case_and_accents() -> None:
    assert tokens("Crème BRÛLÉE-torch, creme") == ["creme", "brulee", "torch"]
    assert tokens("") == []


def test_search_puts_the_rarer_and_fuller_match_first() -> None:
    index = SearchIndex()
    for row, text in enumerate(["red pan", "blue pan", "red iron pan", "lamp"]):
        index.put(row, text)
    rows, scores = index.find("iron PAN")
    assert rows.tolist() == [2, 0, 1]
    assert scores[0] == 1.0
    assert index.find("sofa")[0].tolist() == []
    assert index.find("")[0].tolist() == []


def test_a_changed_title_is_found_by_its_new_words_only() -> None:
    index = SearchIndex()
    index.put(0, "red pan")
    index.put(0, "red pot")
    assert index.find("pan")[0].tolist() == []
    assert index.find("pot")[0].tolist() == [0]
