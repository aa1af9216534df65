"""Who takes part: this package, the floors, and the peers that are installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.model import PEERS, Plan, Side

_NOT_INSTALLED = "not installed; `make bench-peers` makes its environment"


def ours(module: str, *options: str, name: str = "lro", title: str = "lro-aio") -> Side:
    return Side(name=name, title=title, module=f"benchmarks.programs.{module}", options=options)


def ours_on_postgresql(plan: Plan, module: str, *options: str) -> Side:
    side = ours(module, *options, "--pg", plan.pg, name="lro-pg", title="lro-aio on PostgreSQL")
    return replace(side, missing="" if plan.pg else "no `--pg DSN` was given")


def floor(**commands: str) -> Side:
    return Side(
        name="floor", title="floor: bare sqlite3, group commit", module="benchmarks.programs.floor", commands=commands
    )


def peers(plan: Plan) -> list[Side]:
    """DBOS on SQLite, as it comes and with a write-ahead log; on PostgreSQL if there is one; Restate."""
    dbos = _peer("dbos", "DBOS on SQLite", "dbos_peer")
    found = [
        dbos,
        _with_wal(dbos, plan),
        _on_postgresql(dbos, plan),
    ]
    return [_unless_unwanted(side, plan) for side in (*found, _restate())]


def _unless_unwanted(side: Side, plan: Plan) -> Side:
    return side if plan.peers else replace(side, missing="`--no-peers` was given")


def _with_wal(dbos: Side, plan: Plan) -> Side:
    side = replace(dbos, name="dbos-wal", title="DBOS on SQLite, WAL switched on", options=("--wal", "1"))
    return replace(side, missing=side.missing or "only in a full run") if plan.quick else side


def _on_postgresql(dbos: Side, plan: Plan) -> Side:
    side = replace(dbos, name="dbos-pg", title="DBOS on PostgreSQL", options=("--pg", plan.pg))
    return side if plan.pg else replace(side, missing=side.missing or "no `--pg DSN` was given")


def _restate() -> Side:
    server = PEERS / "restate-server"
    side = _peer("restate", "Restate", "restate_peer")
    there = any(server.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"))
    return replace(
        side,
        options=("--server", str(server)),
        missing=side.missing or ("" if there else "its server is not installed"),
    )


def peer(plan: Plan, name: str, title: str, module: str) -> Side:
    """A peer's program in the environment of its name."""
    return _unless_unwanted(_peer(name, title, module), plan)


def _peer(name: str, title: str, module: str) -> Side:
    python = peer_python(name)
    return Side(
        name=name,
        title=title,
        module=f"benchmarks.programs.{module}",
        python=python,
        missing="" if python.exists() else _NOT_INSTALLED,
    )


def peer_python(name: str) -> Path:
    """The interpreter of a peer's environment, whether it is there or not."""
    return PEERS / name / "bin" / "python"


def api_core(plan: Plan) -> Side:
    """Waits on a server of ours with google-api-core's ``AsyncOperation``."""
    python = peer_python("api-core")
    side = Side(
        name="api-core",
        title="google-api-core AsyncOperation",
        module="benchmarks.programs.lro_waits",
        options=("--python", str(python)),
        missing="" if python.exists() else _NOT_INSTALLED,
    )
    return _unless_unwanted(side, plan)
