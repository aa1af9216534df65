"""Pages from templates: everything is escaped, and what cannot be seen is made visible."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
import threading
from typing import Any
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup, escape

from lro_aio.dashboard.access import VERBS
from lro_aio.dashboard.chart import drawn, is_bad
from lro_aio.dashboard.facts import quoted
from lro_aio.dashboard.limits import LIMITS
from lro_aio.dashboard.texts import Moment, ago, cut, exact, jsonable, length, number, plain

__all__ = ["render", "static", "version"]

STATIC = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Files that pages load, with their types."""


WORDS = {
    "cancel": "Cancel",
    "pause": "Pause",
    "unpause": "Unpause",
    "rerun": "Run again",
    "delete": "Delete",
    "send": "Send a message",
    "replay": "Deliver again",
    "run": "Run now",
    "limit": "Set limits",
}
"""What is done, on buttons."""
ASKED = {
    **{verb: f"{word} {{}}" for verb, word in WORDS.items()},
    "rerun": "Run {} again",
    "send": "Send a message to {}",
    "replay": "Deliver the webhooks of {} again",
    "run": "Run {} now",
    "limit": "Set the limits of {}",
}
"""What is done to what stands in the braces, on the page that asks for a confirmation."""


def render(template: str, **values: Any) -> bytes:
    """A page.

    Args:
        template: Its file.
        values: What it shows.
    """
    made = _environment().get_template(template).render(**values).encode("utf-8", "backslashreplace")
    _compile_others()
    return made


@functools.cache
def _compile_others() -> None:
    """Once, behind the first page: each template takes as long to compile as twenty pages of it to make."""

    def compile_all() -> None:
        for name in _environment().list_templates(extensions=["html"]):
            _environment().get_template(name)

    threading.Thread(target=compile_all, name="lro-aio-dashboard-templates", daemon=True).start()


A_DAY = 20 * 3600.0
"""Seconds within which a time of day says enough."""


@functools.cache
def static(name: str) -> tuple[bytes, str] | None:
    """A file that pages load, and its type; None where there is none."""
    kind = STATIC.get(name)
    if kind is None:
        return None
    return importlib.resources.files("lro_aio.dashboard").joinpath("static", name).read_bytes(), kind


@functools.cache
def version() -> str:
    """Changes with the files that pages load, so that browsers may keep them."""
    found = b"".join((static(name) or (b"", ""))[0] for name in STATIC)
    return hashlib.sha256(found).hexdigest()[:12]


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lro_aio.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        when=_when, took=length, number=number, pretty=_pretty, cut=cut, name=_name, quoted=quoted, caret=_caret,
        css=_css, axis=_axis, at=_at, rate=_rate,
    )  # fmt: skip
    environment.globals.update(
        chart=drawn,
        is_bad=is_bad,
        link=_link,
        mark=_mark,
        limits=LIMITS,
        VERBS=VERBS,
        WORDS=WORDS,
        ASKED=ASKED,
    )
    return environment


def _visible(value: Any) -> Any:
    if value is None:
        return ""
    return plain(cut(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


@jinja2.pass_context
def _when(context: jinja2.runtime.Context, moment: Moment | None) -> Markup:
    """A moment as people say it, with the exact one behind it."""
    if moment is None:
        return Markup()
    told, seconds = exact(moment), f"{float(moment):.3f}"
    return Markup('<time datetime="{0}" title="{0}" data-at="{1}">{2}</time>').format(
        told, seconds, ago(moment, context["now"])
    )


@jinja2.pass_context
def _axis(context: jinja2.runtime.Context, moment: float) -> Markup:
    """A moment on the axis of a chart: the time of day, and the day unless that is today's."""
    told = exact(moment)
    near = abs(context["now"] - moment) < A_DAY
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(
        told, f"{told[11:19]} UTC" if near else told[:16].replace("T", " ")
    )


def _at(moment: float) -> Markup:
    """A moment of a calendar."""
    told = exact(moment)
    return Markup('<time datetime="{0}">{1}</time>').format(told, f"{told[:10]} {told[11:19].removesuffix(':00')} UTC")


def _pretty(value: Any) -> str:
    """A JSON value for people; a text as it is."""
    return value if isinstance(value, str) else json.dumps(jsonable(value), indent=2, ensure_ascii=False)


def _link(page: str, /, **query: str) -> str:
    """A link to another page. It is relative, as all are: so that no prefix need be known."""
    asked = {key: value for key, value in query.items() if value}
    return f"{page}?{urlencode(asked, errors='replace')}" if asked else page


def _mark(name: str) -> str:
    """The place of a queue on the page of queues, for links to it: a name may hold what an identifier may not."""
    return f"queue-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:12]}"


def _name(name: str) -> Markup:
    """A name that may be broken where a person would."""
    return Markup("/<wbr>").join(escape(plain(part)) for part in name.split("/"))


def _caret(text: str, position: int) -> str:
    """A text of one line with a mark below one of its characters, and as much around it as fits."""
    line = plain(text.replace("\n", " ").replace("\t", " "))
    before = len(plain(text[:position].replace("\n", " ").replace("\t", " ")))
    begin = max(0, before - 40)
    return f"{line[begin : begin + 80]}\n{' ' * (before - begin)}^"


def _rate(rate: float) -> str:
    """A number a minute."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:g}"


def _css(kind: str) -> str:
    """A kind of a newer release may be anything."""
    return "".join(filter(str.isalnum, kind))
