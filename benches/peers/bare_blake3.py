"""Seconds that BLAKE3's own package takes to hash every file below a folder, on all cores.

usage: bare_blake3.py FOLDER
"""

import sys
import time
from pathlib import Path

from blake3 import blake3

files = [path for path in Path(sys.argv[1]).rglob("*") if path.is_file()]
begun = time.monotonic()
for path in files:
    blake3(max_threads=blake3.AUTO).update_mmap(path).digest()
print(time.monotonic() - begun)
