"""Commands of the pages that no test may run, since they need an account, cost money or install things: looked up.

Whatever they name must exist: subcommands and flags, targets and extras, files, outputs, roles.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from lro_aio.cli.app import app

from .blocks import DocsError
from .google_cloud import check_gcloud

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "infra" / "terraform" / "examples" / "basic" / "main.tf"
CURL = {"--json", "--oauth2-bearer"}


def check_account_command(command: str, place: str) -> None:
    """One command of a block with the directive ``checked``.

    Raises:
        DocsError: It names something that does not exist, or no test knows its program.
    """
    inner = re.findall(r"\$\((.*?)\)", command)
    for substituted in inner:
        check_account_command(substituted, place)
    words = shlex.split(re.sub(r"\$\(.*?\)", "$VALUE", command), comments=True)
    known: dict[str, Callable[[list[str], str], None]] = {
        "curl": _curl,
        "docker": _docker,
        "export": _export,
        "gcloud": check_gcloud,
        "lro": _lro,
        "python": _python,
        "terraform": _terraform,
    }
    if words[0] not in known:
        raise DocsError(f"{place}: no test knows what to look up for {words[0]!r}")
    known[words[0]](words[1:], place)


def _curl(words: list[str], place: str) -> None:
    for flag in (word for word in words if word.startswith("-")):
        if flag not in CURL:
            raise DocsError(f"{place}: curl {flag} is not expected")


def _docker(words: list[str], place: str) -> None:
    match words:
        case ["build", "--platform", "linux/amd64", "--file", file, "--tag", "$IMAGE", "."]:
            if not (REPOSITORY / file).is_file():
                raise DocsError(f"{place}: there is no file {file}")
        case ["push", "$IMAGE"]:
            pass
        case _:
            raise DocsError(f"{place}: docker build, with a file of the repository, and docker push are expected")


def _export(words: list[str], place: str) -> None:
    for name in (word.partition("=")[0] for word in words):
        variable = name.removeprefix("TF_VAR_")
        if variable != name and f'variable "{variable}"' not in EXAMPLE.read_text(encoding="utf-8"):
            raise DocsError(f"{place}: the Terraform example has no variable {variable!r}")


def _lro(words: list[str], place: str) -> None:
    command: Any = typer.main.get_command(app)
    options: set[str] = set()
    for word in words[: words.index(">")] if ">" in words else words:
        if commands := getattr(command, "commands", None):
            found = commands.get(word)
            if found is None:
                raise DocsError(f"{place}: there is no command 'lro {word}'")
            command = found
            options = {name for parameter in command.params for name in parameter.opts}
        elif word.startswith("--") and word.partition("=")[0] not in options:
            raise DocsError(f"{place}: lro {command.name} has no {word}")


def _python(words: list[str], place: str) -> None:
    if words[:2] == ["-m", "grpc_tools.protoc"]:
        return  # test_servers_page.py runs it where the compiler is installed
    if not (REPOSITORY / words[0]).is_file():
        raise DocsError(f"{place}: there is no file {words[0]}")


def _terraform(words: list[str], place: str) -> None:
    files = [EXAMPLE, *EXAMPLE.parents[2].glob("*.tf")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    match words:
        case ["init"] | ["destroy"]:
            pass
        case ["output", "-raw", name]:
            if f'output "{name}"' not in EXAMPLE.read_text(encoding="utf-8"):
                raise DocsError(f"{place}: the Terraform example has no output {name!r}")
        case ["apply", *targets]:
            for target in targets:
                kind, _, name = target.removeprefix("-target=").removeprefix("module.lro.").partition(".")
                if not target.startswith("-target=") or f'resource "{kind}" "{name}"' not in text:
                    raise DocsError(f"{place}: terraform apply {target}: there is no such resource")
        case _:
            raise DocsError(f"{place}: terraform {' '.join(words)} is not expected")
