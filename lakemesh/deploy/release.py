"""The way back: a former source, with the configuration that lies in it."""

from lakemesh.deploy import workspace_files
from lakemesh.deploy.desired import CONFIG_FOLDER, config_volume, desired_resources, opened_sources
from lakemesh.deploy.resources.app import AppDeployment
from lakemesh.deploy.resources.base import Target
from lakemesh.deploy.resources.volume_files import VolumeFiles
from lakemesh.deploy.sources import Sources
from lakemesh.deploy.state import Release, State, load_state, save_state
from lakemesh.errors import LakemeshError, NotFound


def restart(target: Target) -> None:
    """Deploy what is deployed. Raises `NotFound` when nothing is."""
    state = load_state(target)
    deployment = deployment_of(target, state)
    if deployment.read() is None:
        raise NotFound(f"{target.bundle.app['name']} has no deployment to start again; `lakemesh apply` makes one.")
    deployment.deploy(str(opened_sources(target, state).running))


def roll_back(target: Target, wanted: str) -> Release:
    """The release that runs now. When it does not start either, everything is as it was before; its error is raised."""
    state = load_state(target)
    sources = opened_sources(target, state)
    release = choose(state, sources, wanted)
    deployment = deployment_of(target, state)
    deployment.read()
    config = VolumeFiles(config_volume(target), former_config(target, sources, release), target)
    before = config.read() or {}
    former = {name: before.get(name) for name in config.desired}
    config.update(config.desired)
    try:
        deployment.deploy(release.folder)
    except LakemeshError:
        config.update(former)
        deployment.recover()
        raise
    state.released(release.digest, release.folder, target.user)
    save_state(target, state)
    return release


def choose(state: State, sources: Sources, wanted: str) -> Release:
    """The newest release that does not run and whose source is still there, or the one that `wanted` begins."""
    running = sources.manifest(sources.running or "")
    kept = [release for release in state.releases if has(sources, release)]
    others = [release for release in kept if running is None or release.digest != running.digest]
    found = [release for release in others if release.digest.startswith(wanted)]
    if not found:
        known = ", ".join(release.digest[:16] for release in others) or "none"
        raise NotFound(f"There is no such release to go back to; kept are: {known}.")
    return found[0]


def has(sources: Sources, release: Release) -> bool:
    manifest = sources.manifest(release.folder)
    return manifest is not None and manifest.digest == release.digest


def former_config(target: Target, sources: Sources, release: Release) -> dict[str, bytes]:
    manifest = sources.manifest(release.folder)
    names = [name for name in (manifest.files if manifest else ()) if name.rpartition("/")[0] == CONFIG_FOLDER]
    found = {name: workspace_files.read_file(target, f"{release.folder}/{name}") for name in names}
    return {name.rpartition("/")[2]: content for name, content in found.items() if content is not None}


def deployment_of(target: Target, state: State) -> AppDeployment:
    return next(item for item in desired_resources(target, state) if isinstance(item, AppDeployment))
