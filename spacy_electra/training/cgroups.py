"""Read the memory limits of Linux's control groups: those of a container, a batch job or a service.

Source: the kernel's `admin-guide/cgroup-v2` and `admin-guide/cgroup-v1/memory`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")  # lines of number:controllers:path, without controllers in version 2
NO_LIMIT = 2**62  # more than any machine has


@dataclass(frozen=True)
class CgroupFiles:
    """File names of a cgroup version, and the name of inactive file cache in its statistics."""

    limit: str
    used: str
    cached: str


VERSION_1 = CgroupFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = CgroupFiles("memory.max", "memory.current", "inactive_file")


def memory_left(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int:
    """Bytes that this process may still allocate; a very large number if there is no limit.

    The limits of all parent groups count as well. Inactive file cache counts as used there, but can be reclaimed.
    """
    return min((_left(folder, names) for folder, names in _groups(root, membership)), default=NO_LIMIT)


def _groups(root: Path, membership: Path) -> Iterator[tuple[Path, CgroupFiles]]:
    """The groups of this process, from its own up to the first; in a container that may be the first alone."""
    try:
        lines = membership.read_text(encoding="utf8").splitlines()
    except OSError:  # no Linux, or no control groups
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        names = VERSION_1 if controllers else VERSION_2
        first = root / "memory" if controllers else root
        group = first / path.lstrip("/")
        yield group, names
        for above in group.parents if group != first else ():
            if above == root.parent or (controllers and above == root):
                break
            yield above, names


def _left(folder: Path, names: CgroupFiles) -> int:
    try:
        limit, used = (int((folder / name).read_text(encoding="utf8")) for name in (names.limit, names.used))
        lines = (folder / "memory.stat").read_text(encoding="utf8").splitlines()
        cached = dict(line.split() for line in lines)[names.cached]
    except (OSError, ValueError, KeyError):  # no such group, "max", or no memory controller
        return NO_LIMIT
    return max(0, limit - used + int(cached))
