"""`lakemesh policy`: what the policies allow, before and after a change."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakemesh.cli.config import Environment, read
from lakemesh.errors import ConfigurationInvalid, NotFound

if TYPE_CHECKING:
    from lakemesh.config.policies import PolicyRule
    from lakemesh.config.schema import Config

policy = typer.Typer(no_args_is_help=True, help="Ask, test and compare policies.")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="The base file; lakemesh.yaml in LAKEMESH_CONFIG_FOLDER or config/.")
]


@policy.command("check")
def check(config: ConfigFile = None, environment: Environment = None) -> None:
    """Say which rules are in force, and which name agents, models or groups of names that match nothing there is."""
    parsed, environment = opened(config, environment)
    rules = parsed.policies.all_rules()
    for name, rule in rules.items():
        inactive = "" if not rule.environments or environment in rule.environments else f"  (not in {environment})"
        about = ", ".join(f"{kind} {' '.join(names)}" for kind, names in rule.resources.items() if names)
        typer.echo(f"{rule.effect:<8}{name}: {about}{inactive}")
        for fault in unmatched(parsed, rule):
            typer.echo(f"        {fault}", err=True)
    mode = "refused" if parsed.policies.mode == "enforce" else "noted and let pass (dry_run)"
    typer.echo(f"{len(rules)} rules, {len(parsed.policies.content)} about content; what they do not allow is {mode}")


@policy.command("explain")
def explain(
    action: Annotated[str, typer.Argument(help="call, model, read, write or send")],
    name: Annotated[str, typer.Argument(help="An agent, a model, a table, a path or a host.")],
    user: Annotated[str, typer.Option(help="Who calls.")] = "anybody",
    group: Annotated[list[str] | None, typer.Option(help="A group of the caller; may be repeated.")] = None,
    service: Annotated[bool, typer.Option(help="The caller is a service principal.")] = False,
    door: Annotated[str, typer.Option(help="api, mcp, a2a, ...")] = "api",
    agent: Annotated[list[str] | None, typer.Option(help="The agent that acts, then its callers.")] = None,
    origin: Annotated[list[str] | None, typer.Option(help="Where text came from that the run has taken in.")] = None,
    config: ConfigFile = None,
    environment: Environment = None,
) -> None:
    """Say what is decided, by which rule and why; exit code 1 when it is refused."""
    from pydantic import ValidationError

    from lakemesh.errors import InvalidRequest
    from lakemesh.governance.policies import Policies
    from lakemesh.governance.review import Question, answer, described

    parsed, environment = opened(config, environment)
    try:
        question = Question.model_validate(
            {
                "action": action, "name": name, "user": user, "groups": group or [], "service": service,
                "door": door, "agents": agent or [], "origins": origin or [],
            }
        )  # fmt: skip
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidRequest(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from None
    decision = answer(Policies(parsed.policies, environment=environment), question)
    typer.echo(described(decision))
    if decision.effect == "deny":
        raise typer.Exit(1)


@policy.command("test")
def run_tests(
    file: Annotated[Path, typer.Argument(help="YAML with a list 'tests'.")] = Path("policy_tests.yaml"),
    config: ConfigFile = None,
    environment: Environment = None,
) -> None:
    """Ask every question of a file and compare the answers; exit code 1 when one is another."""
    import yaml
    from pydantic import ValidationError

    from lakemesh.governance.policies import Policies
    from lakemesh.governance.review import PolicyTests, failures

    if not file.is_file():
        raise NotFound(f"There is no file {file}.")
    try:
        tests = PolicyTests.model_validate(yaml.safe_load(file.read_text())).tests
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigurationInvalid([f"{file}: {line}" for line in str(error).splitlines()[:8]]) from None
    parsed, environment = opened(config, environment)
    failed = failures(Policies(parsed.policies, environment=environment), tests)
    for line in failed:
        typer.echo(line, err=True)
    typer.echo(f"{len(tests) - len(failed)} of {len(tests)} as expected")
    if failed:
        raise typer.Exit(1)


@policy.command("diff")
def diff(
    before: Annotated[Path, typer.Argument(help="The base file as it was.")],
    after: Annotated[Path, typer.Argument(help="The base file as it is to be.")],
    environment: Environment = None,
) -> None:
    """Say who gains (+), loses (-) or now needs an approval for (?) what."""
    from lakemesh.governance.review import changes

    old, environment = opened(before, environment)
    new, _ = opened(after, environment)
    found = changes(old.policies, new.policies, environment=environment)
    for change in found:
        typer.echo(str(change))
    typer.echo(f"{len(found)} changes")


def unmatched(parsed: "Config", rule: "PolicyRule") -> list[str]:
    """Names in a rule that match no agent and no model there is."""
    from lakemesh.governance.patterns import matcher

    endpoints = parsed.models.endpoints
    models = [*endpoints, *(one.model_name for one in endpoints.values())]
    remote = (*parsed.mcp.servers, *parsed.a2a.peers)
    agents = [
        name for name in rule.call if not name.startswith(remote) and not any(map(matcher([name]), parsed.agents))
    ]
    unknown = [name for name in rule.model if not name.startswith("region:") and not any(map(matcher([name]), models))]
    return [f"no agent is called {name!r}" for name in agents] + [f"no model is called {name!r}" for name in unknown]


def opened(config: Path | None, environment: str | None) -> "tuple[Config, str]":
    """The configuration, and the environment it is for."""
    from lakemesh.config.settings import Settings

    settings = Settings()
    base = config or settings.config_folder / "lakemesh.yaml"
    if not base.is_file():
        raise NotFound(f"There is no file {base}; name one with --config.")
    environment = environment or settings.environment
    return read(base, environment)[0], environment
