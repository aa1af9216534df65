"""Databases for the Spanner tests: the official emulator's where SPANNER_EMULATOR_HOST is set, otherwise FakeSpanner's.

Only the environment chooses. What the emulator cannot pass is marked ``@pytest.mark.not_on_emulator("why")``.
"""

import os
import uuid
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import grpc
import pytest
from google.api_core.exceptions import AlreadyExists
from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient
from google.cloud.spanner_admin_database_v1.services.database_admin.transports import DatabaseAdminGrpcTransport
from google.cloud.spanner_admin_instance_v1 import InstanceAdminClient
from google.cloud.spanner_admin_instance_v1.services.instance_admin.transports import InstanceAdminGrpcTransport

import lro_aio as lro
from lro_aio.stores.spanner import schema
from lro_aio.stores.spanner.location import Location

EMULATOR = os.environ.get("SPANNER_EMULATOR_HOST", "")
HERE = Path(__file__).parent
PROJECT, INSTANCE = "lro-aio", "tests"


def pytest_collection_modifyitems(items):
    for item in items:
        if EMULATOR and (mark := item.get_closest_marker("not_on_emulator")):
            item.add_marker(pytest.mark.skip(reason=f"not on the emulator: {mark.args[0]}"))
        # What holds for the one variant of the table holds for the other: the slow lane and the emulator's run both.
        given = getattr(item, "callspec", None)
        if given is not None and "bytes" in given.params.values() and item.path.parent == HERE:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def emulator_instance():
    """The resource name of an instance on the emulator."""
    project = f"projects/{PROJECT}"
    instance = {"config": f"{project}/instanceConfigs/emulator-config", "display_name": "tests", "node_count": 1}
    with closing(grpc.insecure_channel(EMULATOR)) as channel:
        client = InstanceAdminClient(transport=InstanceAdminGrpcTransport(channel=channel))
        request = {"parent": project, "instance_id": INSTANCE, "instance": instance}
        with suppress(AlreadyExists):
            client.create_instance(request=request, retry=None, timeout=10).result(timeout=10)
    return f"{project}/instances/{INSTANCE}"


@pytest.fixture
def spanner_database(request):
    """Makes databases: ``spanner_database(variant)`` gives the URL of a new one with the table made, or without any
    table (``None``). They are gone after the test.
    """
    with ExitStack() as stack:

        def make(variant="proto"):
            if EMULATOR:
                instance = request.getfixturevalue("emulator_instance")
                return stack.enter_context(EmulatorDatabase(instance, variant)).url
            from lro_aio.testing import FakeSpanner

            return stack.enter_context(FakeSpanner(variant=variant)).url

        yield make


@pytest.fixture
def open_store():
    """``open_store(url)``: an open store, closed at the end."""
    opened = []

    def make(url):
        store = lro.SpannerStore.from_url(url)
        store.open()
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def apply_ddl():
    """``apply_ddl(url, statements)`` changes the schema of a database directly."""

    def apply(url, statements):
        location = Location.parse(url)
        with closing(grpc.insecure_channel(location.host)) as channel:
            admin_client(channel).update_database_ddl(
                request={
                    "database": location.database_path,
                    "statements": statements,
                    "proto_descriptors": schema.descriptor_set(),
                },
                retry=None,
                timeout=20,
            ).result(timeout=20)

    return apply


class EmulatorDatabase:
    """A database on the emulator for as long as the context is open."""

    def __init__(self, instance, variant):
        self.location = Location(
            project=PROJECT, instance=INSTANCE, database=f"t{uuid.uuid4().hex[:20]}", host=EMULATOR
        )
        self.url = self.location.url
        self.instance = instance
        self.variant = variant

    def __enter__(self):
        with closing(grpc.insecure_channel(EMULATOR)) as channel:
            admin_client(channel).create_database(
                request={
                    "parent": self.instance,
                    "create_statement": f"CREATE DATABASE `{self.location.database}`",
                    "extra_statements": schema.ddl(self.location.table, self.variant) if self.variant else [],
                    "proto_descriptors": schema.descriptor_set() if self.variant == "proto" else b"",
                },
                retry=None,
                timeout=20,
            ).result(timeout=20)
        return self

    def __exit__(self, *_):
        with closing(grpc.insecure_channel(EMULATOR)) as channel:
            admin_client(channel).drop_database(database=self.location.database_path, retry=None, timeout=20)


def admin_client(channel):
    return DatabaseAdminClient(transport=DatabaseAdminGrpcTransport(channel=channel))
