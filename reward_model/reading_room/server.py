"""The reading room over HTTP: a page, its script and style, and what the script asks for.

Every request but those for script and style needs a reader (`access`). No page comes from a cache,
none can be framed, and what a model wrote leaves as JSON, for the script to show as text.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from engine.errors import TriptychError
from reward_model.reading_room.access import Access, Guard
from reward_model.reading_room.answers import Refused
from reward_model.reading_room.pictures import NoWindow, levels_sent, table_of
from reward_model.reading_room.room import Conflict, Room
from reward_model.verdicts import REASONS

STATIC = {
    "room.js": "text/javascript; charset=utf-8",
    "room.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
NO_LINK = "This reading room needs a link of your own: ask whoever started it for one."
Answering = Callable[[Request, str], Awaitable[Response]]


def create_app(room: Room, access: Access) -> ASGIApp:
    """The application, whose room is open."""

    def of_reader(answering: Answering) -> Callable[[Request], Awaitable[Response]]:
        async def route(request: Request) -> Response:
            reader = access.reader_of(request.headers)
            if not reader:
                return _told(NO_LINK, 401)
            return await answering(request, reader)

        return route

    async def page(request: Request) -> Response:
        reader = access.reader_of(request.headers)
        if not reader:
            return _page("closed.html.jinja", 401, message=NO_LINK)
        return _page("room.html.jinja", reader=reader, reasons=list(REASONS))

    async def enter(request: Request) -> Response:
        reader = access.with_token(request.query_params.get("token", ""))
        if not reader:
            return _page("closed.html.jinja", 401, message=NO_LINK)
        response = _page("enter.html.jinja", reader=reader)
        response.set_cookie(
            access.cookie,
            access.readers.tokens[reader],
            max_age=180 * 86400,
            httponly=True,
            samesite="strict",
            secure=access.secure,
        )
        return response

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            return _told("There is no such file.", 404)
        return Response(_file("static", name), media_type=STATIC[name])

    async def item(request: Request, reader: str) -> Response:
        return JSONResponse(room.item(reader))

    async def answer(request: Request, reader: str) -> Response:
        return await _done(room.answer(reader, await _body(request)), room, reader)

    async def undo(request: Request, reader: str) -> Response:
        return await _done(room.undo(reader, await _body(request)), room, reader)

    def drawn(draw: Callable[[str], bytes]) -> Answering:
        async def picture(request: Request, reader: str) -> Response:
            image_id = request.path_params["image_id"]
            if image_id not in room.queue.snapshot.images:
                return _told("There is no such image.", 404)
            try:
                png = await run_in_threadpool(draw, image_id)
            except TriptychError as error:
                return _told(str(error), 500)
            return Response(png, media_type="image/png")

        return picture

    async def levels(request: Request, reader: str) -> Response:
        image = room.queue.snapshot.images.get(request.path_params["image_id"])
        if image is None:
            return _told("There is no such image.", 404)
        wish = request.query_params
        try:
            grey = await run_in_threadpool(room.pictures.grey, image)
            if request.path_params.get("part") == "table":
                data = table_of(grey, wish.get("centre"), wish.get("width"))
            else:
                data = await run_in_threadpool(levels_sent, image, grey)
        except NoWindow as error:
            return _told(str(error), 404)
        except TriptychError as error:
            return _told(str(error), 400)
        return Response(data, media_type="application/octet-stream")

    routes = [
        Route("/", page),
        Route("/enter", enter),
        Route("/static/{name}", static),
        Route("/item", of_reader(item)),
        Route("/answer", of_reader(answer), methods=["POST"]),
        Route("/undo", of_reader(undo), methods=["POST"]),
        Route("/picture/{image_id}", of_reader(drawn(room.pictures.png))),
        Route("/thumbnail/{image_id}", of_reader(drawn(room.pictures.thumbnail))),
        Route("/levels/{image_id}", of_reader(levels)),
        Route("/levels/{image_id}/{part}", of_reader(levels)),
    ]
    return Guard(Starlette(routes=routes), access)


def _told(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status)


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        return None


async def _done(doing: Awaitable[None], room: Room, reader: str) -> Response:
    """What is next, once it is done; else why it was not, and nothing is lost."""
    try:
        await doing
    except Refused as error:
        return _told(str(error), 400)
    except Conflict as error:
        return JSONResponse({"error": str(error), "next": room.item(reader)}, 409)
    except OSError as error:  # a full disk: nobody is told that it was saved
        return _told(f"Not saved: {error.strerror or error}. Try again in a moment.", 507)
    return JSONResponse(room.item(reader))


@cache
def _file(*names: str) -> bytes:
    return resources.files("reward_model.reading_room").joinpath(*names).read_bytes()


@cache
def _template(name: str) -> Template:
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return jinja.from_string(_file("templates", name).decode())


def _page(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_template(name).render(values), status)
