"""A planned version made into what a worker loads, with its files held against their digest."""

from workers.catalog import sources
from workers.catalog.plan import PlannedVersion
from workers.predictors import ModelError, Spec


def spec_of(version: PlannedVersion, kind: str) -> Spec:
    """What is to be loaded. Raises ModelError if its files are gone, or others than they were."""
    try:
        folder = sources.resolve(version.source)
        digest = sources.digest(folder) if folder else ""
    except sources.SourceError as error:
        raise ModelError(str(error)) from error
    if version.digest and digest != version.digest:
        raise ModelError(
            f"The files of {version.label} in {folder} differ from the registered files (SHA-256 "
            f"{digest[:12]}… instead of {version.digest[:12]}…). Put them back, or register the "
            "new files as another version."
        )
    return Spec(version.model, version.version, kind, folder, digest[:12], version.options)
