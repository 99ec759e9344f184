"""A LuaJIT of its own process, in which the tests call the library as a gateway does: no server around it.

Never in the test's own process: LMDB must not have the same files open twice in one.
"""

from __future__ import annotations

import base64
import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest

LIBRARY = Path(__file__).resolve().parents[3] / "gateways" / "lua"


class LuaError(Exception):
    """What the chunk raised."""


class LuaMachine:
    """`run(chunk)` gives what a chunk of Lua returns, as bytes. Its globals stay from one call to the next."""

    def __init__(self) -> None:
        if not os.environ.get("CI"):
            missing = [name for name in ("libluajit-5.1.so.2", "liblmdb.so.0") if not _is_there(name)]
            if missing:
                pytest.skip(f"{missing} are not installed (Debian: libnginx-mod-http-lua liblmdb0)")
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.run(f'package.path = "{LIBRARY}/?.lua;{LIBRARY}/?/init.lua;" .. package.path')

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, chunk: str) -> bytes:
        """Raises LuaError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(base64.b64encode(chunk.encode()).decode() + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"LuaJIT has ended: {self._process.wait(5)}"
        result = base64.b64decode(line[1:])
        if line[0] != "+":
            raise LuaError(result.decode("utf-8", "replace"))
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def quote(value: bytes | str) -> str:
    """A Lua literal for these bytes."""
    return '"' + "".join(f"\\{byte:03d}" for byte in (value.encode() if isinstance(value, str) else value)) + '"'


def _is_there(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _main() -> None:
    lua: Any = ctypes.CDLL("libluajit-5.1.so.2")
    lua.luaL_newstate.restype = lua.lua_tolstring.restype = ctypes.c_void_p
    state = ctypes.c_void_p(lua.luaL_newstate())
    lua.luaL_openlibs(state)
    length = ctypes.c_size_t()
    for line in sys.stdin:
        chunk = base64.b64decode(line)
        failed = lua.luaL_loadbuffer(state, chunk, ctypes.c_size_t(len(chunk)), b"=chunk") or lua.lua_pcall(
            state, 0, 1, 0
        )
        text = lua.lua_tolstring(state, -1, ctypes.byref(length))
        result = ctypes.string_at(text, length.value) if text else b""
        lua.lua_settop(state, 0)
        print(("-" if failed else "+") + base64.b64encode(result).decode(), flush=True)


if __name__ == "__main__":
    _main()
