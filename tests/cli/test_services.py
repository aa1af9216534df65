"""``lro --url``: services over the network, by their names and by rehydration tokens."""

import asyncio
import base64
import contextlib
import http.server
import json
import threading

import grpc.aio
import httpx
import pytest

import lro_aio
from lro_aio.remote import GrpcTransport, HttpTransport, LocalTransport, RemoteOperation

from .test_commands import lines_of, problem_of


@pytest.fixture(params=["google", "azure", "grpc"])
def url(request, site):
    """The same operations in each of the three styles."""
    return {
        "google": ["--url", site.url],
        "azure": ["--url", f"{site.url}/azure", "--style", "azure"],
        "grpc": ["--url", f"grpc://{site.server}"],
    }[request.param]


def tokens_of(site, name):
    """Of each kind of transport."""

    async def made():
        async with httpx.AsyncClient() as http, grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            transports = {
                "google": HttpTransport(http, site.url),
                "azure": HttpTransport(http, f"{site.url}/azure", style="azure"),
                "grpc": GrpcTransport(channel),
                "store": LocalTransport(lro_aio.Client("sqlite://")),
            }
            handles = {kind: RemoteOperation.from_name(transport, name) for kind, transport in transports.items()}
            return {kind: handle.rehydration_token for kind, handle in handles.items()}

    return asyncio.run(made())


def test_get_wait_and_watch_work_in_every_style(lro, url):
    for verb in ("get", "wait", "watch"):
        result = lro(verb, "done", *url, "--json")
        assert (result.exit_code, result.stderr) == (0, "")
        assert lines_of(result)[-1]["done"] is True
        assert str(lines_of(result)[-1]["response"]["value"]) == "7"
    result = lro("wait", "failed", *url, "--json")
    assert result.exit_code == 1
    error = lines_of(result)[0]["error"]
    assert (error["code"], error["message"]) == (8, "the disk is full [red]")


def test_cancel_works_in_every_style(lro, url, site):
    number = 10 + 12 * (0 if "azure" in url else 1 if url[1].startswith("grpc") else 2)
    assert lro("cancel", f"gate-{number}", *url).exit_code == 0
    assert lro("wait", f"gate-{number}", "--timeout", "20", *url).exit_code == 1
    assert lines_of(lro("get", f"gate-{number}", "--json", *site.at("store")))[0]["error"]["code"] == 1


def test_an_unknown_name_is_3_in_every_style(lro, url):
    result = lro("get", "nope", *url)
    assert result.exit_code == 3
    assert problem_of(result).endswith("nope' does not exist")


def test_the_timeout_of_a_wait_is_4_in_every_style(lro, url):
    result = lro("wait", "gate-0", "--timeout", "0.3", *url)
    assert result.exit_code == 4
    assert "has not ended within 0.3 s" in result.stderr


@pytest.mark.parametrize("kind", ["google", "azure"])
def test_a_token_alone_is_enough_where_it_says_where(lro, site, kind):
    token = tokens_of(site, "operations/done")[kind]
    result = lro("wait", token, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert str(lines_of(result)[0]["response"]["value"]) == "7"


def test_a_token_does_not_choose_who_gets_the_headers(lro, site):
    token, header = tokens_of(site, "operations/done")["google"], ["--header", "Authorization: Bearer secret"]
    result = lro("wait", token, *header)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem_of(result) == f"lro: --header needs a --url beside it: is it --url {site.url}?"
    assert lro("wait", token, *header, "--url", site.url).exit_code == 0


@pytest.mark.parametrize(("kind", "place"), [("grpc", "server"), ("store", "store")])
def test_other_tokens_need_the_place(lro, site, kind, place):
    token = tokens_of(site, "operations/done")[kind]
    for verb in ("get", "wait", "watch", "cancel"):
        result = lro(verb, token, *site.at(place))
        assert (result.exit_code, result.stderr) == (0, "")
    assert lro("wait", token).exit_code == 2


def test_a_token_that_is_none_is_2_and_says_why(lro, site):
    token = tokens_of(site, "operations/done")["google"]
    altered = base64.urlsafe_b64encode(json.dumps({"v": 1, "t": "http", "n": "operations/x"}).encode()).decode()
    for bad, problem in (
        (token[:-4], "not a token"),
        (altered.rstrip("="), "altered or cut"),
        (tokens_of(site, "operations/done")["azure"], "is for the transport 'azure', not 'http'"),
    ):
        result = lro("wait", bad, *site.at("url"))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "invalid rehydration token" in problem_of(result)
        assert problem in problem_of(result)
    assert lro("wait", token[:-4]).exit_code == 2


@pytest.mark.parametrize(
    "options",
    [
        ["--url", "ftp://host"], ["--url", "host:80"], ["--url", "grpc://"], ["--url", "grpc://host/path"],
        ["--url", "http://user:secret@host"], ["--url", "http://host", "--style", "soap"],
        ["--url", "http://host", "--header", "no colon"], ["--url", "http://host", "--server", "host:1"],
        ["--url", "http://host", "--header", "ü: a"], ["--url", "grpc://host", "--header", "a: ü"],
        ["--url", "grpc://host", "--header", "a b: c"], ["--url", "http://host", "--header", "a: b\nc: d"],
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_2(lro, options):
    result = lro("get", "done", *options)
    assert result.exit_code == 2
    assert "secret" not in problem_of(result)


def test_a_service_that_is_not_there_is_5(lro):
    for options in (["--url", "http://127.0.0.1:1"], ["--url", "grpc://127.0.0.1:1"], ["--url", "grpcs://127.0.0.1:1"]):
        result = lro("get", "done", *options)
        assert result.exit_code == 5
        assert "does not answer" in problem_of(result)


def test_the_environment_names_service_and_style(lro, site):
    env = {"LRO_URL": f"{site.url}/azure", "LRO_STYLE": "azure"}
    assert lro("get", "/azure/v1/operations/done", env=env).exit_code == 0


@contextlib.contextmanager
def served(body):
    """The URL of a server that answers everything with ``body``, and the headers that it was sent."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def test_headers_are_sent(lro):
    with served(b'{"name": "operations/x", "done": true}') as (url, seen):
        assert lro("get", "x", "--url", url, "--header", "Authorization: Bearer abc").exit_code == 0
    assert [headers["authorization"] for headers in seen] == ["Bearer abc"]


def test_a_result_that_is_elsewhere_is_fetched_in_azure_s_style(lro):
    with served(b'{"status": "Succeeded", "resourceLocation": "/things/1"}') as (url, seen):
        (shown,) = lines_of(lro("get", "x", "--url", url, "--style", "azure", "--json"))
    assert shown["done"]
    assert shown["response"]["value"]["resourceLocation"] == "/things/1"
    assert len(seen) == 2


def test_a_list_whose_members_are_null_is_empty(lro):
    with served(b'{"operations": null, "nextPageToken": null}') as (url, _):
        assert lro("list", "--url", url).exit_code == 0


@pytest.mark.parametrize("body", [b'{"operations": 5}', b'{"operations": ["x"]}', b'{"nextPageToken": 5}'])
def test_a_list_that_is_none_is_said_to_be_none(lro, body):
    with served(body) as (url, _):
        result = lro("list", "--url", url)
    assert result.exit_code == 5
    assert "is not a service of operations: its JSON is not a list of operations" in problem_of(result)


def test_azure_s_style_has_no_lists(lro, site):
    result = lro("list", *site.at("azure"))
    assert (result.exit_code, problem_of(result)) == (
        2,
        "lro: services in Azure's style have no common form of lists",
    )


def test_a_filter_that_no_url_can_hold_is_2(lro, site):
    assert lro("list", "--filter", "a" * 100_000, *site.at("url")).exit_code == 2


def test_a_list_over_http_is_the_one_over_grpc(lro, site):
    over_http, over_grpc = (
        lines_of(lro("list", "--json", "--filter", "done = true", *site.at(kind))) for kind in ("url", "server")
    )
    assert over_http == over_grpc
