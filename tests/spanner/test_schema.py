"""The table as data, and what is wrong with one that is there: no I/O."""

import re
from dataclasses import replace

import pytest
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from lro_aio import StoreSchemaError
from lro_aio.stores.spanner import schema
from lro_aio.stores.spanner.found import Found, FoundBeside, FoundColumn, FoundIndex, read_schema
from lro_aio.stores.spanner.queue_tables import QUEUE_TABLES, queues_ddl
from lro_aio.stores.spanner.table import BUNDLE, INDEXES, OPTIONAL, WITH_JOURNAL, columns

POLICY = "OLDER_THAN(ExpireTime, INTERVAL 0 DAY)"
variants = st.sampled_from(schema.VARIANTS)


def complete(variant="proto", table="Operations"):
    """What INFORMATION_SCHEMA says of the table that ``ddl`` makes."""
    return Found(
        columns={
            column.name: FoundColumn(
                name=column.name,
                type=column.type,
                nullable=not column.not_null,
                default=column.default or "",
                generated=column.generated or "",
            )
            for column in columns(variant)
        },
        primary_key=("key",),
        indexes={
            index.name(table): FoundIndex(
                name=index.name(table),
                keys=index.keys,
                storing=frozenset(index.storing),
                null_filtered=index.null_filtered,
            )
            for index in INDEXES
        },
        policy=POLICY,
        journal=True,
        queues={
            one.name(table): FoundBeside(
                columns=frozenset((column.name, column.type) for column in one.columns),
                below=one.below,
                indexes={index.name(table): "READ_WRITE" for index in one.indexes},
            )
            for one in QUEUE_TABLES
        },
    )


def without(found, *names):
    return replace(
        found,
        columns={name: column for name, column in found.columns.items() if name not in names},
        indexes={name: index for name, index in found.indexes.items() if name not in names},
    )


def changed(found, name, **differences):
    return replace(found, columns={**found.columns, name: replace(found.columns[name], **differences)})


def added(found, **column):
    return replace(found, columns={**found.columns, column["name"]: FoundColumn(**column)})


def refusal(found, table="Operations", **arguments):
    with pytest.raises(StoreSchemaError) as caught:
        schema.check(found, table, **arguments)
    return str(caught.value)


@pytest.mark.parametrize("variant", schema.VARIANTS)
def test_a_table_as_ddl_makes_it_can_be_used_and_needs_nothing(variant):
    schema.check(complete(variant), "Operations")
    assert schema.plan(complete(variant), "Operations", variant, bundle_types=BUNDLE) == []


def test_only_the_variant_proto_needs_a_bundle():
    assert schema.ddl("T", "proto")[0].startswith("CREATE PROTO BUNDLE (google.longrunning.Operation,")
    assert not any("BUNDLE" in text for text in schema.ddl("T", "bytes"))


def test_the_descriptor_set_is_whole_and_in_the_order_of_its_imports():
    """A fresh pool takes the files one after the other, and reads an operation with what it has."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(schema.descriptor_set()).file:
        pool.Add(file)
        pool.FindFileByName(file.name)
    for name in BUNDLE:
        pool.FindMessageTypeByName(name)
    there = message_factory.GetMessageClass(pool.FindMessageTypeByName("google.longrunning.Operation"))
    here = operations_pb2.Operation(name="operations/a", done=True)
    here.error.message = "no"
    assert there.FromString(here.SerializeToString()).error.message == "no"


@pytest.mark.parametrize("table", ["", "1T", "x-y", "a b", "T`", "T;", "é", "T" * 120, "a.b"])
def test_what_cannot_be_a_table_is_refused_before_it_reaches_a_statement(table):
    with pytest.raises(ValueError, match="cannot be the name of the table"):
        schema.ddl(table, "proto")
    with pytest.raises(ValueError, match="cannot be the name of the table"):
        schema.plan(None, table)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="unknown variant 'json'; expected one of proto, bytes"):
        schema.ddl("T", "json")


@pytest.mark.parametrize("name", ["Select", "order", "HASH"])
def test_keywords_are_quoted(name):
    assert f"CREATE TABLE `{name}` (" in schema.ddl(name, "bytes")[0]
    assert f"ON `{name}` (" in schema.ddl(name, "bytes")[1]


def test_a_table_that_is_not_there_is_told_with_the_command_that_makes_it():
    url = "spanner://p/i/d?table=T&host=h:1"
    assert refusal(None, "T", url=url).endswith(f"create it with `lro spanner migrate '{url}'`")


@pytest.mark.slow
@given(variant=variants, data=st.data())
def test_check_names_all_that_is_missing_and_plan_adds_exactly_that(variant, data):
    whole = complete(variant)
    can_go = [name for name in whole.columns if name not in ("key", "Operation", *OPTIONAL)] + list(whole.indexes)
    gone = data.draw(st.lists(st.sampled_from(can_go), min_size=1, unique=True))
    found = without(whole, *gone)

    said = refusal(found)
    assert set(gone) == {word for word in re.findall(r"\w+", said) if word in can_go}
    assert "lro spanner migrate" in said

    statements = schema.plan(found, "Operations", bundle_types=BUNDLE)
    made = [re.search(r"ADD COLUMN (\w+)|INDEX (\w+) ON", text) for text in statements]
    assert sorted(match[1] or match[2] for match in made) == sorted(gone)
    kinds = [text.split()[0] for text in statements]
    assert kinds == sorted(kinds), "columns come before the indexes on them"


@pytest.mark.parametrize("variant", schema.VARIANTS)
def test_a_table_without_a_journal_can_be_used_and_plan_makes_one(variant):
    whole = complete(variant)
    bare = replace(without(whole, *OPTIONAL), journal=None, queues={})
    schema.check(bare, "Operations")
    assert whole.keeps_journal
    assert not bare.keeps_journal
    assert not replace(whole, journal=None).keeps_journal
    assert not without(whole, "Trail").keeps_journal
    *added, made = schema.plan(replace(bare, queues=whole.queues), "Operations", bundle_types=BUNDLE)
    assert {re.search(r"ADD COLUMN (\w+)", text)[1] for text in added} == OPTIONAL
    assert made.startswith("CREATE TABLE Operations_Journal (")
    assert made.endswith("INTERLEAVE IN PARENT Operations ON DELETE CASCADE")


@pytest.mark.parametrize("variant", schema.VARIANTS)
def test_a_table_without_queues_can_be_used_and_plan_makes_theirs(variant):
    whole = complete(variant)
    bare = replace(without(whole, "Seat"), queues={})
    schema.check(bare, "Operations")
    assert whole.keeps_queues("Operations")
    assert not bare.keeps_queues("Operations")
    assert not without(whole, *WITH_JOURNAL).keeps_queues("Operations")
    seat, *made = schema.plan(bare, "Operations", bundle_types=BUNDLE)
    assert (seat, made) == ("ALTER TABLE Operations ADD COLUMN Seat STRING(MAX)", queues_ddl("Operations"))


def test_an_index_of_the_queues_that_is_being_built_needs_time_and_no_statement():
    whole = complete()
    keys = replace(whole.queues["Operations_Keys"], indexes={"Operations_Wakes": "WRITE_ONLY"})
    found = replace(whole, queues={**whole.queues, "Operations_Keys": keys})
    schema.check(found, "Operations")
    assert not found.keeps_queues("Operations")
    assert schema.plan(found, "Operations", bundle_types=BUNDLE) == []


def test_another_table_under_the_name_of_the_journal_is_left_alone():
    """The operations can be used all the same; the migration says what is in its way."""
    taken = replace(complete(), journal=False)
    schema.check(taken, "Operations")
    with pytest.raises(StoreSchemaError, match="Operations_Journal is not the journal"):
        schema.plan(taken, "Operations", bundle_types=BUNDLE)


@pytest.mark.parametrize("variant", schema.VARIANTS)
def test_a_generated_column_is_added_after_those_that_it_reads(variant):
    """All but the first two, key and Operation: a table that can be upgraded has them."""
    names = [column.name for column in columns(variant)]
    for column in columns(variant)[2:]:
        for word in set(re.findall(r"\b[A-Z]\w+\b", column.generated or "")) & set(names):
            assert names.index(word) < names.index(column.name)


@pytest.mark.parametrize(
    ("name", "difference", "says"),
    [
        ("State", {"type": "STRING(MAX)"}, r"column State has the type STRING\(MAX\) instead of BYTES\(MAX\)"),
        ("Claim", {"type": "STRING(MAX)"}, r"column Claim has the type STRING\(MAX\) instead of INT64"),
        ("key", {"generated": ""}, r"column key is not generated instead of AS \(Operation.name\)"),
        ("Outcome", {"generated": "1"}, r"column Outcome is AS \(1\) instead of AS \(IF\("),
        ("Owner", {"generated": "Handler"}, r"column Owner is AS \(Handler\) instead of not generated"),
        ("Operation", {"type": "a.b.Other"}, "column Operation has the type a.b.Other; google.longrunning.Operation"),
        ("Operation", {"type": "STRING(MAX)"}, r"Operation has the type STRING\(MAX\); .* or BYTES\(MAX\) is expected"),
    ],
)
def test_what_no_migration_changes_is_refused_by_check_and_by_plan(name, difference, says):
    found = changed(complete(), name, **difference)
    assert re.search(says, refusal(found))
    assert "migrate" not in refusal(found), "it would not help"
    with pytest.raises(StoreSchemaError, match=says):
        schema.plan(found, "Operations")


def test_what_a_migration_changes_and_what_not_is_told_apart():
    found = without(changed(complete(), "State", type="INT64"), "Claim", "Operations_Due")
    can, cannot = refusal(found).split(" fixes this, but not: ")
    assert "missing columns: Claim; missing indexes: Operations_Due" in can
    assert cannot.startswith("column State has the type INT64")


@pytest.mark.parametrize(
    ("name", "difference", "statement"),
    [
        ("UpdateTime", {"default": ""}, "UpdateTime SET DEFAULT (CURRENT_TIMESTAMP())"),
        ("SchemaVersion", {"default": "0"}, f"SchemaVersion SET DEFAULT ({schema.SCHEMA_VERSION})"),
        ("ResumePoint", {"type": "STRING(36)"}, "ResumePoint STRING(MAX)"),
        ("ResumePoint", {"type": "STRING(36)", "nullable": False}, "ResumePoint STRING(MAX)"),
        ("State", {"nullable": False}, "State BYTES(MAX)"),
        ("key", {"type": "STRING(90)"}, "key STRING(MAX) NOT NULL AS (Operation.name) STORED"),
    ],
)
def test_a_column_is_altered_where_spanner_can(name, difference, statement):
    found = changed(complete(), name, **difference)
    assert "lro spanner migrate" in refusal(found)
    assert schema.plan(found, "Operations", bundle_types=BUNDLE) == [f"ALTER TABLE Operations ALTER COLUMN {statement}"]


def test_a_column_of_somebody_else_must_let_us_insert():
    schema.check(added(complete(), name="Checkpoint", type="BYTES(MAX)"), "Operations")
    schema.check(added(complete(), name="Mine", type="INT64", nullable=False, default="1"), "Operations")
    found = added(complete(), name="Mine", type="INT64", nullable=False)
    assert "column Mine, which does not belong to lro_aio, is NOT NULL and has no default" in refusal(found)


def test_another_primary_key_is_refused():
    assert "primary key is (key, Shard) instead of (key)" in refusal(replace(complete(), primary_key=("key", "Shard")))


def test_an_index_of_our_name_on_other_columns_is_never_dropped_by_us():
    index = replace(complete().indexes["Operations_Due"], keys=("Due",))
    found = replace(complete(), indexes={**complete().indexes, "Operations_Due": index})
    assert "index Operations_Due is not `CREATE NULL_FILTERED INDEX Operations_Due" in refusal(found)
    with pytest.raises(StoreSchemaError, match="drop it first"):
        schema.plan(found, "Operations")


def test_an_index_may_store_less_or_more_and_plan_adds_what_it_lacks():
    index = complete().indexes["Operations_Newest"]
    found = replace(complete(), indexes={**complete().indexes, index.name: replace(index, storing={"Mine", "Deleted"})})
    schema.check(found, "Operations")
    assert schema.plan(found, "Operations", bundle_types=BUNDLE) == [
        f"ALTER INDEX Operations_Newest ADD STORED COLUMN {column}" for column in ("ExpireTime", "Paused")
    ]


def test_an_index_that_is_being_built_needs_time_and_no_statement():
    index = replace(complete().indexes["Operations_Due"], state="WRITE_ONLY")
    found = replace(complete(), indexes={**complete().indexes, "Operations_Due": index})
    assert "still being built (WRITE_ONLY); try again when that is done" in refusal(found)
    assert schema.plan(found, "Operations", bundle_types=BUNDLE) == []


def test_spellings_that_mean_the_same_are_the_same():
    found = changed(complete(), "Outcome", generated="IF(`Operation`.done,IF(Operation.error IS NULL,1,2),\n0)")
    found = changed(found, "SchemaVersion", default="(1)")
    columns_ = {name.upper(): replace(column, name=name.upper()) for name, column in found.columns.items()}
    schema.check(replace(found, columns=columns_), "Operations")


def test_a_table_without_a_policy_gets_ours_and_another_policy_stays():
    bare = replace(complete(), policy="")
    assert "no row deletion policy on ExpireTime" in refusal(bare)
    assert schema.plan(bare, "Operations", bundle_types=BUNDLE) == [
        f"ALTER TABLE Operations ADD ROW DELETION POLICY ({POLICY})"
    ]
    foreign = replace(complete(), policy="OLDER_THAN(`UpdateTime`, INTERVAL 7 DAY)")
    schema.check(foreign, "Operations")
    assert foreign.other_policy == ("UpdateTime", 7)
    assert schema.plan(foreign, "Operations", bundle_types=BUNDLE) == []
    assert schema.plan(foreign, "Operations", replace_ttl=True, bundle_types=BUNDLE) == [
        f"ALTER TABLE Operations REPLACE ROW DELETION POLICY ({POLICY})"
    ]
    assert complete().other_policy is None
    assert schema.plan(complete(), "Operations", replace_ttl=True, bundle_types=BUNDLE) == []


def test_the_bundle_gets_what_it_lacks():
    assert "BUNDLE" not in schema.plan(None, "T", "proto", bundle_types=BUNDLE)[0]
    assert schema.plan(None, "T", "proto", bundle_types=["google.longrunning.Operation", "a.B"])[0] == (
        "ALTER PROTO BUNDLE INSERT (google.rpc.Status, google.protobuf.`Any`)"
    )
    assert schema.plan(None, "T", "proto")[0].startswith("CREATE PROTO BUNDLE (google.longrunning.Operation,")
    assert schema.plan(None, "T", "bytes", bundle_types=[]) == schema.ddl("T", "bytes")


def test_a_newer_schema_is_refused_whatever_else_is_wrong():
    found = without(changed(complete(), "SchemaVersion", default="2"), "Claim")
    assert "has schema version 2, but this release of lro_aio supports versions up to 1; upgrade lro_aio" in refusal(
        found
    )
    with pytest.raises(StoreSchemaError, match="upgrade lro_aio"):
        schema.plan(found, "Operations")


def answers(rows):
    """An ``execute`` that answers each view from a dict."""

    def execute(sql, params):
        beside = {one.name("T") for one in QUEUE_TABLES}
        assert set(params.values()) in ({"T"}, {"T_Journal", "T_Tickets"}, beside)
        view = re.search(r"INFORMATION_SCHEMA\.(\w+)", sql)[1]
        for row in rows.get(view, ()) if "table" in params else ():
            value = struct_pb2.ListValue()
            value.extend(row)
            yield value

    return execute


def test_the_type_of_a_message_column_is_read_in_each_of_its_spellings():
    for spelling in (
        "google.longrunning.Operation",
        "`google.longrunning.Operation`",
        "PROTO<google.longrunning.Operation>",
        "PROTO<`google.longrunning.Operation`>",
    ):
        found = read_schema(answers({"COLUMNS": [["Operation", spelling, "NO", None, None]]}), "T")
        assert found.variant == "proto"


def test_a_table_without_columns_is_none_that_is_there():
    assert read_schema(answers({}), "T") is None
