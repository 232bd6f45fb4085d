"""An entry whose guardian has few descriptors."""

from __future__ import annotations

import os
import resource

from tests.launch.entries import main

__all__ = ["main"]

if os.environ.get("XSC_POOL", "").startswith("-"):
    resource.setrlimit(resource.RLIMIT_NOFILE, (14, 14))
