"""The half of the Python runtime that runs inside a sandbox: started by the server's driver with the guest channel as fd 3."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from spinney_guest.calls import Guest  # type: ignore[import-not-found]
from spinney_guest.channel import Channel  # type: ignore[import-not-found]

del sys.path[0]

Guest(Channel(3)).run()
