from __future__ import annotations

import subprocess
from collections.abc import Mapping

import pytest

from shared.web.with_imports import script_with_imports, style_with_imports
from tests.support.programs.node import NODE

MODULES = {
    "a/page/main.js": (
        'import { double, Counter } from "./room/double.js";\n'
        'import { one } from "../../common/one.js";\n'
        "const name = await Promise.resolve('main');\n"
        "console.log(name, double(one), new Counter().next(), typeof hidden);\n"
    ),
    "a/page/room/double.js": (
        'import { one } from "../../../common/one.js";\n'
        "const hidden = 2;\n"
        "const name = 'double'; // each module has names of its own\n"
        "export function double(number) {\n  return number * hidden * one;\n}\n"
        "export class Counter {\n  next() {\n    return name;\n  }\n}\n"
    ),
    "common/one.js": "console.log('once');\nexport const one = 1;\n",
}


def bundled(modules: Mapping[str, str]) -> str:
    return script_with_imports("a/page/main.js", modules.__getitem__)


@pytest.mark.skipif(NODE is None, reason="there is no node on this machine")
def test_one_script_does_what_its_modules_do() -> None:
    assert NODE is not None
    ran = subprocess.run(
        [NODE, "--input-type=module", "-"],
        input=bundled(MODULES),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "once\nmain 2 double undefined\n" == ran.stdout


def test_what_is_for_readers_alone_is_left_out() -> None:
    script = bundled(
        {"a/page/main.js": "// why\nrun(() => {\n  // how\n\n  return '// no';\n});\n"}
    )
    assert "{ // a/page/main.js\nrun(() => {\nreturn '// no';\n});\n}\n" == script
    styles = {
        "a.css": '/* why\n */\n@import "./b.css";\np {\n  top: 0; /* how */\n}',
        "b.css": "i {}\n",
    }
    assert "i {}\np {\ntop: 0; }\n" == style_with_imports("a.css", styles.__getitem__)


def test_every_module_stands_there_once_behind_what_it_needs() -> None:
    script = bundled(MODULES)
    places = [script.index(f"// {path}\n") for path in reversed(MODULES)]
    assert sorted(places) == places
    assert 1 == script.count("const one = 1;")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('import one from "./one.js";', "no import that is understood"),
        ('import { one as two } from "./one.js";', "no import that is understood"),
        ('import { one } from "elsewhere";', "no import that is understood"),
        ("export default one;", "no export that is understood"),
        ("export let one = 1;", "no export that is understood"),
        ('import { one } from "./main.js";', "imports itself"),
    ],
)
def test_what_is_not_understood_is_an_error(line: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        bundled({"a/page/main.js": f"{line}\n", "a/page/one.js": ""})


def test_a_style_sheet_stands_behind_what_it_imports() -> None:
    sheets = {
        "a/page/page.css": '@import "../../common/colours.css";\n@import "./style.css";\nb {}\n',
        "a/page/style.css": "p {}\n",
        "common/colours.css": ":root {}\n",
    }
    assert ":root {}\np {}\nb {}\n" == style_with_imports("a/page/page.css", sheets.__getitem__)
