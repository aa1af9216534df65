"""The DDL of the Spanner that is for tests: statements become data, and what is not understood is refused."""

import pytest

from lro_aio.testing.spanner import ddl
from lro_aio.testing.spanner.ddl import Column, KeyPart, RowDeletionPolicy, parse_statement
from lro_aio.testing.spanner.values import Type

TABLE = """CREATE TABLE `T` (
  key STRING(MAX) NOT NULL AS (Operation.name) STORED,
  `Operation` google.longrunning.Operation NOT NULL,
  State BYTES(MAX),
  UpdateTime TIMESTAMP NOT NULL DEFAULT (CURRENT_TIMESTAMP()),
  Due TIMESTAMP AS ( IF(Operation.done AND ExpireTime IS NULL, TIMESTAMP '1970-01-01T00:00:00Z', CheckTime) ) STORED,
) PRIMARY KEY (key DESC), ROW DELETION POLICY (OLDER_THAN(UpdateTime, INTERVAL 3 DAY))"""


def test_a_table_is_read_whole() -> None:
    operation = Type("PROTO", proto="google.longrunning.Operation")
    due = "IF(Operation.done AND ExpireTime IS NULL, TIMESTAMP '1970-01-01T00:00:00Z', CheckTime)"
    assert parse_statement(TABLE) == ddl.CreateTable(
        "T",
        (
            Column("key", Type("STRING"), not_null=True, generated="Operation.name"),
            Column("Operation", operation, not_null=True),
            Column("State", Type("BYTES")),
            Column("UpdateTime", Type("TIMESTAMP"), not_null=True, default="CURRENT_TIMESTAMP()"),
            Column("Due", Type("TIMESTAMP"), generated=due),
        ),
        (KeyPart("key", descending=True),),
        RowDeletionPolicy("UpdateTime", 3),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "create table T (k INT64) primary key (k)",
            ddl.CreateTable("T", (Column("k", Type("INT64")),), (KeyPart("k"),)),
        ),
        (
            "create table T (k INT64) primary key (k), interleave in parent P on delete cascade",
            ddl.CreateTable("T", (Column("k", Type("INT64")),), (KeyPart("k"),), parent="P"),
        ),
        ("DROP TABLE T", ddl.DropTable("T")),
        ("ALTER TABLE T ADD COLUMN c INT64", ddl.AddColumn("T", Column("c", Type("INT64")))),
        (
            "ALTER TABLE T ADD COLUMN c STRING(1) AS (SUBSTR(key, 1, 1)) STORED",
            ddl.AddColumn("T", Column("c", Type("STRING", length=1), generated="SUBSTR(key, 1, 1)")),
        ),
        (
            "ALTER TABLE T ALTER COLUMN c TIMESTAMP NOT NULL DEFAULT (CURRENT_TIMESTAMP())",
            ddl.AlterColumn("T", Column("c", Type("TIMESTAMP"), not_null=True, default="CURRENT_TIMESTAMP()")),
        ),
        ("ALTER TABLE T ALTER COLUMN c SET DEFAULT (IF(a, 1, (2)))", ddl.SetDefault("T", "c", "IF(a, 1, (2))")),
        (
            "ALTER TABLE T ADD ROW DELETION POLICY (OLDER_THAN(c, INTERVAL 0 DAY))",
            ddl.SetRowDeletionPolicy("T", RowDeletionPolicy("c", 0), replace=False),
        ),
        (
            "ALTER TABLE T REPLACE ROW DELETION POLICY (OLDER_THAN(c, INTERVAL 1 DAY))",
            ddl.SetRowDeletionPolicy("T", RowDeletionPolicy("c", 1), replace=True),
        ),
        ("CREATE INDEX I ON T (a)", ddl.CreateIndex("I", "T", (KeyPart("a"),))),
        (
            "CREATE NULL_FILTERED INDEX `I` ON T (a, b DESC) STORING (c, `d`)",
            ddl.CreateIndex("I", "T", (KeyPart("a"), KeyPart("b", descending=True)), ("c", "d"), null_filtered=True),
        ),
        ("ALTER INDEX I ADD STORED COLUMN `c`", ddl.AlterIndex("I", "c")),
        (
            "CREATE PROTO BUNDLE (google.rpc.Status, google.protobuf.`Any`)",
            ddl.CreateProtoBundle(("google.rpc.Status", "google.protobuf.Any")),
        ),
        ("ALTER PROTO BUNDLE INSERT (a.B, `a.C`)", ddl.AlterProtoBundle(("a.B", "a.C"))),
    ],
)
def test_each_statement_becomes_data(text: str, expected: ddl.Statement) -> None:
    assert parse_statement(text) == expected


def test_a_policy_is_written_as_the_information_schema_has_it() -> None:
    assert RowDeletionPolicy("c", 3).text == "OLDER_THAN(c, INTERVAL 3 DAY)"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("CREATE TABLE T (k INT64) PRIMARY KEY (k);", "1:41"),
        ("-- a comment\nDROP TABLE T", "1:1"),
        ("CREATE TABLE order (k INT64) PRIMARY KEY (k)", "1:14"),
        ("CREATE TABLE IF NOT EXISTS T (k INT64) PRIMARY KEY (k)", "1:14"),
        ("CREATE TABLE T (k INT64)", "1:25"),
        ("CREATE TABLE T (k INT64 DEFAULT (1) NOT NULL) PRIMARY KEY (k)", "1:37"),
        ("CREATE TABLE T (k INT64 DEFAULT 1) PRIMARY KEY (k)", "1:33"),
        ("CREATE TABLE T (k INT64, g INT64 AS (k)) PRIMARY KEY (k)", "1:40"),
        ("CREATE TABLE T (k INT64, g INT64 AS (k =) STORED) PRIMARY KEY (k)", "1:41"),
        ("CREATE TABLE T (k INT64) PRIMARY KEY (k), INTERLEAVE IN PARENT P", "1:65"),
        ("CREATE TABLE T (k INT64) PRIMARY KEY (k), INTERLEAVE IN PARENT P ON DELETE NO ACTION", "1:76"),
        ("CREATE TABLE T (k INT64) PRIMARY KEY (k), INTERLEAVE IN P", "1:41"),
        ("CREATE TABLE T (k INT64, CONSTRAINT c CHECK (k > 1)) PRIMARY KEY (k)", "1:37"),
        ("CREATE TABLE T (k INT64 OPTIONS (hidden = true)) PRIMARY KEY (k)", "1:25"),
        ("ALTER TABLE T ADD COLUMN IF NOT EXISTS c INT64", "1:26"),
        ("ALTER TABLE T DROP COLUMN a", "1:15"),
        ("ALTER TABLE T DROP ROW DELETION POLICY", "1:15"),
        ("ALTER TABLE T ADD ROW DELETION POLICY (OLDER_THAN(c, INTERVAL 1 HOUR))", "1:65"),
        ("ALTER TABLE T ALTER COLUMN c SET NOT NULL", "1:30"),
        ("ALTER TABLE T ALTER COLUMN c DROP DEFAULT", "1:30"),
        ("CREATE INDEX I ON T (a) WHERE a IS NOT NULL", "1:25"),
        ("CREATE INDEX I ON T ()", "1:22"),
        ("CREATE INDEX I ON T (a) STORING ()", "1:34"),
        ("CREATE UNIQUE INDEX I ON T (a)", "1:1"),
        ("DROP INDEX I", "1:1"),
        ("ALTER PROTO BUNDLE DELETE (a.B)", "1:1"),
        ("CREATE SEQUENCE s", "1:1"),
        ("GRANT SELECT ON TABLE T TO ROLE r", "1:1"),
        ("", "1:1"),
    ],
)
def test_what_is_not_in_the_dialect_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ValueError, match=r"Syntax error|not one that this fake knows") as raised:
        parse_statement(text)
    assert f"[at {place}]" in str(raised.value)


def test_a_length_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="Bad length"):
        parse_statement("CREATE TABLE T (k STRING(0)) PRIMARY KEY (k)")
