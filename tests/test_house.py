"""The house keeps its own rules: what is in the wheel, who owns which name, how long things are."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import zipfile
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent
PACKAGES = ("edge_agent", "verifier", "shared")
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 70
MAX_FOLDER_FILES = 20
# Imports stay cheap: a wing's face is its modules. The policies are chosen by name in one place.
WINGS_WITH_A_FACE = {"verifier/policies"}
NAMES_OF_NO_NOUN = {
    *("base", "common", "data", "handler", "helper", "helpers", "impl", "info", "manager"),
    *("misc", "process", "util", "utils"),
}
TWO_SPACES = re.compile(r"""[.!?][)"'`]*  +\S""")
NO_ACTOR = re.compile(
    r"\b(?:(?:any|every|no|some)body|(?:any|every|some)one|no\s+one|whoever|he|him|his|she|her)\b",
    re.IGNORECASE,
)
BANNER = re.compile(r"#\s*[-=─*~#]{3}|.*[-=─*~#]{3}\s*$")


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The paths inside the wheel that this checkout builds."""
    directory = tmp_path_factory.mktemp("wheel")
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(directory), versions=["standard"])
    return zipfile.ZipFile(wheel).namelist()


# `verifier.…` is left out: it is a section of settings, and a variable in many a test.
NAMED_MODULE = re.compile(
    r"(?<![\w./-])(?:(?:shared|edge_agent)\.[a-z_]\w*|tests\.\w+\.\w+)(?:\.\w+)*"
)
NAMED_PATH = re.compile(r"(?<![\w./-])(?:tests|edge_agent|verifier|shared)(?:/[\w*]+)+(?:\.\w+)?")
LOGGERS = {"edge_agent.http"}


def written_files() -> list[Path]:
    """Sources, tests but this one, and pages; the changelog tells what once was."""
    code = [file for folder in (*PACKAGES, "tests") for file in (ROOT / folder).rglob("*.py")]
    pages = [
        ROOT / "README.md",
        ROOT / "Makefile",
        # Not of the packages that `make clients` installs there.
        *(file for file in (ROOT / "tests").rglob("*.md") if "node_modules" not in file.parts),
        *(ROOT / "docs").rglob("*.md"),
    ]
    return sorted({*code, *pages} - {Path(__file__)})


def leads_somewhere(name: str) -> bool:
    """Whether the dotted name starts with a module, and goes on with a word of it at most."""
    place, words = ROOT, name.split(".")
    while words and (place / words[0]).is_dir():
        place /= words.pop(0)
    if not words:
        return True
    module = place / f"{words[0]}.py"
    if module.exists():
        words.pop(0)
    else:
        module = place / "__init__.py"
    return not words or (module.exists() and words[0] in re.findall(r"\w+", module.read_text()))


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def wings() -> set[Path]:
    return {path.parent for path in sources()} - {ROOT / package for package in PACKAGES}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_the_wheel_has_three_top_level_names(wheel_names: list[str]) -> None:
    top_level = {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name}
    assert set(PACKAGES) == top_level


def test_the_wheel_has_every_source_file(wheel_names: list[str]) -> None:
    assert set() == {str(path.relative_to(ROOT)) for path in sources()} - set(wheel_names)


def test_the_wheel_carries_no_model(wheel_names: list[str]) -> None:
    assert [] == [name for name in wheel_names if name.endswith((".gguf", ".safetensors"))]


def test_the_wheel_has_the_settings_of_every_board(wheel_names: list[str]) -> None:
    names = {path.name for path in (ROOT / "devices" / "profiles").iterdir()}
    assert names
    assert {f"shared/config/profiles/{name}" for name in names} <= set(wheel_names)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_dependency_brings_a_second_package_of_this_name(package: str) -> None:
    assert set(packages_distributions().get(package, ())) <= {"goodspeed"}


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    too_long = {str(path): length for path, length in lengths.items() if length > MAX_FILE_LINES}
    assert {} == too_long


def test_no_function_is_too_long() -> None:
    too_long = [
        f"{path}:{function.lineno} {function.name}"
        for path in sources()
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert [] == too_long


def test_every_module_is_named_for_a_noun() -> None:
    assert [] == [
        str(path) for path in sources() if NAMES_OF_NO_NOUN & {path.stem, path.parent.name}
    ]


def test_every_module_says_what_it_is_for() -> None:
    modules = [path for path in sources() if path.name != "__init__.py"]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in modules}
    assert [] == [str(path) for path, tree in trees.items() if not ast.get_docstring(tree)]


def test_no_folder_is_too_full() -> None:
    pages = [file for page in ROOT.glob("*/web/page") for file in page.rglob("*.*")]
    sizes = Counter(str(path.parent.relative_to(ROOT)) for path in (*sources(), *pages))
    assert {} == {folder: size for folder, size in sizes.items() if size > MAX_FOLDER_FILES}


def test_every_wing_is_a_package_that_imports_nothing() -> None:
    faces = [wing / "__init__.py" for wing in wings()]
    assert [] == [str(face) for face in faces if not face.exists()]
    said = {str(face.parent.relative_to(ROOT)) for face in faces if face.read_text().strip()}
    assert WINGS_WITH_A_FACE == said


def test_tests_stand_where_the_source_stands() -> None:
    places = [
        path.relative_to(ROOT / "tests").parent
        for package in PACKAGES
        for path in (ROOT / "tests" / package).rglob("test_*.py")
    ]
    assert places
    assert [] == [str(place) for place in places if not (ROOT / place).is_dir()]


def test_every_module_and_path_that_is_named_exists() -> None:
    texts = {file: file.read_text(encoding="utf-8") for file in written_files()}
    modules = {name: file for file, text in texts.items() for name in NAMED_MODULE.findall(text)}
    paths = {path: file for file, text in texts.items() for path in NAMED_PATH.findall(text)}
    named = modules.keys() - LOGGERS
    assert [] == [(name, str(modules[name])) for name in named if not leads_somewhere(name)]
    assert [] == [(path, str(file)) for path, file in paths.items() if not list(ROOT.glob(path))]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shared.protocol", True),
        ("shared.errors.LinkLost", True),
        ("shared.protocol.text", True),
        ("shared.path", False),
        ("shared.errors.LinkFound", False),
        ("tests.support.programs.program", True),
        ("tests.support.programs.processes", False),
    ],
)
def test_a_name_leads_somewhere_or_not(name: str, expected: bool) -> None:
    assert expected is leads_somewhere(name)


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string that stands by itself: of a module, class, function, field."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


def comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def faults_of_voice(source: str) -> list[str]:
    """What docstrings and comments say in another voice than the house's, by line."""
    faults = []
    for line, text in docstrings(source):
        faults += [(line, "begins with Return")] if re.match(r"\s*Returns?\b", text) else []
    for line, text in comments(source):
        faults += [(line, "is a banner")] if BANNER.match(text) else []
    for line, text in (*docstrings(source), *comments(source)):
        faults += [(line, "two spaces after a sentence")] if TWO_SPACES.search(text) else []
        faults += [(line, f"{match[0]!r} names no actor") for match in NO_ACTOR.finditer(text)]
    return [f"{line}: {fault}" for line, fault in sorted(faults)]


def test_the_house_speaks_with_one_voice() -> None:
    faults = {
        str(path.relative_to(ROOT)): faults_of_voice(path.read_text(encoding="utf-8"))
        for path in sources()
    }
    assert {} == {path: faults_there for path, faults_there in faults.items() if faults_there}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""The seconds of a round."""', []),
        ('"""Returns the seconds."""', ["1: begins with Return"]),
        ('def f():\n    """Return them."""', ["2: begins with Return"]),
        ('class A:\n    """\n    Return them."""', ["2: begins with Return"]),
        ('"""Returned drafts are dropped."""', []),
        ('"""Cuts the text.\n\nReturns the rest of it.\n"""', []),
        ('"""One.  Two."""', ["1: two spaces after a sentence"]),
        ('x = 1\n"""One (of two).  Two."""', ["2: two spaces after a sentence"]),
        ("# It is so!  Really.", ["1: two spaces after a sentence"]),
        ('"""One.\n    Two, a  b."""', []),
        ('x = "Is it?  No: a text for somebody."', []),
        ("x = f(1.)  # nothing wrong", []),
        ('"""Nobody reads it."""', ["1: 'Nobody' names no actor"]),
        ('"""There is no\n    one."""', ["1: 'no\\n    one' names no actor"]),
        (
            "x = 1  # for whoever asks his board",
            ["1: 'his' names no actor", "1: 'whoever' names no actor"],
        ),
        ('"""This is the history of a stream, not its sherpa\'s."""', []),
        ("# --- private ---", ["1: is a banner"]),
        ("    # private ----------", ["1: is a banner"]),
        ("####", ["1: is a banner"]),
        ("#!/usr/bin/env python", []),
        ("# aiohttp takes long, and --help does not wait; a -- b", []),
        ('x = "# --- no comment ---"', []),
    ],
)
def test_a_fault_of_voice_is_heard(source: str, expected: list[str]) -> None:
    assert expected == faults_of_voice(source)
