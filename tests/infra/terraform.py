"""The Terraform files as plain data, and what the Google provider knows of the resources in them.

The arguments are those of version 7 of the provider, from registry.terraform.io/providers/hashicorp/google/latest/docs.
A real ``terraform validate`` needs the provider from the network.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "infra" / "terraform"
EXAMPLE = MODULE / "examples" / "basic"

META = {"count", "depends_on", "dynamic", "for_each", "lifecycle"}
IAM = {"member", "project", "role"}
ARGUMENTS = {
    "google_artifact_registry_repository": {"format", "location", "repository_id"},
    "google_cloud_run_v2_service": {
        *(
            "deletion_protection",
            "ingress",
            "invoker_iam_disabled",
            "labels",
            "location",
            "name",
            "project",
            "template",
        ),
        *("template.execution_environment", "template.labels", "template.max_instance_request_concurrency"),
        *("template.scaling", "template.scaling.max_instance_count", "template.scaling.min_instance_count"),
        *("template.service_account", "template.timeout", "template.containers", "template.containers.image"),
        *("template.containers.resources", "template.containers.resources.cpu_idle"),
        *("template.containers.resources.limits", "template.containers.resources.startup_cpu_boost"),
        *("template.containers.env", "template.containers.env.name", "template.containers.env.value"),
    },
    "google_cloud_run_v2_service_iam_member": {*IAM, "location", "name"},
    "google_cloud_scheduler_job": {
        *("attempt_deadline", "description", "name", "project", "region", "schedule", "time_zone"),
        *("retry_config", "retry_config.retry_count"),
        *("http_target", "http_target.body", "http_target.headers", "http_target.http_method", "http_target.uri"),
        *("http_target.oidc_token", "http_target.oidc_token.audience"),
        "http_target.oidc_token.service_account_email",
    },
    "google_cloud_tasks_queue": {
        *("location", "name", "project", "retry_config", "retry_config.max_attempts", "retry_config.max_backoff"),
        *("retry_config.max_doublings", "retry_config.min_backoff"),
    },
    "google_cloud_tasks_queue_iam_member": {*IAM, "location", "name"},
    "google_project_iam_member": IAM,
    "google_project_service": {"disable_on_destroy", "project", "service"},
    "google_service_account": {"account_id", "display_name", "project"},
    "google_service_account_iam_member": {"member", "role", "service_account_id"},
    "google_spanner_database": {
        *("database_dialect", "deletion_protection", "enable_drop_protection", "instance", "name", "project"),
        *("encryption_config", "encryption_config.kms_key_name"),
    },
    "google_spanner_database_iam_member": {*IAM, "database", "instance"},
    "google_spanner_instance": {
        *("config", "display_name", "edition", "labels", "name", "processing_units", "project"),
    },
    "google_workflows_workflow": {
        *("call_log_level", "deletion_protection", "description", "labels", "name", "project", "region"),
        *("service_account", "source_contents"),
    },
}
"""Resource type -> the arguments that may be used, nested ones after a dot."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One ``resource`` block."""

    type: str
    name: str
    body: dict[str, Any]

    @property
    def address(self) -> str:
        """As other blocks refer to it."""
        return f"{self.type}.{self.name}"


class Configuration:
    """All ``.tf`` files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.tf"))}

    @functools.cached_property
    def _blocks(self) -> dict[str, list[dict[str, Any]]]:
        """Parsed when a test asks: every worker makes the configurations."""
        found: dict[str, list[dict[str, Any]]] = {}
        for text in self.texts.values():
            for kind, blocks in hcl2.loads(text).items():
                if isinstance(blocks, list) and not kind.startswith("__"):
                    found.setdefault(kind, []).extend(plain(block) for block in blocks)
        return found

    @property
    def text(self) -> str:
        """All files, without comments and descriptions."""
        whole = "\n".join(self.texts.values())
        whole = re.sub(r"<<-EOT\n.*?\n\s*EOT", '""', whole, flags=re.DOTALL)
        whole = re.sub(r'^\s*(description|error_message)\s*=\s*".*"$', "", whole, flags=re.MULTILINE)
        return re.sub(r"(^|\s)#.*$", "", whole, flags=re.MULTILINE)

    def named(self, kind: str) -> dict[str, dict[str, Any]]:
        """``variable``, ``output`` or ``module`` blocks by name."""
        return {name: body for block in self._blocks.get(kind, []) for name, body in block.items()}

    @property
    def terraform(self) -> dict[str, Any]:
        """The ``terraform`` block."""
        (block,) = self._blocks["terraform"]
        return block

    @property
    def locals(self) -> dict[str, Any]:
        """Local values, as written."""
        return {name: value for block in self._blocks.get("locals", []) for name, value in block.items()}

    @property
    def resources(self) -> list[Resource]:
        """In the order of the files."""
        return [
            Resource(kind, name, body)
            for block in self._blocks.get("resource", [])
            for kind, named in block.items()
            for name, body in named.items()
        ]

    @property
    def data(self) -> list[str]:
        """Addresses of data sources."""
        return [
            f"data.{kind}.{name}" for block in self._blocks.get("data", []) for kind in block for name in block[kind]
        ]

    def of(self, kind: str) -> list[Resource]:
        """Resources of one type."""
        return [resource for resource in self.resources if resource.type == kind]

    def one(self, address: str) -> dict[str, Any]:
        """The body of one resource."""
        (found,) = (resource.body for resource in self.resources if resource.address == address)
        return found


def plain(value: Any) -> Any:
    """Without the parser's marks: no quotes around strings, no ``${}`` around expressions, no comments."""
    if isinstance(value, dict):
        return {unquote(key): plain(item) for key, item in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return unquote(value) if isinstance(value, str) else value


def unquote(text: str) -> str:
    """One string or expression."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    whole = re.fullmatch(r"\$\{(.*)\}", text, re.DOTALL)
    return whole[1] if whole and "${" not in whole[1].partition('"')[0] else text


def arguments(body: dict[str, Any], above: str = "") -> Iterator[str]:
    """Every argument that a block sets, nested ones after a dot; ``dynamic`` ones as those that they make."""
    for name, value in body.items():
        if not above and name in META - {"dynamic"}:
            continue
        if name == "dynamic":
            for made in value:
                for label, dynamic in made.items():
                    yield above + label
                    for content in dynamic["content"]:
                        yield from arguments(content, f"{above}{label}.")
            continue
        yield above + name
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for item in value:
                yield from arguments(item, f"{above}{name}.")
