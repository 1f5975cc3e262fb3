"""What `hoodyd image add` refuses before it touches anything: exit 2, and the option named."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from daemon.cli_images import ICON_BYTES_MAX, TAGS_MAX, image

PNG = b"\x89PNG\r\n\x1a\n"


def add(home: Path, name: str, *options: str) -> tuple[int, str]:
    """As it is typed, with the config of a server that is not there."""
    (home / "small.tar").touch()
    argv = ["add", "--config", str(home / "hoodyd.toml"), "--os", "tiny", "--release", "1"]
    argv += ["--architecture", "amd64", "--from", str(home / "small.tar"), *options, "--", name]
    ran = CliRunner().invoke(image, argv)
    return ran.exit_code, ran.output


@pytest.mark.parametrize("name", ["", "Tiny", "-tiny", "/tiny", "ti ny", "tiny\n", "t" * 101])
def test_what_is_no_name(tmp_path: Path, name: str) -> None:
    code, said = add(tmp_path, name)
    assert (code, "no name of an image" in said) == (2, True)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--price", "1.999", "no price"),
        ("--price", "-1", "no price"),
        ("--price", "1e3", "no price"),
        ("--price", "1000000000", "no price"),
        ("--price", "nan", "no price"),
        ("--os", "two words", "must be letters"),
        ("--release", "", "must be letters"),
        ("--tag", "a\tb", "must be letters"),
        ("--variant", "v" * 65, "must be letters"),
        ("--serial", "\x1b[2J", "must be letters"),
        ("--description", "two\nlines", "one line"),
        ("--description", "d" * 2001, "one line"),
        ("--icon", "text.png", "is no PNG"),
        ("--icon", "large.png", "larger than 256 KiB"),
        ("--icon", "nowhere.png", "does not exist"),
        ("--from", "nowhere.tar", "does not exist"),
    ],
)
def test_what_an_option_cannot_be(tmp_path: Path, option: str, value: str, says: str) -> None:
    (tmp_path / "text.png").write_text("no PNG")
    (tmp_path / "large.png").write_bytes(PNG + bytes(ICON_BYTES_MAX))
    given = str(tmp_path / value) if value.endswith((".png", ".tar")) else value
    code, said = add(tmp_path, "tiny", option, given)
    assert code == 2
    assert says in said
    assert option in said


def test_tags_are_not_without_number(tmp_path: Path) -> None:
    tags = [word for number in range(TAGS_MAX + 1) for word in ("--tag", f"t{number}")]
    code, said = add(tmp_path, "tiny", *tags)
    assert (code, "at most 50" in said) == (2, True)


@pytest.mark.parametrize("option", ["--os", "--release", "--architecture", "--from"])
def test_what_must_be_given(tmp_path: Path, option: str) -> None:
    given = {"--os": "a", "--release": "b", "--architecture": "c", "--from": str(tmp_path)}
    del given[option]
    argv = ["add", "tiny", *(word for pair in given.items() for word in pair)]
    ran = CliRunner().invoke(image, argv)
    assert (ran.exit_code, option in ran.output) == (2, True)
