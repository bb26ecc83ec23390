"""Trims the streams of camera jobs: what every group is done with goes, and nothing else."""

from collections.abc import Mapping
from typing import Any, Final

import redis
from pydantic import JsonValue

from headrace_common.contracts.cctv import REPORTS_SUFFIX, RESULTS_GROUP
from headrace_common.shifts import Shift

#: Entries that one call removes: a longer one would hold Redis up.
_BATCH: Final = 10_000
# The lowest of what each group was handed last and of its oldest entry in work. Nothing where a
# group is missing that has to be there: after a flush it begins with the oldest entry.
# Identifiers are compared as text of equal length: 64 bits do not fit into Lua's numbers.
_TRIM: Final = """
local function order(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #sequence) .. sequence
end
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return 0 end
local groups, needed = {}, nil
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  groups[group.name] = true
  local pending = redis.call('XPENDING', KEYS[1], group.name)
  local oldest = group['last-delivered-id']
  if pending[1] > 0 and order(pending[2]) < order(oldest) then oldest = pending[2] end
  if needed == nil or order(oldest) < order(needed) then needed = oldest end
end
for i = 2, #ARGV do
  if not groups[ARGV[i]] then return 0 end
end
local removed = redis.call('XTRIM', KEYS[1], 'MINID', '~', needed, 'LIMIT', ARGV[1])
if removed > 0 then return removed end
return redis.call('XTRIM', KEYS[1], 'MINID', needed)
"""


class Trimming:
    """Trims the streams of jobs and of reports. Any number of processes may."""

    def __init__(self, client: redis.Redis, *, stream: str, workers: str) -> None:
        """Trim `stream`, whose jobs the group `workers` does, and its reports."""
        self._trim = client.register_script(_TRIM)
        self._streams: Mapping[str, tuple[str, frozenset[str]]] = {
            "entries": (stream, frozenset({workers, RESULTS_GROUP})),
            "reports": (f"{stream}{REPORTS_SUFFIX}", frozenset({RESULTS_GROUP})),
        }

    def run(self, shift: Shift) -> dict[str, JsonValue]:
        """Trim both, and return how many entries were removed from each.

        Raises:
            redis.RedisError: Redis is away.
        """
        return {
            name: self._trimmed(stream, groups, shift)
            for name, (stream, groups) in self._streams.items()
        }

    def _trimmed(self, stream: str, groups: frozenset[str], shift: Shift) -> int:
        removed = 0
        while not shift.is_over():
            batch: Any = self._trim(keys=[stream], args=[_BATCH, *sorted(groups)])
            removed += int(batch)
            if batch == 0:
                break
        return removed
