"""What must be looked at and changed at once, in Lua: small, and all keys are given.

Redis may run any of them twice when an answer is lost; the second run changes nothing.
"""

from __future__ import annotations

_UNTIL = """
local function raise_until(key, place, us)
  local known = redis.call('HGET', key, place)
  if not known or tonumber(known) < tonumber(us) then
    redis.call('HSET', key, place, us)
  end
end
local function note_until(next_key, until_key, state)
  if redis.call('HLEN', until_key) < redis.call('HLEN', next_key) then return end
  local least = nil
  for _, us in ipairs(redis.call('HVALS', until_key)) do
    if not least or tonumber(us) < tonumber(least) then least = us end
  end
  if least then redis.call('HSET', state, 'until', least) end
end
"""

APPEND = (
    _UNTIL
    + """
local next_key, offsets, until_key, flushes, state, tails, layouts = unpack(KEYS, 1, 7)
local flush, moves = ARGV[1], tonumber(ARGV[2])
local at = 3
for _ = 1, moves do
  local place, start = ARGV[at], ARGV[at + 1]
  if redis.call('HGET', flushes, place) == flush then return {} end
  local found = redis.call('HGET', next_key, place) or ''
  if found ~= start then return {place, found} end
  at = at + 5
end
local bytes, first, last = ARGV[at], at + 2, at + 1 + 2 * tonumber(ARGV[at + 1])
for i = first, last, 2 do
  if (redis.call('HGET', layouts, ARGV[i]) or ARGV[i + 1]) ~= ARGV[i + 1] then
    return {'', ARGV[i]}
  end
end
for i = first, last, 2 do redis.call('HSET', layouts, ARGV[i], ARGV[i + 1]) end
at = 3
for _ = 1, moves do
  local place, us = ARGV[at], ARGV[at + 4]
  redis.call('HSET', next_key, place, ARGV[at + 2])
  redis.call('HSET', offsets, place, ARGV[at + 3])
  redis.call('HSET', flushes, place, flush)
  if us ~= '' then raise_until(until_key, place, us) end
  at = at + 5
end
local rows = 0
at = last + 1
for key = 8, #KEYS do
  last = at + 1 + 2 * tonumber(ARGV[at + 1])
  rows = rows + redis.call('ZADD', KEYS[key], unpack(ARGV, at + 2, last))
  redis.call('SADD', tails, ARGV[at])
  at = last + 1
end
if rows > 0 then
  redis.call('HINCRBY', state, 'rows', rows)
  redis.call('HINCRBY', state, 'bytes', bytes)
end
note_until(next_key, until_key, state)
return {}
"""
)
"""KEYS: next, offsets, until, flushes, state, tails, layouts, then tails of entities.

ARGV: the flush and how many moves; of each place, start, next, JSON and until; bytes of all rows;
how many layouts, of each number and text; of each tail the entity, how many rows, and their scores
and members. Returns nothing, or place and offset of a fence, or '' and the number of a layout that
another has.
"""

HEARD = (
    _UNTIL
    + """
local next_key, until_key, state = unpack(KEYS)
for at = 2, #ARGV, 2 do
  if redis.call('HGET', next_key, ARGV[at]) == ARGV[at + 1] then
    raise_until(until_key, ARGV[at], ARGV[1])
  end
end
note_until(next_key, until_key, state)
"""
)
"""KEYS: next, until, state. ARGV: the time; of each move place and next."""

SWITCH = """
local state, manifests, activated = unpack(KEYS)
local expected, number, text, us, source = unpack(ARGV)
if (redis.call('HGET', state, 'live') or '0') ~= expected then return 0 end
if source ~= '' and redis.call('HEXISTS', manifests, source) == 0 then return 0 end
redis.call('HSET', manifests, number, text)
redis.call('ZADD', activated, us, number)
redis.call('HSET', state, 'live', number, 'activated', us)
return 1
"""
"""KEYS: state, manifests, activated. ARGV: the number that is live, the new one, its JSON and time.

Last comes the number of one that must still be kept, or nothing. Returns whether it switched.
"""

DROP = """
local state, tails = KEYS[1], KEYS[2]
local at, rows, bytes = 1, 0, 0
for key = 3, #KEYS do
  for i = at + 2, at + 1 + tonumber(ARGV[at + 1]) do
    if redis.call('ZREM', KEYS[key], ARGV[i]) == 1 then
      rows, bytes = rows + 1, bytes + #ARGV[i]
    end
  end
  if redis.call('EXISTS', KEYS[key]) == 0 then redis.call('SREM', tails, ARGV[at]) end
  at = at + 2 + tonumber(ARGV[at + 1])
end
redis.call('HINCRBY', state, 'rows', -rows)
redis.call('HINCRBY', state, 'bytes', -bytes)
return rows
"""
"""KEYS: state, tails, then tails of entities. ARGV: of each the entity, how many, the members."""
