"""How many more files this process may open; connections and databases count as files."""

from __future__ import annotations

import os

NEEDED = 10
"""The number of files that a command over one job opens at the same time."""

RESERVED = 20
"""The number of files that a run over several jobs opens, besides its connections."""


def free_descriptors() -> int:
    """Return how many more files the process may open; 0 if it can't even open one to count."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return 1 << 20
    try:
        return max(limit - len(os.listdir("/dev/fd")), 0)  # noqa: PTH208
    except FileNotFoundError:  # no such directory here, as in some containers
        return limit
    except OSError:
        return 0
