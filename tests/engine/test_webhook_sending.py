"""What a receiver may do to a delivery: answer late, wrong, at length or not at all. And where deliveries may go."""

import asyncio
import socket
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import lro_aio as lro
from lro_aio.webhooks.rules import target_of
from lro_aio.webhooks.sending import RefusedAddressError, Sender

from ..receiver import SECRET, receiving, response
from ..waiting import reached, until

HANDLERS = lro.Handlers()
DAY = 86_400
SCHEDULE = [5, 300, 1800, 7200, 18_000, 36_000]


@HANDLERS.handler
async def works(op: lro.Operation[int]) -> str:
    return "made"


@pytest_asyncio.fixture
async def receiver():
    async with receiving() as found:
        yield found


@pytest.fixture
def start(open_client, store, receiver):
    """``await start(**rules)``: a client, and the name of the delivery of an operation that has ended."""

    async def begin(**options):
        client = await open_client(store, handlers=HANDLERS, webhooks=receiver.rules(**options))
        op = await client.start(works, 1, webhook=lro.Webhook(receiver.url))
        await op.result()
        (told,) = [entry.text for entry in await client.history(op.name) if entry.kind == "WEBHOOK"]
        return client, told.split(" to ")[1]

    return begin


async def asleep(client, receiver, tries, name):
    """The delivery once so many tries have failed."""
    await until(lambda: len(receiver.requests) >= tries)
    return await reached(client, name, "SUSPENDED")


async def failure(client, name):
    """Why a delivery was given up."""
    record = await reached(client, name, "FAILED")
    problem = (await client.describe(record.name)).problem
    return problem.reason, problem.message


@pytest.mark.asyncio
async def test_one_that_fails_for_a_day_is_given_up_and_is_among_the_failures(start, receiver, lro_clock):
    receiver.usual = response(500)
    client, name = await start()
    began = lro_clock.time()
    for tries, delay in enumerate([*SCHEDULE, DAY - sum(SCHEDULE)], 1):
        record = await asleep(client, receiver, tries, name)
        assert record.wait.sleep_until - lro_clock.time() == delay
        await lro_clock.advance(delay - 1)
        assert len(receiver.requests) == tries
        await lro_clock.advance(1)
        await until(lambda tries=tries: len(receiver.requests) > tries)
    reason, message = await failure(client, name)
    assert lro_clock.time() == began + DAY
    assert reason == "WEBHOOK_NOT_DELIVERED"
    assert message.endswith("8 tries failed; the last one: HTTP 500")
    assert len({(request.id, request.body) for request in receiver.requests}) == 1
    assert len({request.headers["webhook-timestamp"] for request in receiver.requests}) == 8
    (group,) = (await client.stats()).failures
    assert (group.handler, group.reason) == ("lro.webhook", "WEBHOOK_NOT_DELIVERED")


@pytest.mark.asyncio
async def test_one_that_comes_back_gets_it(start, receiver, lro_clock):
    receiver.answers = [response(503), response(400)]
    client, name = await start()
    for tries, delay in ((1, 5), (2, 300)):
        await asleep(client, receiver, tries, name)
        await lro_clock.advance(delay)
    await reached(client, name, "SUCCEEDED")
    assert len(receiver.requests) == 3


@pytest.mark.asyncio
async def test_one_that_is_gone_is_not_asked_again(start, receiver, lro_clock):
    """Nor for other operations, for a while; but for an operator who wants it sent again."""
    receiver.usual = response(410)
    client, name = await start()
    assert (await failure(client, name))[0] == "WEBHOOK_GONE"
    op = await client.start(works, 1, webhook=lro.Webhook(receiver.url))
    await op.result()
    (told,) = [entry.text for entry in await client.history(op.name) if entry.kind == "WEBHOOK"]
    assert (await failure(client, told.split(" to ")[1]))[0] == "WEBHOOK_GONE"
    assert len(receiver.requests) == 1
    receiver.usual = response(200)
    (again,) = await client.replay_webhook(op.name)
    await reached(client, again.name, "SUCCEEDED")
    await lro_clock.advance(3601)
    await client.start(works, 1, webhook=lro.Webhook(receiver.url))
    await until(lambda: len(receiver.requests) == 3)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [301, 302, 307, 308, 304])
async def test_no_redirect_is_followed(start, receiver, status):
    async with receiving() as elsewhere:
        receiver.usual = response(status, f"Location: {elsewhere.url}")
        client, name = await start(any_origin=True)
        await asleep(client, receiver, 1, name)
        assert not elsewhere.requests


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("said", "delay"), [("120", 120), ("1", 5), ("999999999", 21_600), ("soon", 5), ("-3", 5), ("date", 600)]
)
async def test_when_to_come_again_is_heard_within_bounds(start, receiver, lro_clock, said, delay):
    now = 1_700_000_000
    dates = [format_datetime(datetime.fromtimestamp(when, UTC), usegmt=True) for when in (now, now + 600)]
    headers = [f"Date: {dates[0]}", f"Retry-After: {dates[1] if said == 'date' else said}"]
    receiver.answers = [response(429, *headers)]
    client, name = await start()
    record = await asleep(client, receiver, 1, name)
    assert record.wait.sleep_until - lro_clock.time() == delay


async def silent(writer):
    await asyncio.Event().wait()


async def halfway(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")


async def nothing(writer):
    return


async def nonsense(writer):
    writer.write(b"\x16\x03\x01 I am a teapot\r\n\r\n")


async def endless_headers(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)


async def continues(writer):
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0)  # the loop is not the receiver's alone


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [silent, halfway, nothing, nonsense, endless_headers, continues])
async def test_an_answer_that_is_none_is_a_failed_try(start, receiver, answer, row):
    receiver.answers = [answer]
    client, name = await start(timeout=0.5)
    record = await asleep(client, receiver, 1, name)
    assert b"answer" in record.metadata


async def endless(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)


async def large(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000)
    await writer.drain()


async def large_failure(writer):
    writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 5000000\r\n\r\n" + b"secret" * 800_000)
    await writer.drain()


async def cut_off(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\nhalf")


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [endless, large, cut_off])
async def test_of_an_answer_only_the_status_counts(start, receiver, answer):
    receiver.answers = [answer]
    client, name = await start()
    await reached(client, name, "SUCCEEDED")
    assert len(receiver.requests) == 1


@pytest.mark.asyncio
async def test_what_a_receiver_says_is_kept_nowhere(start, receiver):
    """Else a URL that leads to another service would show what that one has to say."""
    receiver.answers = [large_failure]
    client, name = await start()
    record = await asleep(client, receiver, 1, name)
    assert b"secret" not in record.metadata + record.state_data


@pytest.mark.asyncio
async def test_one_that_nobody_serves_is_a_failed_try(open_client, store, lro_clock):
    async with receiving() as receiver:
        rules = receiver.rules()
    answer = await Sender(rules, 10).send(target_of(receiver.url), {}, b"{}")
    assert (answer.taken, str(answer)) == (False, "no connection")


@pytest.mark.asyncio
async def test_what_is_not_allowed_any_more_is_not_sent(open_client, tmp_path, receiver, lro_clock):
    url = f"sqlite:///{tmp_path}/o.db"
    receiver.usual = response(500)
    async with lro.Client(url, handlers=HANDLERS, webhooks=receiver.rules(), clock=lro_clock) as client:
        op = await client.start(works, 1, webhook=lro.Webhook(receiver.url))
        await op.result()
        (told,) = [entry.text for entry in await client.history(op.name) if entry.kind == "WEBHOOK"]
        name = told.split(" to ")[1]
        await asleep(client, receiver, 1, name)
    client = await open_client(url, handlers=HANDLERS, webhooks=receiver.rules(origins=["https://other.example"]))
    await lro_clock.advance(60)
    assert (await failure(client, name))[0] == "WEBHOOK_NOT_ALLOWED"
    assert len(receiver.requests) == 1


@pytest.fixture(scope="module")
def authority():
    """A certificate for ``hooks.example``: the context of a server, and one that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(chain + private)
        file.flush()
        server.load_cert_chain(file.name)
    return server, ssl.create_default_context(cadata=chain.decode())


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("host", "said"), [("hooks.example", "HTTP 204"), ("other.example", "the certificate or TLS failed")]
)
async def test_over_tls_the_certificate_is_that_of_the_name(authority, monkeypatch, host, said):
    """And not that of the address to which it is connected."""
    server, trusting = authority
    resolving(monkeypatch, ["127.0.0.1"])
    names = []
    server.sni_callback = lambda sock, name, context: names.append(name)
    async with receiving(ssl=server) as receiver:
        rules = lro.Webhooks(secrets=SECRET, any_origin=True, allow_private=True, ssl_context=trusting)
        answer = await Sender(rules, 10).send(target_of(f"https://{host}:{receiver.port}/x"), {}, b"{}")
    assert (str(answer), names) == (said, [host])


@pytest.mark.asyncio
async def test_an_authority_that_nobody_knows_is_not_trusted(authority, monkeypatch):
    resolving(monkeypatch, ["127.0.0.1"])
    async with receiving(ssl=authority[0]) as receiver:
        rules = lro.Webhooks(secrets=SECRET, any_origin=True, allow_private=True)
        answer = await Sender(rules, 10).send(target_of(f"https://hooks.example:{receiver.port}/x"), {}, b"{}")
    assert str(answer) == "the certificate or TLS failed"
    assert not receiver.requests


def resolving(monkeypatch, *answers):
    """Names resolve to these addresses, one answer after the other."""
    asked = []
    given = list(answers)

    def getaddrinfo(host, port, **options):
        asked.append(host)
        found = given.pop(0) if len(given) > 1 else given[0]
        return [
            (socket.AF_INET6 if ip_address(one).version == 6 else socket.AF_INET, 1, 6, "", (one, port))
            for one in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.asyncio
@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:127.0.0.1"], ["fe80::1%2"]])
async def test_a_name_is_refused_if_one_of_its_addresses_is_not_public(
    open_client, store, receiver, monkeypatch, addresses
):
    resolving(monkeypatch, addresses)
    url = f"http://hooks.example:{receiver.port}/x"
    rules = lro.Webhooks(secrets=SECRET, any_origin=True, allow_http=True)
    client = await open_client(store, handlers=HANDLERS, webhooks=rules)
    op = await client.start(works, 1, webhook=lro.Webhook(url))
    await op.result()
    (told,) = [entry.text for entry in await client.history(op.name) if entry.kind == "WEBHOOK"]
    reason, message = await failure(client, told.split(" to ")[1])
    assert reason == "WEBHOOK_ADDRESS_REFUSED"
    assert message.endswith("the receiver is at an address that is not public")
    assert addresses[-1] not in message
    assert not receiver.requests


@pytest.mark.asyncio
async def test_a_name_is_resolved_once_and_connected_to_where_it_was_then(receiver, monkeypatch):
    """A name that leads elsewhere a moment later leads nowhere: nobody asks again."""
    asked = resolving(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
    rules = lro.Webhooks(secrets=SECRET, any_origin=True, allow_http=True, allow_private=["127.0.0.1/32"])
    sender = Sender(rules, 10)
    answer = await sender.send(target_of(f"http://hooks.example:{receiver.port}/x"), {}, b"{}")
    assert answer.taken
    assert asked == ["hooks.example"]
    assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"
    with pytest.raises(RefusedAddressError):
        await sender.send(target_of(f"http://hooks.example:{receiver.port}/x"), {}, b"{}")


@pytest.mark.asyncio
async def test_another_address_of_a_name_is_tried_where_nobody_answers(receiver, monkeypatch):
    resolving(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    rules = lro.Webhooks(secrets=SECRET, any_origin=True, allow_http=True, allow_private=True)
    answer = await Sender(rules, 10).send(target_of(f"http://hooks.example:{receiver.port}/x"), {}, b"{}")
    assert answer.taken


@pytest.mark.asyncio
async def test_no_proxy_is_asked(receiver, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    answer = await Sender(receiver.rules(), 10).send(target_of(receiver.url), {}, b"{}")
    assert answer.taken


@pytest.mark.asyncio
async def test_a_slow_host_is_asked_by_few_at_a_time_and_holds_nobody_else_up(open_client, store, receiver, lro_clock):
    gate = asyncio.Event()

    async def slow(writer):
        await gate.wait()
        writer.write(response(200))
        await writer.drain()

    receiver.usual = slow
    async with receiving() as fast:
        rules = receiver.rules(per_host=2, origins=[receiver.origin, f"http://localhost:{fast.port}"])
        client = await open_client(store, handlers=HANDLERS, webhooks=rules, max_running=40)
        for number in range(5):
            await client.start(works, number, webhook=lro.Webhook(receiver.url))
        await until(lambda: len(receiver.requests) == 2)
        await lro_clock.advance(10)
        await client.start(works, 5, webhook=lro.Webhook(f"http://localhost:{fast.port}/"))
        await until(lambda: fast.requests)
        assert len(receiver.requests) == 2
        gate.set()
        while len(receiver.requests) < 5:
            await lro_clock.advance(10)
    assert len({request.id for request in receiver.requests}) == 5


@pytest.mark.asyncio
async def test_there_are_so_many_tries_at_a_time_however_many_hosts_are_slow():
    sender = Sender(lro.Webhooks(secrets=SECRET), 2)
    with sender.place(target_of("https://a.example")) as a, sender.place(target_of("https://b.example")) as b:
        assert (a, b) == (True, True)
        with sender.place(target_of("https://c.example")) as c:
            assert c is False
    with sender.place(target_of("https://c.example")) as c:
        assert c is True


@pytest.mark.asyncio
async def test_webhooks_of_another_type_are_refused():
    with pytest.raises(TypeError, match="webhooks must be a Webhooks"):
        lro.Client("sqlite://", webhooks={"secrets": SECRET})
