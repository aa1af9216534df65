"""The database of a test: the official emulator's where SPANNER_EMULATOR_HOST is set, otherwise FakeSpanner's."""

import os
import uuid
from contextlib import closing, contextmanager, suppress

import grpc
import pytest
from google.api_core.exceptions import AlreadyExists
from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient
from google.cloud.spanner_admin_database_v1.services.database_admin.transports import DatabaseAdminGrpcTransport
from google.cloud.spanner_admin_instance_v1 import InstanceAdminClient
from google.cloud.spanner_admin_instance_v1.services.instance_admin.transports import InstanceAdminGrpcTransport

from lro_aio.stores.spanner.schema import descriptor_set
from lro_aio.testing import FakeSpanner

from .spanner_calls import DDL, Spanner

EMULATOR = os.environ.get("SPANNER_EMULATOR_HOST", "")


@pytest.fixture
def fake():
    """A running fake with the tables of ``DDL``."""
    with FakeSpanner(variant=None) as started:
        started.execute_ddl(*DDL, descriptors=descriptor_set())
        yield started


@pytest.fixture
def connect(fake):
    """``connect(**options)`` opens one more session on the fake."""
    opened = []

    def make(**options):
        opened.append(Spanner(fake.host, fake.database_path, **options).open())
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def spanner(request):
    """A session on a database with the tables of ``DDL``, of the fake or of the emulator."""
    mark = request.node.get_closest_marker("not_on_emulator")
    if not EMULATOR:
        yield request.getfixturevalue("connect")()
        return
    if mark is not None:
        pytest.skip(f"not on the emulator: {mark.args[0]}")
    with emulator_database() as path, closing(Spanner(EMULATOR, path, multiplexed=False)) as opened:
        yield opened.open()


@pytest.fixture
def refused():
    """``with refused(code, words)``: the call fails so; the emulator's words are others than the service's."""

    @contextmanager
    def check(error, words):
        with pytest.raises(error, match=None if EMULATOR else words):
            yield

    return check


@contextmanager
def emulator_database():
    project = "projects/lro-aio"
    instance = {"config": f"{project}/instanceConfigs/emulator-config", "display_name": "tests", "node_count": 1}
    with closing(grpc.insecure_channel(EMULATOR)) as channel:
        instances = InstanceAdminClient(transport=InstanceAdminGrpcTransport(channel=channel))
        with suppress(AlreadyExists):
            request = {"parent": project, "instance_id": "tests", "instance": instance}
            instances.create_instance(request=request, retry=None, timeout=10).result(timeout=10)
        admin = DatabaseAdminClient(transport=DatabaseAdminGrpcTransport(channel=channel))
        made = admin.create_database(
            request={
                "parent": f"{project}/instances/tests",
                "create_statement": f"CREATE DATABASE `f{uuid.uuid4().hex[:20]}`",
                "extra_statements": list(DDL),
                "proto_descriptors": descriptor_set(),
            },
            retry=None,
            timeout=20,
        ).result(timeout=20)
        yield made.name
        admin.drop_database(database=made.name, retry=None, timeout=20)
