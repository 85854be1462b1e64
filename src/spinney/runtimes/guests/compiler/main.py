"""The half of Rust's and Go's compilers that runs inside a sandbox: started by the driver with the guest channel as fd 3.

Arguments: the language, and the directory of what set-up has made for it (``spinney.runtimes.kits``).
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(sys.path[0]), "python"))
from spinney_compiler.golang import Go  # type: ignore[import-not-found]
from spinney_compiler.rust import Rust  # type: ignore[import-not-found]
from spinney_compiler.serve import serve  # type: ignore[import-not-found]
from spinney_guest.channel import Channel  # type: ignore[import-not-found]

language, kit = sys.argv[1:]
serve(Channel(3), {"rust": Rust, "go": Go}[language](kit))
