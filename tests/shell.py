"""Runs the shell commands of documents as a reader would, with a stand-in where the machine has no curl."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import tests.curl

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SHORT_ID = re.compile(r"\b[0-9a-v]{20}\b|(?<=ver_)[0-9a-v]{20}(?=_v)")
UNIX_TIMES = ("created_at", "updated_at")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def run(script: str, directory: Path, *, stand_in: bool | None = None) -> str:
    """What a POSIX shell prints for this script. ``stand_in`` chooses the curl; None takes the machine's when there is one."""
    environment = dict(os.environ)
    if stand_in or (stand_in is None and shutil.which("curl") is None):
        command = directory / "curl"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(tests.curl.__file__)} "$@"\n')
        command.chmod(0o755)
        environment["PATH"] = f"{directory}:{environment['PATH']}"
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, env=environment, timeout=150, cwd=directory)
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    return done.stdout


def without_chance(value: Any) -> Any:
    """A JSON value with what differs from run to run, ids, times and durations, made equal."""
    if isinstance(value, dict):
        return {key: 0 if _is_chance(key, item) else without_chance(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_chance(item) for item in value]
    if isinstance(value, str):
        return TIME.sub("<time>", SHORT_ID.sub("<id>", UUID.sub("<id>", value)))
    return value


def _is_chance(key: str, value: Any) -> bool:
    return key in ("duration_ms", "durationMs") or (key in UNIX_TIMES and isinstance(value, int))
