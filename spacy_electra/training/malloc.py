"""Let the C library keep the memory that a step frees, for the next step; it would go back to the system each time.

A step frees and asks for the same large blocks again and again. The system hands each of them out page by page, and
zeroed, which costs more than much of the arithmetic.
"""

import ctypes
import os
import platform

# Of glibc's malloc.h; mallopt(3) says what they mean
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER_TRIM, NO_MAPS = -1, 0


def keep_freed_memory() -> bool:
    """Ask glibc to keep what the process frees; False under another C library, or where the user has set it himself.

    His settings are environment variables, MALLOC_TRIM_THRESHOLD_ and the like, or GLIBC_TUNABLES.
    """
    is_set = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if is_set or platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, NO_MAPS)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER_TRIM))
