"""What runs inside a Python sandbox. Standard library only; speaks docs/guest-channel.md."""
