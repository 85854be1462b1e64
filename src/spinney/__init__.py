"""Spinney: functions and sandboxes on your own machines."""
