"""Posts that a page of another site can make a browser send, with the browser's cookies and without asking first.

A browser asks the server (a CORS preflight) before it sends another site's JSON. It does not ask before a form, nor
before a request without a body.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from lro_aio.core.codes import Code
from lro_aio.core.status import make_status
from lro_aio.servers.errors import RequestError

__all__ = ["refuse_forms"]

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")


def refuse_forms(headers: Mapping[str, str]) -> None:
    """Refuse a POST that is a form, or that comes from another site and is not one that a browser asks about first.

    Args:
        headers: Of the request, with lower-case names.

    Raises:
        RequestError: A form (415), or from another site (403).
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in FORMS:
        metadata = {"contentType": kind}
        sentence = f"the body is {kind}: send application/json, or no body"
        status = make_status(Code.INVALID_ARGUMENT, sentence, reason="NOT_JSON", metadata=metadata)
        raise RequestError(status, http=415)
    if not kind and _of_another_site(headers):
        sentence = "a page of another site sent this: a body of application/json is needed there, be it {}"
        raise RequestError(make_status(Code.PERMISSION_DENIED, sentence, reason="OTHER_SITE"))


def _of_another_site(headers: Mapping[str, str]) -> bool:
    """What browsers say of the page; other callers say nothing."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")
