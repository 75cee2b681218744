from __future__ import annotations

from pathlib import Path

import pytest

from shared.config.layers import (
    ConfigFile,
    Origin,
    Problem,
    Setting,
    read_config_files,
    read_layers,
)
from shared.errors import ConfigError


def test_layers_come_lowest_first_each_setting_with_its_place() -> None:
    files = [ConfigFile("a.toml", "[draft]\nthreads = 1\n"), ConfigFile("b.toml", "x = 1", True)]
    environment = {"GOODSPEED__DRAFT__MAX_STREAMS": "2", "HOME": "/root"}
    overrides = {"draft.threads": 3, "log.level": "debug", "draft.model": None}
    command_line = Origin(3, 0, "command line")
    expected = [
        Setting(("draft", "threads"), 1, Origin(0, 2, "a.toml:2")),
        Setting(("x",), 1, Origin(1, 1, "b.toml:1"), is_world_readable=True),
        Setting(
            ("draft", "max_streams"),
            "2",
            Origin(2, 0, "environment GOODSPEED__DRAFT__MAX_STREAMS"),
            is_text=True,
        ),
        Setting(("draft", "threads"), 3, command_line),
        Setting(("log", "level"), "debug", command_line, is_text=True),
    ]
    assert expected == list(read_layers(files, environment, overrides))


@pytest.mark.parametrize("name", ["GOODSPEED__DRAFT", "GOODSPEED__", "GOODSPEED__A__B__C"])
def test_an_environment_name_needs_a_section_and_a_key(name: str) -> None:
    (problem,) = read_layers([], {name: "1"}, {})
    assert f"environment {name}: must be named GOODSPEED__SECTION__KEY" == str(problem)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = 1\nb 2\n", "bad.toml:2"),
        ("a = 1\n[draft", "bad.toml:2"),
        ("a = 1\na = 2", "bad.toml:2"),
    ],
)
def test_text_that_is_not_toml_is_one_problem_with_its_line(text: str, place: str) -> None:
    (problem,) = read_layers([ConfigFile("bad.toml", text)], {}, {})
    assert isinstance(problem, Problem)
    assert place == problem.origin.name
    assert problem.sentence.startswith("not valid TOML: ")


def test_drop_ins_follow_the_file_by_name(tmp_path: Path) -> None:
    main = tmp_path / "agent.toml"
    drop_ins = tmp_path / "agent.toml.d"
    drop_ins.mkdir()
    for path in (main, drop_ins / "70-b.toml", drop_ins / "60-a.toml", drop_ins / "60-a.toml.old"):
        path.write_text(f"# {path.name}")
        path.chmod(0o640)
    (drop_ins / "60-a.toml").chmod(0o644)
    expected = [("# agent.toml", False), ("# 60-a.toml", True), ("# 70-b.toml", False)]
    assert expected == [(file.text, file.is_world_readable) for file in read_config_files(main)]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    with pytest.raises(ConfigError) as caught:
        read_config_files(path)
    assert (f"{path}: cannot be read: No such file or directory",) == caught.value.problems


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(b"ab\xff")
    with pytest.raises(ConfigError) as caught:
        read_config_files(path)
    assert (f"{path}: not UTF-8 text at byte 2",) == caught.value.problems
