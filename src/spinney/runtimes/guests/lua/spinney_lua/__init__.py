"""What runs inside a Lua sandbox, besides the library in ``../library``; speaks docs/guest-channel.md."""
