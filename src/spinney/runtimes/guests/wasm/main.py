"""The half of the WebAssembly runtime that runs inside a sandbox: started by the server's driver with the guest channel as fd 3.

Arguments: the path of libwasmtime, its version, and what to do: ``run`` functions, or ``compile`` modules.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(sys.path[0]), "python"))
from spinney_guest.channel import Channel  # type: ignore[import-not-found]
from spinney_wasm.calls import Compiler, Runner  # type: ignore[import-not-found]

library, version, task = sys.argv[1:]
serve = {"run": Runner, "compile": Compiler}[task]
serve(Channel(3), library, version).run()
