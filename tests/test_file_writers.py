"""What is written is there whole or as it was: one module replaces files, and who else writes."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs.command import run

ROOT = Path(__file__).parent.parent
PACKAGES = ("edge_agent", "shared", "verifier")
MODES_OF_READING = frozenset("rbt")
NAMES_OF_WRITING = frozenset(
    {"GGUFWriter", "copyfile", "copyfileobj", "rename", "save_file"}
    | {"touch", "write_bytes", "write_text"}
)
FUNCTIONS_OF_WRITING = frozenset(
    {("np", "save"), ("shutil", "copy"), ("shutil", "copytree"), ("shutil", "move")}
    | {("torch", "save")}
)
# By file: what else writes, and why a power cut leaves nothing half.
WRITERS = {
    "shared/daemon/files.py": "it is what replaces files",
    "edge_agent/chat/session.py": "the terminal",
    "edge_agent/link/draft_fetch.py": "a part that arrives; moved when its checksum is right",
    "edge_agent/models/assigned.py": "a lock",
    "edge_agent/models/cache.py": "a lock, and in the work directory a checksum, which is moved",
    "edge_agent/models/download.py": "what pip says, in the work directory",
    "edge_agent/models/from_hub.py": "a part that arrives; moved when its checksum is right",
    "edge_agent/models/pull.py": "in the work directory; moved when its checksum is right",
    "edge_agent/models/shipped.py": "in the work directory; moved when its checksum is right",
    "verifier/commands/simulation/calibrate.py": "in a directory that vanishes",
    "verifier/drafts/draft_store.py": "a lock, and a draft that arrives; moved when it is whole",
    "verifier/finetune/llama/gguf_draft.py": "a file beside it, which is moved",
    "verifier/finetune/training/checkpoint.py": "a file beside it, which is moved",
    "verifier/finetune/tuning_program.py": "a figure of the kernel's",
    "verifier/recording/recorder.py": "a new file of lines; its reader leaves out half a line",
    "verifier/workers/on_ray/keeper.py": "in a directory that vanishes",
}


def writes_of(path: Path) -> Iterator[int]:
    """Lines that open a file for more than reading, or put one somewhere by a library."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and _writes(node):
            yield node.lineno


def _writes(call: ast.Call) -> bool:
    function = call.func
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    of = function.value if isinstance(function, ast.Attribute) else None
    module = of.id if isinstance(of, ast.Name) else None
    if name == "open" and module == "os":
        return "O_CREAT" in ast.unparse(call)
    if name == "open":
        modes = [*call.args[:2], *(word.value for word in call.keywords if word.arg == "mode")]
        said = [mode.value for mode in modes if isinstance(mode, ast.Constant)]
        texts = [mode for mode in said if isinstance(mode, str) and len(mode) <= 3]
        return any(not MODES_OF_READING.issuperset(mode) for mode in texts)
    return name in NAMES_OF_WRITING or (module, name) in FUNCTIONS_OF_WRITING


def test_every_other_writer_is_known_and_leaves_nothing_half() -> None:
    found = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for line in writes_of(path):
                found[path.relative_to(ROOT).as_posix()].append(line)
    unknown = {file: lines for file, lines in found.items() if file not in WRITERS}
    assert {} == unknown, "write with `shared.daemon.files.replace_file`, or say why not"
    assert [] == [file for file in WRITERS if file not in found], "writes no more"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("open(path, 'w')", True),
        ("path.open('xb')", True),
        ("path.open(mode='a')", True),
        ("path.open('r+b')", True),
        ("path.open('rb')", False),
        ("open(path)", False),
        ("path.write_text('a')", True),
        ("os.open(path, os.O_RDONLY)", False),
        ("os.open(path, os.O_WRONLY | os.O_CREAT)", True),
        ("shutil.copy(one, other)", True),
        ("values.copy()", False),
        ("torch.save(state, path)", True),
        ("path.rename(other)", True),
        ("registry.save(draft)", False),
    ],
)
def test_what_writes_is_found(code: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(code)
    assert expected is bool([*writes_of(tmp_path / "code.py")])


_CUT_AT_EVERY_BYTE = """
import os, sys
from pathlib import Path
from shared.daemon.files import replace_file

path, old, new = Path(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode()


class Cut:
    # A process that ends within a write runs nothing more: what it had written stays there.
    def __init__(self, descriptor, num_bytes):
        self.fileno, self.num_bytes = lambda: descriptor, num_bytes

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os._exit(2)

    def write(self, content):
        os.write(self.fileno(), content[: self.num_bytes])
        os._exit(0)


for num_written in range(len(new) + 1):
    path.write_bytes(old)
    process_id = os.fork()
    if not process_id:
        os.fdopen = lambda descriptor, mode: Cut(descriptor, num_written)
        replace_file(path, new, mode=0o600)
    assert 0 == os.waitpid(process_id, 0)[1]
    assert num_written == path.with_name(f"{path.name}.new").stat().st_size
    assert old == path.read_bytes()
replace_file(path, new, mode=0o600)
"""


def test_whichever_byte_is_the_last_one_before_a_power_cut_the_old_file_is_whole(
    tmp_path: Path,
) -> None:
    path, old, new = tmp_path / "settings.toml", "[log]\n", "[log]\nlevel = 'DEBUG'\n"
    assert (0, "", "") == run(["-c", _CUT_AT_EVERY_BYTE, str(path), old, new])
    assert (new, [path]) == (path.read_text(), list(tmp_path.iterdir()))
