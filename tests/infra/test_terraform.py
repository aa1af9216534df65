"""What ``infra/terraform`` promises: least privilege, one audience, no tokens in logs, nothing overwritten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lro_aio

from . import terraform

pytestmark = pytest.mark.slow  # the parser takes half a minute

MODULE = terraform.Configuration(terraform.MODULE)
EXAMPLE = terraform.Configuration(terraform.EXAMPLE)
BOTH = pytest.mark.parametrize("configuration", [MODULE, EXAMPLE], ids=["module", "example"])
RUN_SERVICE = "google_cloud_run_v2_service.this"


def roles() -> dict[tuple[str, str], str]:
    """(resource that is granted on, account) -> role, of every grant in the module."""
    granted = {}
    for resource in MODULE.resources:
        if resource.type.endswith("_iam_member"):
            granted[resource.type, resource.name] = resource.body["role"]
    return granted


# It is well formed


def test_every_file_is_parsed() -> None:
    parsed = {*terraform.MODULE.glob("*.tf"), *terraform.EXAMPLE.glob("*.tf")}
    assert parsed == set(terraform.MODULE.rglob("*.tf"))
    assert MODULE.resources
    assert EXAMPLE.named("module")


@BOTH
def test_only_arguments_that_the_provider_knows_are_used(configuration: terraform.Configuration) -> None:
    for resource in configuration.resources:
        used = set(terraform.arguments(resource.body))
        assert used <= terraform.ARGUMENTS[resource.type], resource.address


@BOTH
def test_whatever_is_referred_to_exists(configuration: terraform.Configuration) -> None:
    text = configuration.text
    assert set(re.findall(r"\bvar\.(\w+)", text)) == set(configuration.named("variable"))
    assert set(re.findall(r"\blocal\.(\w+)", text)) == set(configuration.locals)
    assert set(re.findall(r"\bdata\.\w+\.\w+", text)) == set(configuration.data)
    addresses = {resource.address for resource in configuration.resources}
    references = set(re.findall(r"(?<![\w.\"])google_\w+\.\w+", text))
    assert references <= addresses
    assert set(re.findall(r"\bmodule\.(\w+)", text)) <= set(configuration.named("module"))


@BOTH
def test_versions_are_pinned(configuration: terraform.Configuration) -> None:
    """To one major version of the provider, and to terraform 1."""
    block = configuration.terraform
    assert re.fullmatch(r">= 1\.\d+\.\d+, < 2\.0\.0", block["required_version"])
    (providers,) = block["required_providers"]
    assert set(providers) == {"google"}
    assert re.fullmatch(r"~> \d+\.\d+", providers["google"]["version"])


def test_every_variable_and_output_says_what_it_is() -> None:
    for configuration in (MODULE, EXAMPLE):
        for kind in ("variable", "output"):
            for name, body in configuration.named(kind).items():
                assert body["description"], name
        for name, body in configuration.named("variable").items():
            assert body["type"], name


def test_the_example_gives_what_the_module_asks_for() -> None:
    given = EXAMPLE.named("module")["lro"]
    assert (terraform.EXAMPLE / given.pop("source")).resolve() == terraform.MODULE
    variables = MODULE.named("variable")
    assert {name for name, body in variables.items() if "default" not in body} <= set(given) <= set(variables)


# Least privilege


def test_no_role_is_wider_than_what_it_is_for() -> None:
    """Every grant of the module, and nothing else."""
    assert roles() == {
        ("google_spanner_database_iam_member", "service"): "var.spanner_role",
        ("google_project_iam_member", "service_starts_executions"): "roles/workflows.invoker",
        ("google_project_iam_member", "workflow_logs"): "roles/logging.logWriter",
        ("google_cloud_run_v2_service_iam_member", "workflow"): "roles/run.invoker",
        ("google_cloud_run_v2_service_iam_member", "sweep"): "roles/run.invoker",
        ("google_cloud_run_v2_service_iam_member", "tasks"): "roles/run.invoker",
        ("google_cloud_run_v2_service_iam_member", "invokers"): "roles/run.invoker",
        ("google_cloud_tasks_queue_iam_member", "service"): "each.value",
        ("google_service_account_iam_member", "service_acts_as_tasks"): "roles/iam.serviceAccountUser",
    }
    assert MODULE.named("variable")["spanner_role"]["default"] == "roles/spanner.databaseUser"
    assert MODULE.locals["tasks_roles"] == [
        "roles/cloudtasks.enqueuer",
        "roles/cloudtasks.viewer",
        "roles/cloudtasks.taskDeleter",
    ]


@BOTH
def test_no_basic_role_and_no_policy_that_replaces_others(configuration: terraform.Configuration) -> None:
    """``_iam_binding`` and ``_iam_policy`` take rights away from accounts that the module does not know."""
    assert not re.search(r"roles/(owner|editor|viewer|\w+\.admin)\b", configuration.text)
    assert not re.search(r"_iam_(binding|policy)\b", configuration.text)
    assert not re.search(r"member\s*=\s*\"all(Authenticated)?Users", configuration.text)
    assert "google_service_account_key" not in configuration.text


def test_who_calls_may_call_this_one_service_and_nothing_else() -> None:
    """But for writing to the log, which the workflow's error logging needs."""
    for name in ("workflow", "sweep", "tasks"):
        grants = {
            resource.address: resource.body
            for resource in MODULE.resources
            if re.match(rf"google_service_account\.{name}\b", resource.body.get("member", ""))
        }
        grants.pop("google_project_iam_member.workflow_logs", None)
        assert set(grants) == {f"google_cloud_run_v2_service_iam_member.{name}"}
        assert grants.popitem()[1]["name"] == f"{RUN_SERVICE}.name"


def test_the_service_relies_on_cloud_run_only_where_cloud_run_checks_every_caller() -> None:
    """Where anybody may call, a token without a signature is not believed."""
    assert environment()["LRO_CLOUD_RUN_IAM"] == "tostring(!local.public)"
    assert MODULE.locals["public"].replace('\\"', '"') == (
        'length(setintersection(var.invokers, ["allUsers", "allAuthenticatedUsers"])) > 0'
    )
    assert MODULE.one(RUN_SERVICE)["invoker_iam_disabled"] in (False, "false")
    assert MODULE.named("variable")["invokers"]["default"] == []
    assert MODULE.one("google_cloud_run_v2_service_iam_member.invokers")["for_each"] == "var.invokers"


def test_the_service_has_rights_on_its_database_only() -> None:
    grant = MODULE.one("google_spanner_database_iam_member.service")
    assert grant["database"] == "google_spanner_database.operations.name"
    assert grant["member"] == "google_service_account.service.member"


def test_only_starting_executions_and_writing_logs_are_rights_on_the_project() -> None:
    """Neither has a smaller place."""
    grants = {resource.body["role"]: resource.body["member"] for resource in MODULE.of("google_project_iam_member")}
    assert grants == {
        "roles/workflows.invoker": "google_service_account.service.member",
        "roles/logging.logWriter": "google_service_account.workflow.member",
    }


def test_nothing_runs_as_the_default_account() -> None:
    (template,) = MODULE.one(RUN_SERVICE)["template"]
    assert template["service_account"] == "google_service_account.service.email"
    workflow = MODULE.one("google_workflows_workflow.this")
    assert workflow["service_account"] == "google_service_account.workflow.id"


def test_the_accounts_ids_have_a_valid_length() -> None:
    """6 to 30 characters, for every name that the module takes."""
    (rule,) = MODULE.named("variable")["name"]["validation"]
    pattern = re.compile(re.search(r'regex\(\\?"(.*?)\\?", var\.name\)', rule["condition"])[1])  # type: ignore[index]
    assert pattern.fullmatch("a")
    assert pattern.fullmatch("a" * 21)
    for wrong in ("", "a" * 22, "Reports", "1a", "a-", "a_b"):
        assert not pattern.fullmatch(wrong)
    for account in MODULE.of("google_service_account"):
        suffix = account.body["account_id"].removeprefix("${var.name}")
        assert 1 + len(suffix) >= 6
        assert 21 + len(suffix) <= 30


# The workflow


def test_the_workflow_has_a_name_of_its_own() -> None:
    """A deployment of the Go package keeps its workflow, whatever is given here."""
    variable = MODULE.named("variable")["workflow_name"]
    assert variable["default"] == "lro-aio"
    (rule,) = variable["validation"]
    assert rule["condition"].replace('\\"', '"') == 'var.workflow_name != "alis-managed-operations"'
    assert [resource.body["name"] for resource in MODULE.of("google_workflows_workflow")] == ["var.workflow_name"]


def test_the_workflow_logs_errors_only() -> None:
    """A log of all calls would have the resume tokens in it."""
    assert MODULE.one("google_workflows_workflow.this")["call_log_level"] == "LOG_ERRORS_ONLY"


def test_the_workflow_is_the_one_of_the_package() -> None:
    source = MODULE.one("google_workflows_workflow.this")["source_contents"]
    path = re.search(r'file\(\\?"\$\{path\.module\}/(.*?)\\?"\)', source)
    assert path
    assert MODULE.named("variable")["workflow_source"]["default"] in (None, "null")
    package = Path(lro_aio.__file__).parent
    assert (terraform.MODULE / path[1]).resolve() == (package / "schedulers" / "workflow.yaml").resolve()
    assert (terraform.MODULE / path[1]).is_file()


# One URL, one audience


def test_whoever_calls_uses_the_services_url_as_the_audience() -> None:
    (target,) = MODULE.one("google_cloud_scheduler_job.sweep")["http_target"]
    (token,) = target["oidc_token"]
    assert MODULE.locals["url"] == "https://${var.name}-${data.google_project.this.number}.${var.region}.run.app"
    assert token["audience"] == "local.url"
    assert target["uri"] == "${local.url}/lro/sweep"
    assert token["service_account_email"] == "google_service_account.sweep[0].email"
    assert environment()["LRO_RESUME_HOST"] == "local.url"
    assert MODULE.named("output")["url"]["value"] == "local.url"


def test_whoever_calls_is_on_the_services_list() -> None:
    emails = MODULE.locals["callers"]
    for name in ("workflow", "sweep", "tasks"):
        assert f"google_service_account.{name}" in emails
    assert environment()["LRO_CALLERS"].replace('\\"', '"') == 'join(",", local.callers)'


def environment() -> dict[str, str]:
    """The variables of the service, by name, as written."""
    text = MODULE.texts["service.tf"]
    return dict(re.findall(r"^\s+((?:ALIS|LRO)_\w+)\s+= (.+)$", text, re.MULTILINE))


def test_the_service_gets_the_variables_that_the_example_reads() -> None:
    example = (terraform.REPOSITORY / "docs" / "examples" / "service" / "main.py").read_text(encoding="utf-8")
    read = set(re.findall(r"environ(?:\[|\.get\()\"(\w+)\"", example)) - {"PORT"}
    client = (Path(lro_aio.__file__).parent / "client.py").read_text(encoding="utf-8")
    wanted = set(re.findall(r'"(ALIS_\w+)"', client)) - {"ALIS_RUN_HASH"}  # which LRO_RESUME_HOST stands in for
    assert wanted
    assert read | wanted <= set(environment())


# Nothing gets lost


def test_nothing_that_holds_operations_is_destroyed_by_accident() -> None:
    assert MODULE.named("variable")["deletion_protection"]["default"] in (True, "true")
    for address in ("google_spanner_database.operations", RUN_SERVICE, "google_workflows_workflow.this"):
        assert MODULE.one(address)["deletion_protection"] == "var.deletion_protection"
    assert MODULE.one("google_spanner_database.operations")["enable_drop_protection"] == "var.deletion_protection"


def test_terraform_keeps_away_from_the_table() -> None:
    """It cannot send proto descriptors; ``lro spanner migrate`` makes the table."""
    assert "ddl" not in MODULE.one("google_spanner_database.operations")
    assert MODULE.named("output")["spanner_url"]["value"].startswith("spanner://${var.project}/")


def test_a_request_may_last_as_long_as_its_caller_waits() -> None:
    """1,800 s, of Workflows and of Cloud Tasks alike."""
    assert MODULE.named("variable")["request_timeout"]["default"] in (1800, "1800")


def test_tasks_are_tried_again_for_hours() -> None:
    """Ten doublings from a second, then every ten minutes."""
    (retry,) = MODULE.one("google_cloud_tasks_queue.this")["retry_config"]
    waits = [min(2**number, 600) for number in range(int(retry["max_attempts"]) - 1)]
    assert 12 * 3600 < sum(waits) < 24 * 3600
    assert (retry["min_backoff"], retry["max_backoff"]) == ("1s", "600s")


# The image


DOCKERFILE = (terraform.REPOSITORY / "infra" / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (terraform.REPOSITORY / "infra" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()


def test_the_image_runs_as_nobody_in_particular_and_hears_sigterm() -> None:
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, re.MULTILINE)
    assert re.search(r'^CMD \["python", "main\.py"\]$', DOCKERFILE, re.MULTILINE)


def test_the_image_is_made_of_files_that_are_there() -> None:
    """And that the ignore file lets through."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (terraform.REPOSITORY / name).exists()
        assert f"!{name}" in IGNORED


def test_the_image_installs_extras_that_exist() -> None:
    project = (terraform.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (extras,) = re.findall(r"'\.\[(.+?)\]'", DOCKERFILE)
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
    assert {"fastapi", "spanner", "workflows"} <= set(extras.split(","))
