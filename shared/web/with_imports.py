"""One script of many modules, one style sheet of many: what a browser would import, in one file.

Pure but for `read`. The modules keep real imports, so that tools and tests run them as they lie.
Understood is how the pages are written: `import { a, b } from "…";` in one line, and `export`
before a declaration that is never assigned again. Whatever else stands there is an error, not a
guess. Comments in lines of their own and indents are for readers of the modules, a fifth of their
bytes, and left out; so no text may go on over a line's end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from posixpath import dirname, join, normpath

_IMPORT = re.compile(r'import \{ (\w+(?:, \w+)*) \} from "(\.{1,2}/[^"]+)";')
_EXPORT = re.compile(r"export ((?:async )?(?:function\*?|class|const) (\w+)\b.*)", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/\s*", re.DOTALL)
_STYLE_IMPORT = re.compile(r'@import "([^"]+)";')

Read = Callable[[str], str]  # a file by its path


def script_with_imports(entry: str, read: Read) -> str:
    """The module at a path, behind all that it imports, each in a scope of its own.

    Raises:
        ValueError: modules import each other in a circle, or one has a form that is not understood.
    """
    scopes: dict[str, str] = {}  # the name of each module that is written already
    parts: list[str] = []
    _add(entry, read, scopes, parts, ())
    return "\n".join(parts)


def style_with_imports(entry: str, read: Read) -> str:
    """The style sheet at a path, each import in its place."""

    def imported(match: re.Match[str]) -> str:
        return style_with_imports(_beside(entry, match[1]), read).rstrip("\n")

    plain = _COMMENT.sub("", read(entry))
    lines = "".join(f"{line.strip()}\n" for line in plain.splitlines())
    return _STYLE_IMPORT.sub(imported, lines)


def _add(
    path: str, read: Read, scopes: dict[str, str], parts: list[str], above: tuple[str, ...]
) -> None:
    if path in above:
        raise ValueError(f"{path} imports itself by {above[-1]}")
    lines, exported = [], []
    for line in read(path).splitlines():
        if not line.strip() or line.lstrip().startswith("//"):
            continue
        if line.startswith("import "):
            names, other = _import_of(line, path)
            if other not in scopes:
                _add(other, read, scopes, parts, (*above, path))
            lines.append(f"const {{ {names} }} = {scopes[other]};")
        elif line.startswith("export "):
            declaration, name = _export_of(line, path)
            lines.append(declaration)
            exported.append(name)
        else:
            lines.append(line.strip())
    body = "\n".join(lines)
    if not above:  # what it awaits, the script awaits
        parts.append(f"{{ // {path}\n{body}\n}}\n")
        return
    scopes[path] = f"$module{len(scopes)}"
    returned = f"return {{ {', '.join(exported)} }};"
    parts.append(f"const {scopes[path]} = (() => {{ // {path}\n{body}\n{returned}\n}})();")


def _import_of(line: str, path: str) -> tuple[str, str]:
    match = _IMPORT.fullmatch(line)
    if match is None:
        raise ValueError(f"{path}: {line} is no import that is understood")
    return match[1], _beside(path, match[2])


def _export_of(line: str, path: str) -> tuple[str, str]:
    match = _EXPORT.fullmatch(line)
    if match is None:
        raise ValueError(f"{path}: {line} is no export that is understood")
    return match[1], match[2]


def _beside(path: str, name: str) -> str:
    return normpath(join(dirname(path), name))
