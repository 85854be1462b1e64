"""The half of the Lua runtime that runs inside a sandbox: started by the server's driver with the guest channel as fd 3.

Argument: the directory of the Python package ``lupa``, which brings LuaJIT.
"""

import os
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(sys.path[0]), "python"))
sys.path.append(os.path.dirname(sys.argv[1]))
from spinney_guest.channel import Channel  # type: ignore[import-not-found]
from spinney_lua.calls import Guest  # type: ignore[import-not-found]

STACK_BYTES = 256 << 20
"""Address space. Of Lua's own stack and memory there is not enough for programs to come to the end of so large a one of C's."""

threading.stack_size(STACK_BYTES)
threading.Thread(target=Guest(Channel(3)).run).start()
