"""Let the C library keep the memory that a step frees, instead of returning it to the system.

A step frees and allocates the same large blocks again and again. The system returns each of them page by page, and
zeroed, which costs more than much of the arithmetic.
"""

import ctypes
import os
import platform

# Of glibc's malloc.h; mallopt(3) says what they mean
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER_TRIM, NO_MAPS = -1, 0


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory; False under another C library, or if the user has configured malloc.

    The user's settings are environment variables such as MALLOC_TRIM_THRESHOLD_, or GLIBC_TUNABLES.
    """
    is_set = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if is_set or platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, NO_MAPS)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER_TRIM))
