"""llama.cpp's binding, or one sentence that says why it is not there.

All of this wing takes it from here: a library that is missing on a board is never a traceback.
"""

from __future__ import annotations

import re

from shared.errors import ModelError

# Of Debian and those that come from it; slim systems without a compiler have none of them.
_PACKAGES = {"libgomp.so.1": "libgomp1", "libstdc++.so.6": "libstdc++6"}


def why_missing(error: Exception) -> str:
    """The sentence for an import that failed, with what mends it where that is known."""
    if isinstance(error, ModuleNotFoundError):
        return "llama.cpp is not installed: pip install 'goodspeed[agent]'"
    found = re.search(r"(lib[^\s:/']+): cannot open shared object file", str(error))
    if found is None:
        return f"llama.cpp does not load: {error}"
    package = _PACKAGES.get(found[1])
    way_out = "" if package is None else f": apt install {package}"
    return f"llama.cpp does not load, for {found[1]} is missing{way_out}"


try:
    import llama_cpp as llama_cpp
except (ImportError, RuntimeError, OSError) as error:  # it raises RuntimeError for its own library
    raise ModelError(why_missing(error)) from error
