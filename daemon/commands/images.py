"""`hoody images`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from daemon.client import Client, Json
from daemon.commands import output
from daemon.commands.session import chosen, json_option, run

STARS_MAX = 5
_ID = re.compile(r"[0-9a-f]{24}")
_UPWARDS = ("alias", "price")  # the order in which people read these

image_argument = click.argument("image", metavar="IMAGE")


@click.group()
def images() -> None:
    """What containers begin as: browse, get, rate. IMAGE is an alias, an id, or the beginning of
    one."""


@images.command("list")
@click.option("--os", help="Only those of this system, as debian.")
@click.option("--architecture", help="Only those for these processors, as amd64.")
@click.option("--min-price", type=float, metavar="PRICE")
@click.option("--max-price", type=float, metavar="PRICE", help="0: only what is free.")
@click.option("--min-rating", type=click.FloatRange(0, STARS_MAX), metavar="STARS")
@click.option("--max-rating", type=click.FloatRange(0, STARS_MAX), metavar="STARS")
@click.option("--search", metavar="TEXT", help="In alias, name, description or tags.")
@click.option(
    "--sort",
    "sort_by",
    type=click.Choice(["alias", "added_date", "price", "rating"]),
    default="added_date",
    show_default=True,
)
@click.option(
    "--order",
    "sort_order",
    type=click.Choice(["asc", "desc"]),
    help="Default: asc for alias and price, else desc.",
)
@json_option
def images_list(sort_by: str, sort_order: str | None, as_json: bool, **given: object) -> None:
    """List the public images, newest first."""
    query = {key: str(value) for key, value in given.items() if value is not None}
    query["sort_by"] = sort_by
    query["sort_order"] = sort_order or ("asc" if sort_by in _UPWARDS else "desc")

    async def work(client: Client) -> None:
        found = await client.pages("/images/public", "images", query)
        if as_json:
            output.print_json(found)
            return
        headers = ["ID", "ALIAS", "OS", "RELEASE", "ARCH", ">SIZE", ">PRICE", "RATING", "ADDED"]
        spare = ("OS", "RELEASE", "ADDED", ">SIZE", "RATING")
        rows = [[*_row(one), output.age(one.get("added_date"))] for one in found]
        output.print_table(headers, rows, empty="no images", spare=spare)

    run(work)


@images.command("mine")
@json_option
def images_mine(as_json: bool) -> None:
    """List the images that you have imported or bought, newest first.

    YOURS is how you have rated them.
    """

    async def work(client: Client) -> None:
        found = await client.pages("/images/user", "images", {})
        if as_json:
            output.print_json(found)
            return
        headers = ["ID", "ALIAS", "OS", "RELEASE", "ARCH", ">SIZE", ">PRICE", "RATING", ">YOURS"]
        spare = ("OS", "RELEASE", ">SIZE", ">PRICE", "RATING")
        rows = [[*_row(one), output.text(one.get("user_rating"))] for one in found]
        output.print_table(headers, rows, empty="no images", spare=spare)

    run(work)


@images.command("show")
@image_argument
@json_option
def images_show(image: str, as_json: bool) -> None:
    """Show one image."""

    async def work(client: Client) -> None:
        found = await client.get(f"/images/public/{await _id(client, image)}")
        if as_json:
            output.print_json(found)
            return
        said = {"size": output.size(found.get("size")), "price": _price(found)}
        said["average_rating"] = _rating(found)
        hidden = ("rating_count", "icon_url")
        facts = {key: value for key, value in (found | said).items() if key not in hidden}
        output.print_facts((name, output.text(value)) for name, value in facts.items())

    run(work)


@images.command("icon")
@image_argument
@click.option("-o", "--output", "path", required=True, metavar="FILE", help="Where to put it.")
def images_icon(image: str, path: str) -> None:
    """Save an image's icon, a PNG."""

    async def work(client: Client) -> None:
        png = await client.content(f"/images/{await _id(client, image)}/icon")
        try:
            Path(path).write_bytes(png)
        except OSError as error:
            raise click.UsageError(f"cannot write {path}: {error.strerror}") from None

    run(work)


@images.command("import")
@image_argument
@json_option
def images_import(image: str, as_json: bool) -> None:
    """Make a free image yours."""

    async def work(client: Client) -> None:
        answer = await _post(client, "import", image)
        _say(answer, f"{image}: imported", as_json)

    run(work)


@images.command("purchase")
@image_argument
@json_option
def images_purchase(image: str, as_json: bool) -> None:
    """Make an image yours, and pay for it from your balance."""

    async def work(client: Client) -> None:
        answer = await _post(client, "purchase", image)
        paid, left = _money(answer.get("price_paid")), _money(answer.get("remaining_balance"))
        _say(answer, f"{image}: paid {paid}, {left} left", as_json)

    run(work)


@images.command("rate")
@image_argument
@click.argument("stars", type=click.FloatRange(0, STARS_MAX))
@json_option
def images_rate(image: str, stars: float, as_json: bool) -> None:
    """Give an image 0 to 5 STARS, in place of what you gave it before."""

    async def work(client: Client) -> None:
        answer = await _post(client, "rate", image, {"rating": stars})
        _say(answer, f"{image}: {answer.get('new_rating')} stars; all: {_rating(answer)}", as_json)

    run(work)


async def _post(client: Client, verb: str, image: str, body: Json | None = None) -> Json:
    path = f"/images/{verb}/{await _id(client, image)}"
    answer, _no_job = await client.request("POST", path, body=body)
    return answer


async def _id(client: Client, image: str) -> str:
    """The id of what `image` names, on the public list or among one's own. Raises as
    `session.find` does."""
    if _ID.fullmatch(image):
        return image
    lists = ("/images/public", "/images/user")
    found = [one for path in lists for one in await client.pages(path, "images", {})]
    known = {one["id"]: {**one, "name": one["alias"]} for one in found}
    return str(chosen(list(known.values()), "images", image)["id"])


def _say(answer: Json, sentence: str, as_json: bool) -> None:
    if as_json:
        output.print_json(answer)
    else:
        click.echo(sentence)


def _row(image: Json) -> list[str]:
    return [
        str(image["id"]),
        *(output.text(image.get(key)) for key in ("alias", "os", "release", "architecture")),
        output.size(image.get("size")),
        _price(image),
        _rating(image),
    ]


def _price(image: Json) -> str:
    return _money(image.get("price")) if image.get("price") else "free"


def _money(amount: object) -> str:
    return f"{amount:.2f}" if isinstance(amount, int | float) else "-"


def _rating(image: Json) -> str:
    """The average, and how many it is of: `4.5 (142)`."""
    average, count = image.get("average_rating"), image.get("rating_count")
    return f"{average:.1f} ({count})" if count and isinstance(average, int | float) else "-"
