"""`hoody images` as processes, and `hoodyd user credit`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.model import new_id, now
from tests.contract.images.shelf import PNG, credit, give, put
from tests.integration.command_line import Ran, environment, run
from tests.integration.hoody_site import Site, site_at


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_at(tmp_path) as made:
        yield made


def aliases(table: Ran) -> list[str]:
    return [line.split()[1] for line in table.good().out.splitlines()[1:]]


async def fill(site: Site) -> None:
    """Three images, newest last; the second costs 5.99, the third is rated best."""
    at = now() - timedelta(days=3)
    world = site.world
    await put(world, alias="alpine/3.20", os="alpine", created_at=at, architecture="arm64")
    priced = {"price_cents": 599, "rating_sum": 3000, "rating_count": 1}
    await put(world, alias="debian/12", os="debian", created_at=at + timedelta(days=1), **priced)
    rated = {"rating_sum": 142 * 4500, "rating_count": 142, "prespawn": True, "icon": PNG}
    await put(world, alias="ubuntu/22.04", created_at=at + timedelta(days=2), **rated)


async def test_the_list_is_a_table_with_filters(site: Site) -> None:
    assert (await site.hoody("images", "list")).good().out == "no images\n"
    await fill(site)
    table = await site.hoody("images", "list")
    assert aliases(table) == ["ubuntu/22.04", "debian/12", "alpine/3.20"]
    head, first, second, third = table.out.splitlines()
    named = ["ID", "ALIAS", "OS", "RELEASE", "ARCH", "SIZE", "PRICE", "RATING", "ADDED"]
    assert head.split() == named
    assert "488.3 MiB" in first and "free" in first and "4.5 (142)" in first and "d ago" in first
    assert "5.99" in second and "3.0 (1)" in second
    assert "alpine" in third and " - " in third
    for options, wanted in (
        ("--os debian", ["debian/12"]),
        ("--architecture arm64", ["alpine/3.20"]),
        ("--max-price 0", ["ubuntu/22.04", "alpine/3.20"]),
        ("--min-price 5.99", ["debian/12"]),
        ("--min-rating 3 --max-rating 4", ["debian/12"]),
        ("--search UBUNTU --sort alias", ["alpine/3.20", "debian/12", "ubuntu/22.04"]),
        ("--sort price --order desc --max-rating 4", ["debian/12", "alpine/3.20"]),
        ("--sort rating", ["ubuntu/22.04", "debian/12", "alpine/3.20"]),
    ):
        assert aliases(await site.hoody("images", "list", *options.split())) == wanted, options
    listed = (await site.hoody("images", "list", "--sort", "alias", "--json")).good().json
    assert [one["alias"] for one in listed] == ["alpine/3.20", "debian/12", "ubuntu/22.04"]
    assert listed[1]["price"] == 5.99
    refused = await site.hoody("images", "list", "--min-price", "2", "--max-price", "1")
    assert (refused.code, "max_price" in refused.err) == (3, True)


async def test_the_list_goes_on_behind_the_first_page(site: Site) -> None:
    for number in range(101):
        await put(site.world, alias=f"image/{number}")
    assert len((await site.hoody("images", "list", "--json")).good().json) == 101
    shown = await site.hoody("images", "show", "image/0", "--json")
    assert shown.good().json["alias"] == "image/0"


async def test_one_is_shown_by_alias_prefix_or_id(site: Site) -> None:
    await fill(site)
    listed = (await site.hoody("images", "list", "--json")).good().json
    ubuntu = listed[0]["id"]
    for text in ("ubuntu/22.04", ubuntu[:8], ubuntu):
        shown = (await site.hoody("images", "show", text, "--json")).good().json
        assert (shown["id"], shown["serial"]) == (ubuntu, "20250110")
    facts = (await site.hoody("images", "show", "ubuntu/22.04")).good().out
    assert "4.5 (142)" in facts and "free" in facts and "488.3 MiB" in facts
    missing = await site.hoody("images", "show", "fedora/40")
    assert (missing.code, missing.out) == (3, "")
    assert missing.err.startswith("hoody: RESOURCE_NOT_FOUND: none of your images")
    assert missing.err.endswith("; run: hoody images list\n")


async def test_an_image_of_ones_own_is_found_when_it_is_public_no_more(site: Site) -> None:
    hidden = await put(site.world, alias="old/1", public=False)
    assert (await site.hoody("images", "show", "old/1")).code == 3
    await give(site.world, site.world.alice, hidden)
    assert (await site.hoody("images", "show", "old/1", "--json")).good().json["id"] == hidden.id


async def test_the_icon_is_saved_as_it_is(site: Site) -> None:
    await fill(site)
    file = site.home / "icon.png"
    (await site.hoody("images", "icon", "ubuntu/22.04", "-o", str(file))).good()
    assert file.read_bytes() == PNG
    file.unlink()
    missing = await site.hoody("images", "icon", "debian/12", "-o", str(file))
    assert (missing.code, file.exists()) == (3, False)
    assert "Image icon not found" in missing.err
    nowhere = await site.hoody("images", "icon", "ubuntu/22.04", "-o", str(file / "x"))
    assert nowhere.code == 2


async def test_import_purchase_rate_and_mine(site: Site) -> None:
    await fill(site)
    assert (await site.hoody("images", "mine")).good().out == "no images\n"
    ran = await site.hoody("images", "import", "ubuntu/22.04")
    assert ran.good().out == "ubuntu/22.04: imported\n"
    await credit(site.world, site.world.alice, 5000)
    ran = await site.hoody("images", "purchase", "debian/12")
    assert ran.good().out == "debian/12: paid 5.99, 44.01 left\n"
    ran = await site.hoody("images", "rate", "debian/12", "4.5")
    assert ran.good().out == "debian/12: 4.5 stars; all: 3.8 (2)\n"
    table = await site.hoody("images", "mine")
    assert aliases(table) == ["debian/12", "ubuntu/22.04"]
    assert table.out.splitlines()[0].split()[-1] == "YOURS"
    assert [line.split()[-1] for line in table.out.splitlines()[1:]] == ["4.5", "-"]
    mine = (await site.hoody("images", "mine", "--json")).good().json
    assert [one["has_rated"] for one in mine] == [True, False]


async def test_what_is_refused_names_what_helps(site: Site) -> None:
    await fill(site)
    for verb, alias, code, helps in (
        ("import", "debian/12", "IMAGE_NOT_FREE", "run: hoody images purchase "),
        ("purchase", "ubuntu/22.04", "IMAGE_IS_FREE", "run: hoody images import "),
        ("purchase", "debian/12", "INSUFFICIENT_BALANCE", "run: hoodyd user credit "),
    ):
        ran = await site.hoody("images", verb, alias)
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.startswith(f"hoody: {code}: ")
        assert helps in ran.err
    (await site.hoody("images", "import", "ubuntu/22.04")).good()
    again = await site.hoody("images", "import", "ubuntu/22.04")
    assert "IMAGE_ALREADY_OWNED" in again.err and "run: hoody images mine" in again.err
    for stars in ("5.1", "-1", "five"):
        assert (await site.hoody("images", "rate", "--", "ubuntu/22.04", stars)).code == 2


async def test_verbs_print_the_apis_data_as_json(site: Site) -> None:
    await fill(site)
    await credit(site.world, site.world.alice, 599)
    ran = await site.hoody("images", "import", "ubuntu/22.04", "--json")
    assert ran.good().json == {}
    ran = await site.hoody("images", "purchase", "debian/12", "--json")
    assert ran.good().json == {"price_paid": 5.99, "remaining_balance": 0}
    ran = await site.hoody("images", "rate", "debian/12", "5", "--json")
    assert ran.good().json == {"new_rating": 5, "average_rating": 4, "rating_count": 2}


async def test_an_operator_gives_money_and_takes_it(tmp_path: Path) -> None:
    config = str(tmp_path / "hoodyd.toml")
    env = environment(tmp_path)
    (await run("hoodyd", "init", "--config", config, env=env)).good()
    listed = (await run("hoodyd", "user", "list", "--config", config, env=env)).good().out
    user = listed.splitlines()[1].split()[0]

    async def ask(*arguments: str) -> Ran:
        return await run("hoodyd", "user", *arguments, "--config", config, env=env)

    for amount, left in (("50", "50.00"), ("-5.99", "44.01"), ("+0.5", "44.51"), ("0", "44.51")):
        assert (await ask("credit", user, amount)).good().out == f"{left}\n"
    assert "44.51" in (await ask("list")).good().out.splitlines()[1]
    for amount in ("-44.52", "5.999", "five", "1e3", "-", "", "1,5", "1234567890", "--5"):
        ran = await ask("credit", user, amount)
        assert (ran.code, ran.out) == (2, ""), amount
    assert "no more than 44.51" in (await ask("credit", user, "-50")).err
    assert "run: hoodyd user list" in (await ask("credit", new_id(), "5")).err
    assert (await ask("credit", user, "-44.51")).good().out == "0.00\n"
