"""What runs inside a WebAssembly sandbox. Standard library and libwasmtime only; speaks docs/guest-channel.md."""
