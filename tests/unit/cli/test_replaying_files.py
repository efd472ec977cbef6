"""Data files of many shapes become the same events: README names, the publishers' own files, --map."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.replaying.columns import Columns, parse_map
from cli.replaying.files import Source, merged
from cli.replaying.rows import Facts, Mapper, Row
from events.errors import SettingsError
from events.wire import decode


def events(path: Path, *pairs: str, facts: dict[str, Facts] | None = None) -> list[dict[str, Any]]:
    source = Source.open(path, parse_map(pairs))
    mapper = Mapper("d/f", source.columns, facts or {})
    return [mapper.event(row, timestamp=row.ts) for row in source.rows()]


def csv(tmp_path: Path, text: str, name: str = "f.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def parquet(tmp_path: Path, columns: dict[str, list[Any]], name: str = "f.parquet", **schema: pa.DataType) -> Path:
    path = tmp_path / name
    pq.write_table(pa.table({k: pa.array(v, type=schema.get(k)) for k, v in columns.items()}), path)
    return path


def test_a_view_of_an_unknown_visitor_belongs_to_its_session(tmp_path: Path) -> None:
    path = parquet(tmp_path, {"ts": [1590884413000], "session_id": [15354], "item_id": [14742], "event": ["view"]})
    assert events(path) == [
        {
            "event": "view_item",
            "event_id": "d/f:0",
            "timestamp": 1590884413000,
            "anonymous_id": "s:15354",
            "session_id": "15354",
            "items": [{"item_id": "14742"}],
        }
    ]


def test_a_known_customer_keeps_the_session(tmp_path: Path) -> None:
    columns = {"ts": [1519833606000], "session_id": [42], "user_id": [273220], "item_id": [7], "event": ["comment"]}
    [event] = events(parquet(tmp_path, columns))
    assert (event["customer_id"], event["session_id"], event["event"]) == ("273220", "42", "review_item")
    assert "anonymous_id" not in event


def test_short_names_become_ours_and_unknown_ones_custom_events(tmp_path: Path) -> None:
    said = ["view", "click", "cart", "purchase", "follow", "comment", "cancel", "impression", "search", "Wow!", None]
    n = len(said)
    columns = {"ts": list(range(10**12, 10**12 + n)), "user_id": ["u"] * n, "item_id": ["i"] * n, "event": said}
    assert [event["event"] for event in events(parquet(tmp_path, columns))] == [
        "view_item", "select_item", "add_to_cart", "purchase", "add_to_wishlist", "review_item", "cancel_order",
        "view_item_list", "search", "x_wow", "x_event",
    ]  # fmt: skip


def test_a_basket_row_is_a_purchase_of_its_order_worth_what_was_paid(tmp_path: Path) -> None:
    columns = {
        "ts": [1483271606000] * 3, "user_id": [900] * 3, "basket_id": [31198570044] * 3, "item_id": [1, 2, 3],
        "quantity": [2, 0, 3], "sales_value": [5.0, 0.0, 1.0],
    }  # fmt: skip
    first, nothing, uneven = events(parquet(tmp_path, columns))
    assert first == {
        "event": "purchase",
        "event_id": "d/f:0",
        "timestamp": 1483271606000,
        "customer_id": "900",
        "order_id": "31198570044",
        "items": [{"item_id": "1", "quantity": 2, "price": 2.5}],
        "value": 5.0,
        "currency": "USD",
    }
    assert nothing["items"] == [{"item_id": "2", "price": 0.0}]
    assert uneven["items"] == [{"item_id": "3", "quantity": 3}], "a third has no exact price"
    assert (uneven["value"], uneven["currency"]) == (1.0, "USD")
    assert decode(msgspec.json.encode(uneven), received_ms=1483271606000).event.value_micros == 1_000_000


def test_an_invoice_has_prices_in_pounds_and_guests_by_order(tmp_path: Path) -> None:
    columns = {
        "ts": [1291191960000] * 4, "invoice": ["536365", "C536379", "536380", "536381"],
        "user_id": pa.array([17850, 14527, None, None], pa.int32()), "item_id": ["85123A", "D", "X", "B"],
        "event": ["purchase", "cancel", "purchase", "purchase"], "quantity": [6, -1, -10, 1],
        "price": [2.55, 27.5, 0.0, -11062.06],
    }  # fmt: skip
    bought, cancelled, given_back, adjusted = events(parquet(tmp_path, columns))
    assert (bought["customer_id"], bought["value"], bought["currency"]) == ("17850", 15.3, "GBP")
    assert bought["items"] == [{"item_id": "85123A", "quantity": 6, "price": 2.55}]
    assert (cancelled["event"], cancelled["order_id"], cancelled["value"]) == ("cancel_order", "C536379", 27.5)
    assert (given_back["event"], given_back["anonymous_id"]) == ("refund", "s:536380")
    assert given_back["items"] == [{"item_id": "X", "quantity": 10, "price": 0.0}]
    assert adjusted["items"] == [{"item_id": "B"}], "a negative price is no price"
    assert "value" not in adjusted


def test_an_amount_without_an_item_is_an_order_of_that_value(tmp_path: Path) -> None:
    columns = {"ts": [852076800000], "user_id": [1], "event": ["purchase"], "quantity": [1], "amount": [11.77]}
    [event] = events(parquet(tmp_path, columns))
    assert (event["value"], event["currency"], "items" in event) == (11.77, "USD", False)


def test_item_facts_are_stamped_where_the_row_says_nothing(tmp_path: Path) -> None:
    columns = {"ts": [10**12] * 2, "user_id": ["u"] * 2, "item_id": ["i", "j"], "brand": ["own", None]}
    facts = {"i": Facts("a/b", "Acme", 3.0), "j": Facts("c")}
    first, second = events(parquet(tmp_path, columns), facts=facts)
    assert first["items"] == [{"item_id": "i", "price": 3.0, "category": "a/b", "brand": "own"}]
    assert first["currency"] == "XXX"
    assert second["items"] == [{"item_id": "j", "category": "c"}]


def test_retailrocket(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433222276276,287857,addtocart,5206,\n"
        "1433221332117,257597,view,355908,\n"
        "1433222276277,121688,transaction,15335,11117\n",
        "events.csv",
    )
    first, second, third = events(path)
    assert (first["event"], first["customer_id"], first["event_id"]) == ("view_item", "257597", "d/f:1")
    assert (second["event"], second["timestamp"]) == ("add_to_cart", 1433222276276)
    assert (third["event"], third["order_id"], third["items"]) == ("purchase", "11117", [{"item_id": "15335"}])


def test_yoochoose(tmp_path: Path) -> None:
    clicks = csv(
        tmp_path,
        "1,2014-04-07T10:51:09.277Z,214536502,0\n"
        "1,2014-04-07T10:54:09.868Z,214536500,S\n"
        "2,2014-04-07T13:56:37.614Z,214662742,3\n",
        "yoochoose-clicks.dat",
    )
    first, second, third = events(clicks)
    assert first == {
        "event": "view_item",
        "event_id": "d/f:0",
        "timestamp": 1396867869277,
        "anonymous_id": "s:1",
        "session_id": "1",
        "items": [{"item_id": "214536502"}],
    }
    assert "category" not in second["items"][0]
    assert third["items"] == [{"item_id": "214662742", "category": "3"}]
    buys = csv(tmp_path, "420374,2014-04-06T18:44:58.314Z,214537888,12462,2\n", "yoochoose-buys.dat")
    [bought] = events(buys)
    assert (bought["event"], bought["value"], bought["anonymous_id"]) == ("purchase", 24924.0, "s:420374")


def test_diginetica(tmp_path: Path) -> None:
    views = csv(
        tmp_path,
        "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n1;7;31331;1031018;2016-05-09\n",
        "train-item-views.csv",
    )
    first, second = events(views)
    assert first["timestamp"] == 1462752000000 + 526309
    assert (first["anonymous_id"], first["session_id"]) == ("s:1", "1")
    assert (second["customer_id"], second["event"]) == ("7", "view_item")
    buys = csv(
        tmp_path,
        "sessionId;userId;timeframe;eventdate;ordernumber;itemId\n150;18278;17100868;2016-05-06;16421;25911\n",
        "train-purchases.csv",
    )
    [bought] = events(buys)
    assert (bought["event"], bought["order_id"], bought["customer_id"]) == ("purchase", "16421", "18278")
    assert bought["timestamp"] == 1462492800000 + 17100868


def test_uci_online_retail(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,85123A,LANTERN,6,12/1/2010 8:26,2.55,17850,United Kingdom\n"
        "C536379,D,Discount,-1,12/1/2010 9:41,27.5,14527,United Kingdom\n"
        "536414,22139,,56,12/1/2010 11:52,0,,United Kingdom\n",
    )
    bought, cancelled, guest = events(path)
    assert (bought["timestamp"], bought["value"], bought["currency"]) == (1291191960000, 15.3, "GBP")
    assert (cancelled["event"], cancelled["items"]) == ("cancel_order", [{"item_id": "D", "price": 27.5}])
    assert guest["anonymous_id"] == "s:536414"


def test_other_names_are_mapped(tmp_path: Path) -> None:
    path = csv(tmp_path, "when;who;what\n2024-02-03T04:05:06+01:00;ann;tea\n")
    [event] = events(path, "when=ts", "who=user_id", "what=item_id")
    assert (event["timestamp"], event["customer_id"], event["items"]) == (1706929506000, "ann", [{"item_id": "tea"}])
    [cookie] = events(path, "when=ts", "who=anonymous_id", "what=item_id")
    assert cookie["anonymous_id"] == "ann"


def test_a_map_goes_before_a_preset(tmp_path: Path) -> None:
    path = csv(tmp_path, "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n")
    [event] = events(path, "visitorid=anonymous_id", "visitorid=customer_id")
    assert (event["customer_id"], "anonymous_id" in event) == ("257597", False)


@pytest.mark.parametrize("pair", ["ts", "x=nothing", "=ts="])
def test_a_map_that_means_nothing_is_refused(pair: str) -> None:
    with pytest.raises(SettingsError, match="write column=field with one of ts, event"):
        parse_map([pair])


def test_what_cannot_be_events_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no column that is taken for ts; it has a, user_id, item_id.*--map"):
        events(csv(tmp_path, "a,user_id,item_id\n1,2,3\n"))
    with pytest.raises(SettingsError, match=r"nor for item_id"):
        events(csv(tmp_path, "ts,b\n1,2\n"))
    with pytest.raises(SettingsError, match=r"has no column 'c', but ts, b"):
        events(csv(tmp_path, "ts,b\n1,2\n"), "c=user_id")
    with pytest.raises(SettingsError, match=r"column 'ts' holds no times"):
        events(csv(tmp_path, "ts,user_id,item_id\nsoon,2,3\n"))
    with pytest.raises(SettingsError, match=r"1 rows have no time"):
        events(csv(tmp_path, "ts,user_id,item_id\n1433221332117,2,3\nNA,2,3\n"))
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    with pytest.raises(SettingsError, match="cannot be read"):
        events(tmp_path / "broken.parquet")


def test_seconds_and_timestamps_are_times(tmp_path: Path) -> None:
    seconds = parquet(tmp_path, {"ts": [1590884413], "user_id": ["u"], "item_id": ["i"]})
    assert events(seconds)[0]["timestamp"] == 1590884413000
    stamps = parquet(
        tmp_path, {"ts": [1590884413123], "user_id": ["u"], "item_id": ["i"]}, ts=pa.timestamp("ms", "UTC")
    )
    assert events(stamps)[0]["timestamp"] == 1590884413123


def test_rows_in_disorder_are_put_in_order_and_keep_their_numbers(tmp_path: Path) -> None:
    columns = {"ts": [10**12 + t for t in (5, 1, 3, 1)], "user_id": list("abcd"), "item_id": list("wxyz")}
    path = parquet(tmp_path, columns)
    assert [(e["customer_id"], e["event_id"]) for e in events(path)] == [
        ("b", "d/f:1"), ("d", "d/f:3"), ("c", "d/f:2"), ("a", "d/f:0"),
    ]  # fmt: skip


def test_files_are_merged_by_time(tmp_path: Path) -> None:
    one = parquet(tmp_path, {"ts": [10**12, 10**12 + 5], "user_id": ["a", "b"], "item_id": ["i", "i"]}, "one.parquet")
    two = parquet(
        tmp_path, {"ts": [10**12 + 2, 10**12 + 9], "user_id": ["c", "d"], "item_id": ["i"] * 2}, "two.parquet"
    )
    sources = [Source.open(path, {}) for path in (one, two)]
    rows = list(merged(sources))
    assert [row.customer_id for _, row in rows] == ["a", "c", "b", "d"]
    assert [source.path.name for source, _ in rows] == ["one.parquet", "two.parquet"] * 2


def test_a_compressed_csv_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f.csv.gz"
    path.write_bytes(gzip.compress(b"ts,user_id,item_id\n1433221332117,2,3\n"))
    assert events(path)[0]["customer_id"] == "2"


@given(
    st.builds(
        Row,
        ts=st.integers(1_000_000_000_000, 1_700_000_000_000),
        number=st.integers(0, 10**9),
        event=st.sampled_from(["view", "purchase", "cart", "cancel", "follow", "odd name"]),
        customer_id=st.none() | st.sampled_from(["c1", "7"]),
        anonymous_id=st.none() | st.just("a1"),
        session_id=st.sampled_from(["s1", "s2"]),
        item_id=st.sampled_from(["i1", "i/2"]),
        order_id=st.none() | st.just("o1"),
        quantity=st.none() | st.integers(-80_000, 80_000),
        price=st.none() | st.floats(-100, 10_000, allow_nan=False),
        value=st.none() | st.floats(0, 10_000, allow_nan=False),
        category=st.none() | st.just("a/b"),
        brand=st.none() | st.just("b"),
        query=st.none() | st.just("tea"),
        position=st.none() | st.integers(0, 100),
        currency=st.none() | st.just("EUR"),
    )
)
def test_every_plausible_row_is_accepted_by_intake(row: Row) -> None:
    event = Mapper("d/f", Columns(preset="", of={}), {}).event(row, timestamp=row.ts)
    decoded = decode(msgspec.json.encode(event), received_ms=1_700_000_000_000, historical=True).event
    assert decoded.at_ms == row.ts
    who = row.customer_id or row.anonymous_id or f"s:{row.session_id}"
    assert (decoded.customer_id or decoded.anonymous_id) == who
    if row.value is not None:
        assert decoded.value_micros == round(row.value * 1_000_000)
