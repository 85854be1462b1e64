"""Sandboxes by an OCI runtime (runc, crun): see docs/decisions/0002-oci-sandbox.md."""

from spinney.drivers.oci.driver import OciDriver
from spinney.drivers.oci.examine import examine
from spinney.drivers.oci.settings import OciSettings

__all__ = ["OciDriver", "OciSettings", "examine"]
