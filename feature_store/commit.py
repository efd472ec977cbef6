"""The commit: one batch of one partition, all or nothing, by its rightful owner only. Room: feature_store.

The script compares the partition's head with the head at which the batch began, byte for byte. If equal it writes all
effects and the new head, otherwise nothing, and returns what it found. So a second owner, a zombie that was stopped in
the middle of a batch, or a retry after an unknown outcome changes nothing (ARCHITECTURE §2). All keys lie in one slot.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from events.errors import Fenced
from feature_store import keys
from feature_store.fold import Effects, encode_effects
from feature_store.head import Head, encode_head

#: Entries of `{pN}items:changes` that a reader can still catch up from; further behind, it loads the items anew.
KEEP_CHANGES: Final = 10_000

# KEYS: the head, n values, then one key an operation. ARGV: expected head, new head, n, n values, then for each
# operation its command, the count of its arguments, the arguments. Counting takes pairs of field and increment.
# The head is written last: an operation that fails (a key of a foreign type) leaves the position where it was.
SCRIPT: Final = b"""
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return found end
local n = tonumber(ARGV[3])
if n > 0 then
  local values = {}
  for i = 1, n do
    values[2 * i - 1] = KEYS[1 + i]
    values[2 * i] = ARGV[3 + i]
  end
  redis.call('MSET', unpack(values))
end
local k, a = n + 2, n + 4
while a <= #ARGV do
  local command, count, key = ARGV[a], tonumber(ARGV[a + 1]), KEYS[k]
  if command == 'HINCRBY' then
    for i = a + 2, a + count, 2 do redis.call('HINCRBY', key, ARGV[i], ARGV[i + 1]) end
  else
    redis.call(command, key, unpack(ARGV, a + 2, a + 1 + count))
  end
  k, a = k + 1, a + 2 + count
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class Commit(NamedTuple):
    """A commit, encoded and ready to be sent (and sent again)."""

    partition: int
    expected: bytes  # the stored head at which the batch began, b"" for none
    head: bytes
    arguments: list[Any]  # of EVALSHA, after the script's hash

    @property
    def head_key(self) -> str:
        return keys.position(self.partition)


def build(expected: bytes, head: Head, effects: Effects) -> Commit:
    """Encode a batch's effects.

    Raises
    ------
    Exception
        Whatever encoding raises (an integer beyond 64 bits): fold the batch again with `fold.fold_safely`.
    """
    partition = head.partition
    customers, items, dead = encode_effects(effects)
    new_head = encode_head(head)
    names: list[str] = [keys.position(partition), *customers]
    arguments: list[Any] = [expected, new_head, len(customers), *customers.values()]

    def operate(key: str, command: str, *args: Any) -> None:
        names.append(key)
        arguments.extend((command, len(args), *args))

    for bucket, fields in effects.counts.items():
        operate(keys.popularity(partition, bucket), "HINCRBY", *[part for pair in fields.items() for part in pair])
    for bucket in effects.dropped:
        operate(keys.popularity(partition, bucket), "DEL")
    if items:
        operate(keys.items(partition), "HSET", *[part for pair in items.items() for part in pair])
    for position, item_ids in effects.changes:
        fields_of = [part for item_id in dict.fromkeys(item_ids) for part in (item_id, items[item_id])]
        entry_id = f"{(position + 1) >> 20}-{(position + 1) & 0xFFFFF}"
        operate(keys.changes(partition), "XADD", "MAXLEN", KEEP_CHANGES, entry_id, *fields_of)
    for entry_id, letter in dead:
        operate(keys.dead(partition), "XADD", entry_id, "d", letter)
    return Commit(partition, expected, new_head, [len(names), *names, *arguments])


def judge(commit: Commit, found: Any) -> None:
    """Accept a commit's reply, or raise.

    Raises
    ------
    Fenced
        The partition is at another head than expected and than this commit's own: somebody else owns it.
    """
    if found in (1, commit.head):
        return
    raise Fenced(
        f"partition {commit.partition} was committed by somebody else: this process drops its cached state and ends; "
        "run one flow for each partition"
    )
