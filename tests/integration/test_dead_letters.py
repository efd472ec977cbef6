"""Dead letters in a real store: kept, listed, shown, replayed once; and the command line over them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import msgspec
import pytest

from cli.main import run
from events.dead_letters import INTAKE, DeadLetters, IntakeLetters
from events.errors import SettingsError, StoreError
from events.letters import DeadLetter, encode_dead_letter, stream_id
from events.log import START, EventLog, open_log
from events.schema import Event, Line, decode_event, encode_event
from tests.servers import Valkey

NOW = 1_795_312_345_000
GOOD = (
    b'{"event":"view_item","event_id":"e1","customer_id":"c1","timestamp":1795312340000,"sent_at":1795312344000,'
    b'"items":[{"item_id":"i1"}]}'
)


@pytest.fixture
def log(valkey: Valkey) -> Iterator[EventLog]:
    opened = open_log(valkey.url, partitions=2)
    yield opened
    opened.close()


@pytest.fixture
def letters(valkey: Valkey, log: EventLog) -> Iterator[DeadLetters]:
    opened = DeadLetters(valkey.url, log.partitions)
    yield opened
    opened.close()


def keep(url: str, *kept: DeadLetter) -> None:
    async def write() -> None:
        intake = await IntakeLetters.open(url)
        await intake.keep(kept)
        await intake.close()

    asyncio.run(write())


def keep_of_flow(
    server: Valkey, partition: int, position: int, original: bytes, code: str = "transition_raised"
) -> None:
    letter = DeadLetter(reason="KeyError: 'x'", code=code, source="flow", original=original, partition=partition)
    letter.traceback = "Traceback …\nKeyError: 'x'\n"
    with server.client() as client:
        client.xadd(f"{{p{partition}}}dead", {"d": encode_dead_letter(letter)}, id=stream_id(position))


def a_letter(original: bytes = b"{}", code: str = "no_identity") -> DeadLetter:
    return DeadLetter(
        reason="who was it?", code=code, pointer="/customer_id", source="intake", original=original, at_ms=NOW
    )


def in_log(log: EventLog) -> list[Event]:
    batches = log.read(dict.fromkeys(range(log.partitions), START), limit=1_000)
    return [decode_event(payload) for batch in batches for payload in batch.payloads]


def test_letters_are_listed_newest_first_and_by_source_and_code(valkey: Valkey, letters: DeadLetters) -> None:
    keep(valkey.url, a_letter(b"1"), a_letter(b"2", code="too_deep"), a_letter(b"3"))
    keep_of_flow(valkey, 1, 7, b"flow")
    assert letters.counts() == {"intake": 3, "p0": 0, "p1": 1}
    assert [kept.letter.original for kept in letters.newest()] == [b"3", b"2", b"1", b"flow"]
    assert [kept.letter.original for kept in letters.newest(limit=2)] == [b"3", b"2"]
    assert [kept.letter.original for kept in letters.newest(code="no_identity", limit=1)] == [b"3"]
    assert [kept.id for kept in letters.newest(source="flow")] == ["p1:0-8"]
    assert letters.newest(source="p0") == []
    with pytest.raises(SettingsError, match="use intake, flow or one of intake, p0, p1"):
        letters.newest(source="p7")


def test_more_letters_than_a_page_are_all_found(valkey: Valkey, letters: DeadLetters) -> None:
    keep(valkey.url, *[a_letter(b"%d" % n, code="rare" if n == 0 else "common") for n in range(1_203)])
    assert [kept.letter.original for kept in letters.newest(code="rare")] == [b"0"]
    assert len(set(letters.ids())) == 1_203


def test_a_letter_is_shown_by_its_id(valkey: Valkey, letters: DeadLetters) -> None:
    keep(valkey.url, a_letter(GOOD))
    [kept] = letters.newest()
    shown = letters.show(kept.id)
    assert (shown.original, shown.code, shown.pointer, shown.at_ms) == (GOOD, "no_identity", "/customer_id", NOW)
    with pytest.raises(SettingsError, match="no dead letter intake:1-1 is kept"):
        letters.show("intake:1-1")
    for wrong in ("e1", "intake:", "p9:1-1", "intake:1-x"):
        with pytest.raises(SettingsError, match="is no id of a dead letter"):
            letters.show(wrong)


def test_an_original_too_large_is_cut_and_says_so(valkey: Valkey, letters: DeadLetters, log: EventLog) -> None:
    keep(valkey.url, a_letter(b"x" * 40_000))
    [kept] = letters.newest()
    assert (len(kept.letter.original), kept.letter.truncated) == (32_768, True)
    [outcome] = letters.replay([kept.id], log)
    assert "send the event again from its source" in outcome.problem


def test_intakes_letter_goes_to_the_log_once_as_of_when_it_came(
    valkey: Valkey, letters: DeadLetters, log: EventLog
) -> None:
    keep(valkey.url, a_letter(GOOD))
    [letter_id] = letters.ids()
    [outcome] = letters.replay([letter_id], log)
    assert outcome == (letter_id, "e1", "")
    [event] = in_log(log)
    assert (event.event_id, event.customer_id, event.received_ms) == ("e1", "c1", NOW)
    assert event.at_ms == NOW - 4_000, "corrected by the clock of the time when it was refused"
    assert letters.counts()["intake"] == 0
    [again] = letters.replay([letter_id], log)
    assert "not kept any more" in again.problem
    assert len(in_log(log)) == 1


def test_what_is_still_wrong_stays(valkey: Valkey, letters: DeadLetters, log: EventLog) -> None:
    keep(valkey.url, a_letter(b'{"event":"view_item"}'), a_letter(b"\xff"), a_letter(b"[1]"), a_letter(GOOD))
    outcomes = list(letters.replay(letters.ids(), log))
    assert [bool(outcome.problem) for outcome in outcomes] == [True, True, True, False]
    assert "neither customer_id nor anonymous_id" in outcomes[0].problem
    assert letters.counts()["intake"] == 3
    assert len(in_log(log)) == 1


def test_an_event_without_an_id_is_given_the_letters(valkey: Valkey, letters: DeadLetters, log: EventLog) -> None:
    keep(valkey.url, a_letter(b'{"event":"page_view","anonymous_id":"a1"}'))
    [letter_id] = letters.ids()
    assert [outcome.problem for outcome in letters.replay([letter_id], log)] == [""]
    assert in_log(log)[0].event_id == letter_id


def test_a_flows_letter_returns_to_its_partition_as_it_was(valkey: Valkey, letters: DeadLetters, log: EventLog) -> None:
    event = Event(event="view_item", event_id="e9", at_ms=5, received_ms=6, customer_id="c", items=[Line("i")])
    keep_of_flow(valkey, 0, 41, encode_event(event))
    keep_of_flow(valkey, 1, 42, b"\xc1")
    outcomes = list(letters.replay(letters.ids("flow"), log))
    assert [outcome.problem[:37] for outcome in outcomes] == ["", "the log entry is still not readable: "]
    assert in_log(log) == [event]
    assert letters.counts() == {"intake": 0, "p0": 0, "p1": 1}


def test_replays_at_the_same_time_send_each_letter_once(valkey: Valkey, letters: DeadLetters, log: EventLog) -> None:
    keep(valkey.url, *[a_letter(GOOD.replace(b'"e1"', b'"e%d"' % n)) for n in range(60)])
    letter_ids = letters.ids()

    def replay() -> None:
        own_letters, own_log = DeadLetters(valkey.url, 2), open_log(valkey.url)
        list(own_letters.replay(letter_ids, own_log))
        own_letters.close()
        own_log.close()

    replays = [threading.Thread(target=replay) for _ in range(3)]
    for thread in replays:
        thread.start()
    for thread in replays:
        thread.join()
    assert sorted(event.event_id for event in in_log(log)) == sorted(f"e{n}" for n in range(60))
    assert letters.counts()["intake"] == 0


def test_a_claim_of_a_replay_that_died_is_taken_over_later(valkey: Valkey, letters: DeadLetters, log: EventLog) -> None:
    keep(valkey.url, a_letter(GOOD))
    [letter_id] = letters.ids()
    entry = letter_id.partition(":")[2]
    with valkey.client() as client:
        client.hset(f"{INTAKE}:claims", entry, "9999999999999")
        [outcome] = letters.replay([letter_id], log)
        assert "another replay is sending it" in outcome.problem
        client.hset(f"{INTAKE}:claims", entry, "1")
        [outcome] = letters.replay([letter_id], log)
        assert outcome.problem == ""
        assert client.exists(f"{INTAKE}:claims") == 0


def test_flow_letters_have_ids_that_grow_with_the_position() -> None:
    ids = [tuple(map(int, stream_id(p).split("-"))) for p in (START + 1, 1, (1 << 20) - 2, (1 << 20) - 1, 1 << 20)]
    assert ids == [(0, 1), (0, 2), (0, (1 << 20) - 1), (1, 0), (1, 1)]


def test_an_unreachable_store_is_named_without_its_password() -> None:
    letters = DeadLetters("redis://:secret@127.0.0.1:1", 2)
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1.*kairos up") as caught:
        letters.counts()
    assert "secret" not in str(caught.value)
    letters.close()
    with pytest.raises(SettingsError, match="no store address"):
        DeadLetters("kafka://x/y", 2)


def test_the_command_lists_shows_and_replays(
    valkey: Valkey, letters: DeadLetters, log: EventLog, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(valkey.url, a_letter(GOOD), a_letter(b"{}"))
    keep_of_flow(valkey, 0, 1, encode_event(Event(event="search", event_id="e5", at_ms=1, received_ms=1, query="tea")))

    def kairos(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            run(["dead-letters", *words, "--store", valkey.url])
        return int(caught.value.code or 0), capsys.readouterr().out

    status, out = kairos("list", "--json")
    listed = msgspec.json.decode(out)
    assert (status, listed["counts"]) == (0, {"intake": 2, "p0": 1, "p1": 0})
    assert [row["source"] for row in listed["letters"]] == ["intake", "intake", "flow"]
    status, out = kairos("list")
    assert status == 0
    assert "kept: intake 2, p0 1" in out
    status, out = kairos("show", "p0:0-2")
    assert status == 0
    assert '"query":"tea"' in out
    assert "Traceback" in out
    assert "correct the code that raised" in out
    status, out = kairos("replay", "all", "--source", "intake", "--json")
    result = msgspec.json.decode(out)
    assert (status, result["replayed"], result["kept"]) == (1, 1, 1)
    status, _ = kairos("replay", "p0:0-2")
    assert status == 1, "a search that names nobody cannot be placed"
    assert len(in_log(log)) == 1
