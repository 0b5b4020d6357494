"""Names of files that cannot leave their folder, on any system.

    ../../etc/x   →   _/_/etc/x        a part that would go up
    /etc/x        →   etc/x            an absolute path
    CON.wav       →   _CON.wav         a device of Windows
    a\\x00b        →   a_b              what no file system takes
    300 letters   →   180 bytes~1f0c…  what few file systems take, still different from others;
                                       a suffix such as .wav stays

Letters of any script stay as they are. What only Windows refuses (`? : * < > | "` and a full stop
or a space at the end) is replaced there alone.
"""

from __future__ import annotations

import hashlib
import os
import re

LONGEST = 200  # bytes of a part; file systems take 255, and something is to be added to it
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)", re.I)
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}$")
WINDOWS = re.compile(r'[<>:"|?*]|[. ]+$')


def below(name: str, windows: bool = os.name == "nt") -> str:
    """A relative path that stays below the folder it is put in, and can be made there.

    Args:
        name: with / or \\ between folders; anything at all.
        windows: whether the name is for Windows.
    """
    parts = [_part(part, windows) for part in name.replace("\\", "/").split("/") if part]
    return "/".join(parts) or "_"


def _part(part: str, windows: bool) -> str:
    part = "".join("_" if ord(c) < 32 or 127 <= ord(c) < 160 else c for c in part)
    if windows:
        part = WINDOWS.sub(lambda match: "_" * len(match[0]), part)
    if not part.strip(". "):
        return "_" * len(part[:3])  # . and .. and what Windows takes for them
    if RESERVED.match(part):
        part = f"_{part}"
    encoded = part.encode("utf-8", "surrogatepass")
    if len(encoded) > LONGEST:
        match = SUFFIX.search(part)
        ending = match[0] if match else ""
        kept = encoded[: LONGEST - 20 - len(ending)].decode("utf-8", "ignore")
        part = f"{kept}~{hashlib.sha256(encoded).hexdigest()[:16]}{ending}"
    return part
