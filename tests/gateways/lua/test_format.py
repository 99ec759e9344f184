"""Lua reads the samples of the replica's format that Python reads (tests/edge/replica/test_format.py) as it does."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateways.gateway import ROOT
from gateways.lua.machine import LuaError, LuaMachine, quote

SAMPLES: dict[str, Any] = json.loads((ROOT / "tests/edge/replica/replica-format.json").read_text())
PEPPER = base64.b64encode(SAMPLES["pepper"].encode()).decode()
each_record = pytest.mark.parametrize(
    "sample", SAMPLES["records"], ids=lambda sample: f"{sample['database']}-{sample['name'][:8]}"
)
READ = """
ffi, records, json = require "ffi", require "keywright.replica.records", require "keywright.powers.json"
local function say(value)
  if value == nil then return "null" end
  if type(value) == "number" then return ("%.0f"):format(value) end
  if type(value) == "string" then return '"' .. value:gsub('[\\\\"]', "\\\\%0") .. '"' end
  local parts = {}
  for index, each in ipairs(value) do parts[index] = say(each) end
  return "[" .. table.concat(parts, ",") .. "]"
end
local function object(...)
  local parts, names = {}, { ... }
  for index = 1, #names, 2 do parts[#parts + 1] = say(names[index]) .. ":" .. names[index + 1] end
  return "{" .. table.concat(parts, ",") .. "}"
end
function read(database, name, kept)
  local bytes, named = ffi.new("unsigned char[?]", #kept + 1, kept), ffi.new("unsigned char[?]", #name + 1, name)
  local length = records.checked(named, #name, bytes, #kept)
  local text = ffi.string(bytes, length)
  if database == "buckets" then
    local bucket = records.decode_bucket(name, text)
    return object("number", say(bucket.number), "id", say(bucket.id), "refuseAfter", say(bucket.refuse_after))
  elseif database == "buckets3" then
    local scopes, features = records.decode_bucket3(text)
    return object("defaultScopes", say(scopes), "features", say(features))
  elseif database:sub(1, 9) == "consumers" then
    local decode = database == "consumers3" and records.decode_consumer3 or records.decode_consumer
    local id, consumer, metadata, powers = decode(bytes, length)
    return object("bucket", say(records.u32(bytes, 0)), "id", say(id), "name", say(consumer), "metadata", say(metadata),
      "powers", say(powers))
  elseif database:sub(1, 4) == "keys" then
    local decode = database == "keys3" and records.decode_key3 or records.decode_key
    local id, expires_at, powers = decode(bytes, length)
    return object("consumer", say(records.u64(bytes, 0)), "id", say(id), "expiresAt", say(expires_at),
      "powers", say(powers))
  end
  local powers = records.decode_plan(text)
  return object("powers", say(powers))
end
"""


@pytest.fixture(scope="module")
def lua() -> Iterator[LuaMachine]:
    with LuaMachine() as machine:
        machine.run(READ)
        yield machine


@each_record
def test_a_stored_record_is_read_as_the_samples_say(lua: LuaMachine, sample: dict[str, Any]) -> None:
    name, kept = bytes.fromhex(sample["name"]), bytes.fromhex(sample["value"])
    found = lua.run(f"return read({quote(sample['database'])}, {quote(name)}, {quote(kept)})")
    assert json.loads(found) == sample["decoded"]


@each_record
def test_a_stored_record_with_any_bit_turned_is_not_read(lua: LuaMachine, sample: dict[str, Any]) -> None:
    name, kept = bytes.fromhex(sample["name"]), bytes.fromhex(sample["value"])
    for at in range(len(kept)):
        broken = bytearray(kept)
        broken[at] ^= 1 << at % 8
        with pytest.raises(LuaError, match="not as it was written"):
            lua.run(f"return read({quote(sample['database'])}, {quote(name)}, {quote(bytes(broken))})")
    for length in range(4):
        with pytest.raises(LuaError, match="not as it was written"):
            lua.run(f"return read({quote(sample['database'])}, {quote(name)}, {quote(kept[:length])})")


def test_a_secret_has_the_digest_of_the_samples(lua: LuaMachine) -> None:
    lua.run(f'digester = require("keywright.digest").new("{PEPPER}")')
    assert lua.run(f"return ffi.string(digester:digest({quote(SAMPLES['secret'])}), 32)").hex() == SAMPLES["digest"]
    assert lua.run("return digester:pepper_check()").decode() == SAMPLES["pepperCheck"]


@pytest.mark.parametrize("pepper", ["", "no base64!", base64.b64encode(b"x" * 31).decode(), PEPPER[:-1]])
def test_what_is_no_pepper_is_refused(lua: LuaMachine, pepper: str) -> None:
    with pytest.raises(LuaError, match="no pepper"):
        lua.run(f"require('keywright.digest').new({quote(pepper)})")


def test_a_page_of_state_is_read_as_the_samples_say(lua: LuaMachine, tmp_path: Path) -> None:
    said = SAMPLES["state"]
    (tmp_path / "state").write_bytes(bytes.fromhex(said["page"]))
    boot = bytes.fromhex(said["boot"].replace("-", ""))

    def ask(boot: bytes) -> str:
        return lua.run(
            f"local s = require('keywright.replica.state').new({quote(str(tmp_path))}); s.boot = {quote(boot)}; "
            "s:read(12400); if not s.is_known then return 'unknown' end "
            "return table.concat({s.in_step_at, s:time(0), s.until_, tostring(s:is_over(12400)), "
            "tostring(s:is_over(99501)), tostring(s:is_over(73000))}, ' ')"
        ).decode()

    assert ask(boot) == "12345 1800000000000 99500 false true true"
    assert ask(b"another start of") == "unknown"
    # An edge that knows no page has kept the replica since.
    (tmp_path / "lease.json").write_text("{}")
    assert ask(boot) == "unknown"


@pytest.mark.parametrize("at", range(192))
def test_a_page_of_state_with_any_bit_turned_says_less(lua: LuaMachine, tmp_path: Path, at: int) -> None:
    said = SAMPLES["state"]
    page = bytearray.fromhex(said["page"])
    page[at] ^= 1 << at % 8
    (tmp_path / "state").write_bytes(page)
    boot = bytes.fromhex(said["boot"].replace("-", ""))
    found = lua.run(
        f"local s = require('keywright.replica.state').new({quote(str(tmp_path))}); s.boot = {quote(boot)}; "
        "s:read(12400); return tostring(s.is_known) .. ' ' .. tostring(s.in_step_at)"
    ).decode()
    assert found == ("true nil" if at < 64 else "false nil")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,]", '{"a":1,}', "01", "1.", "nul", '"\n"', '"\\x"', "[1] x", "[" * 40 + "]" * 40, "'a'", "NaN"],
)
def test_what_is_no_json_raises(lua: LuaMachine, text: str) -> None:
    with pytest.raises(LuaError, match="not JSON"):
        lua.run(f"json.decode({quote(text)})")


@pytest.mark.parametrize("text", ["é😀", '"\\/\b\f\n\r\t', "\x7f\u0000", "\U0010ffff"])
def test_a_text_in_json_is_read_as_it_was_written(lua: LuaMachine, text: str) -> None:
    for escaped in (True, False):
        assert lua.run(f"return json.decode({quote(json.dumps(text, ensure_ascii=escaped))})").decode() == text
