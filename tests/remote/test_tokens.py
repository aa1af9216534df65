"""Rehydration tokens: they come back, in every release; and what is none is refused, with nothing executed."""

from __future__ import annotations

import base64
import json
import pickle
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import lro_aio as lro
from lro_aio.core.errors import InvalidTokenError
from lro_aio.remote import GrpcTransport, LocalTransport, tokens
from lro_aio.remote.messages import check_name
from lro_aio.remote.transport import Place, Transport

from .conftest import Script

ROOT = Path(__file__).resolve().parents[2]

GOLDEN = {
    # version, transport, address, place -> the token that a release wrote for it
    (1, "grpc", "", Place("operations/a")): "eyJ2IjoxLCJ0IjoiZ3JwYyIsIm4iOiJvcGVyYXRpb25zL2EiLCJjIjoiM2U2ZDRjY2QifQ",
    (1, "http", "https://a.example/api", Place("projects/p/operations/ä")): (
        "eyJ2IjoxLCJ0IjoiaHR0cCIsImEiOiJodHRwczovL2EuZXhhbXBsZS9hcGkiLCJuIjoicHJvamVjdHMvcC9vcGVyYXRpb25zL1x1MDBlNCIs"
        "ImMiOiI5NTdiNGNlZSJ9"
    ),
    (1, "azure", "https://a.example", Place("/v1/operations/a?api-version=1", "", "/things/1", "location")): (
        "eyJ2IjoxLCJ0IjoiYXp1cmUiLCJhIjoiaHR0cHM6Ly9hLmV4YW1wbGUiLCJuIjoiL3YxL29wZXJhdGlvbnMvYT9hcGktdmVyc2lvbj0xIiwi"
        "ciI6Ii90aGluZ3MvMSIsInMiOiJsb2NhdGlvbiIsImMiOiJmOWZiMWNkZiJ9"
    ),
}
"""Of every version that was ever shipped. Never change one, only add."""


class Nowhere(Transport):
    """Takes every name, and asks nobody."""

    def __init__(self, kind: str = "grpc", address: str = "") -> None:
        super().__init__(address=address)
        self.kind = kind  # type: ignore[misc]  # of this one

    def place(self, name: str) -> Place:
        return Place(name)

    def check(self, place: Place) -> None:
        pass

    def started(self, answer: Any) -> Any:
        raise AssertionError

    async def fetch(self, place: Any, options: Any) -> Any:
        raise AssertionError

    async def cancel(self, place: Any, options: Any) -> None:
        raise AssertionError

    async def delete(self, place: Any, options: Any) -> None:
        raise AssertionError


def token_of(name: str = "operations/a", kind: str = "grpc", address: str = "", **place: str) -> str:
    token = tokens.encode(Nowhere(kind, address), Place(name, **place))
    assert token is not None
    return token


def packed(members: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(("version", "kind", "address", "place"), GOLDEN)
def test_tokens_of_every_release_are_read(version: int, kind: str, address: str, place: Place) -> None:
    token = GOLDEN[version, kind, address, place]
    assert tokens.decode(token) == tokens.Rehydrated(kind, address, place)
    if version == tokens.VERSION:
        assert tokens.encode(Nowhere(kind, address), place) == token


def test_there_is_a_golden_token_of_each_version() -> None:
    assert {version for version, *_ in GOLDEN} == set(range(1, tokens.VERSION + 1))


PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x2FFF, exclude_categories=["Cc", "Cs", "Zs"]))


@given(name=PRINTABLE.filter(bool), address=PRINTABLE, link=PRINTABLE, result=PRINTABLE, step=PRINTABLE)
def test_whatever_is_written_is_read_and_fits_into_a_url(
    name: str, address: str, link: str, result: str, step: str
) -> None:
    transport, place = Nowhere("azure", address), Place(name, link, result, step)
    token = tokens.encode(transport, place)
    if token is None:
        return  # too long, or it would hold a credential
    assert len(token) < 1024
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert tokens.place_of(token, transport) == place
    assert json.loads(base64.urlsafe_b64decode(token + "=="))["v"] == 1, "versioned JSON"


@given(st.text() | st.text(string.ascii_letters + string.digits + "-_"))
def test_no_text_does_anything_but_be_refused(text: str) -> None:
    with pytest.raises(InvalidTokenError, match="invalid rehydration token"):
        tokens.decode(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@given(JSON | st.dictionaries(st.sampled_from("vtanlrsc"), st.just(1) | JSON))
def test_no_json_does_anything_but_be_refused(value: Any) -> None:
    with pytest.raises(InvalidTokenError):
        tokens.decode(packed(value))


@given(st.data())
def test_an_altered_token_is_refused(data: st.DataObject) -> None:
    token = token_of("projects/p/operations/some-name")
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_").filter(lambda c: c != token[at]))
    with pytest.raises(InvalidTokenError):
        tokens.decode(token[:at] + other + token[at + 1 :])


@given(st.integers(0, len(token_of()) - 1))
def test_a_truncated_token_is_refused(length: int) -> None:
    with pytest.raises(InvalidTokenError):
        tokens.decode(token_of()[:length])


class Bomb:
    def __reduce__(self) -> Any:
        return (sys.exit, ("it was executed",))


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        (packed({"v": 2, "t": "grpc", "n": "operations/a"}), "it is of version 2; this release reads version 1"),
        (packed({"v": True, "t": "grpc", "n": "operations/a"}), "it is not a token"),
        (packed({"v": 1, "t": "grpc", "n": "operations/a"}), "it was altered or cut"),
        (packed({"v": 1, "t": "grpc", "n": "operations/a", "x": "y"}), "it has a member that tokens do not have"),
        (packed({"v": 1, "t": "grpc", "n": ["operations/a"]}), "it has a member that tokens do not have"),
        ("A" * 100_000, "it is longer than 1023 characters"),
        ("not base64!", "it is not URL-safe base64"),
        ("", "it is not URL-safe base64"),
        (token_of() + "==", "it is not URL-safe base64"),
        (token_of() + "\n", "it is not URL-safe base64"),
        (packed([]), "it is not a token"),
        (base64.urlsafe_b64encode(b"[" * 700).rstrip(b"=").decode(), "it is not a token"),
        (base64.urlsafe_b64encode(pickle.dumps(Bomb())).rstrip(b"=").decode(), "it is not a token"),
        (b"bytes", "it is bytes, not text"),
        (None, "it is NoneType, not text"),
    ],
)  # fmt: skip
def test_the_error_says_what_is_wrong(token: Any, problem: str) -> None:
    with pytest.raises(InvalidTokenError) as caught:
        tokens.decode(token)
    assert (caught.value.problem, str(caught.value)) == (problem, f"invalid rehydration token: {problem}")


def test_another_transport_s_or_another_service_s_token_is_refused() -> None:
    with pytest.raises(InvalidTokenError, match="it is for the transport 'http', not 'grpc'"):
        tokens.place_of(token_of(kind="http"), Nowhere("grpc"))
    token = token_of(address="a.example:443")
    with pytest.raises(InvalidTokenError, match=r"it is for the service at a\.example:443, not b\.example:443"):
        tokens.place_of(token, Nowhere(address="b.example:443"))
    for address in ("a.example:443", ""):
        assert tokens.place_of(token, Nowhere(address=address)) == Place("operations/a")
    with pytest.raises(InvalidTokenError, match="is for the transport 'grpc', not 'local'"):
        tokens.place_of(token, LocalTransport(lro.Client("sqlite://")))


@pytest.mark.parametrize(
    "name",
    [
        "https://host/monitor?sig=abc",
        "https://host/monitor?a=1&access_token=abc",
        "https://host/monitor?api-key=abc",
        "https://host/monitor?sasToken=abc",
        "https://host/monitor?clientSecret=abc",
        "https://host/monitor?a=1&API_KEY=abc",
        "https://host/monitor?subscription-key=abc",
        "https://host/monitor?X-Amz-Security-Token=abc",
        "https://host/monitor?X-Goog-Signature=abc",
        "/runtime/webhooks/durabletask/instances/a?taskHub=h&connection=Storage&code=abc",
        "https://user:secret@host/monitor",
    ],
)
def test_an_address_that_lets_in_whoever_has_it_has_no_token(name: str) -> None:
    assert tokens.encode(Nowhere("azure"), Place(name)) is None
    assert tokens.encode(Nowhere("azure"), Place("ok", result=name)) is None


@pytest.mark.parametrize(
    "name", ["https://host/monitor?api-version=2024-01-01&design=x&monkey=y", "operations/[x", "//[x"]
)
def test_other_addresses_have_one(name: str) -> None:
    assert tokens.encode(Nowhere("azure"), Place(name)) is not None


@given(st.text(max_size=40))
@example("a\x85b")
@example("a/\u2028")
def test_every_name_that_is_taken_comes_back_out_of_its_token(name: str) -> None:
    try:
        taken = check_name(name)
    except ValueError:
        return
    token = tokens.encode(Nowhere(), Place(taken))
    assert token is not None
    assert tokens.decode(token).place == Place(taken)


def test_a_name_that_is_too_long_for_a_token_has_none() -> None:
    assert tokens.encode(Nowhere(), Place("x" * 900)) is None


@pytest.mark.asyncio
async def test_a_grpc_token_names_nothing_but_an_operation(channel: grpc.aio.Channel, script: Script) -> None:
    transport = GrpcTransport(channel)
    for token in (
        token_of("a/../b"),
        token_of(link="https://evil.example/"),
        token_of("a//b"),
    ):
        with pytest.raises(InvalidTokenError):
            await lro.RemoteOperation[Any].rehydrate(transport, token)
    assert script.asked == []


@pytest.mark.asyncio
async def test_rehydrating_is_one_look(channel: grpc.aio.Channel, script: Script) -> None:
    script.operation.name = "operations/a"
    handle = await lro.RemoteOperation[Any].rehydrate(GrpcTransport(channel), token_of())
    assert [(method, request.name) for method, request in script.asked] == [("GetOperation", "operations/a")]
    assert (handle.name, handle.has_completed, handle.raw_response) == ("operations/a", False, script.operation)
    assert handle.rehydration_token == token_of()


OTHER_PROCESS = """
import asyncio, sys
import grpc.aio
import lro_aio as lro

async def main():
    address, token = sys.argv[1], sys.stdin.read()
    async with grpc.aio.insecure_channel(address) as channel:
        handle = await lro.RemoteOperation.rehydrate(lro.remote.GrpcTransport(channel), token)
        print(handle.name, handle.has_completed, flush=True)
        print((await handle).value)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.asyncio
async def test_another_process_goes_on_with_the_token_alone(client: lro.Client) -> None:
    import asyncio

    from google.protobuf import wrappers_pb2

    from lro_aio.servers.grpc import add_operations_servicer

    server = grpc.aio.server()
    add_operations_servicer(client, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        op = await client.create()
        async with grpc.aio.insecure_channel(address) as channel:
            token = lro.RemoteOperation[Any](GrpcTransport(channel), op.proto).rehydration_token
        assert token is not None
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OTHER_PROCESS, address,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(token.encode())
        process.stdin.close()
        assert await process.stdout.readline() == f"{op.name} False\n".encode()
        await op.done(wrappers_pb2.StringValue(value="from afar"))
        assert await process.stdout.read() == b"from afar\n"
        assert await process.wait() == 0
    finally:
        await server.stop(None)
