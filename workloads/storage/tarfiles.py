"""The standard ``tarfile`` with extraction filters, which Python 3.11.0 to 3.11.3 lacks."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or sys.version_info >= (3, 12):
    import tarfile
else:
    from backports import tarfile

__all__ = ["tarfile"]
