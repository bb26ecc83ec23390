"""The Dockerfiles, as BuildKit's own parser reads them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

import dockerfile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[2]
#: Images by name, each with the folder that has its Dockerfile.
IMAGES: Final = {
    "ingest-api": "services/ingest-api",
    "dispatcher": "services/dispatcher",
    "results": "services/results",
    "gpu-preprocessor": "services/gpu-preprocessor",
    "speech-analysis-server": "examples/speech-analysis-server",
    "local": "libs/local",
}
#: Those that serve; the other one is a tool.
SERVICES: Final = tuple(name for name in IMAGES if name != "local")


@dataclass(frozen=True)
class Image:
    """One Dockerfile.

    Attributes:
        stages: the instructions of each stage, its FROM first; what stands before is not in it.
        arguments: values of ARG before the first stage.
    """

    stages: tuple[tuple[dockerfile.Command, ...], ...]
    arguments: tuple[str, ...]

    @property
    def final(self) -> tuple[dockerfile.Command, ...]:
        """The instructions of what is shipped."""
        return self.stages[-1]

    def every(self, instruction: str) -> list[dockerfile.Command]:
        """Return all instructions of a kind, of all stages."""
        return [each for stage in self.stages for each in stage if each.cmd == instruction]

    def last(self, instruction: str) -> dockerfile.Command:
        """Return the one that counts."""
        return [each for each in self.final if each.cmd == instruction][-1]

    def pairs(self, instruction: str) -> dict[str, str]:
        """Return the names and values of ENV or LABEL in what is shipped."""
        words = [word for each in self.final if each.cmd == instruction for word in each.value]
        values = (value.strip('"') for value in words[1::2])
        return dict(zip(words[::2], values, strict=True))


def path_of(name: str) -> Path:
    """Return where an image's Dockerfile is."""
    return ROOT / IMAGES[name] / "Dockerfile"


def read(name: str) -> Image:
    """Read an image's Dockerfile."""
    stages: list[list[dockerfile.Command]] = []
    arguments: list[str] = []
    for command in dockerfile.parse_file(str(path_of(name))):
        if command.cmd == "FROM":
            stages.append([])
        if stages:
            stages[-1].append(command)
        else:
            arguments += command.value
    return Image(tuple(map(tuple, stages)), tuple(arguments))


def health_command(image: Image) -> list[str]:
    """Return what a HEALTHCHECK runs."""
    [kind, *words] = image.last("HEALTHCHECK").value
    assert kind == "CMD"
    return [str(word) for word in words]


def installed_by(name: str) -> list[Requirement]:
    """Return what an image's Dockerfile gives pip, folders as the projects in them."""
    text = " ".join(command.original for command in read(name).every("RUN"))
    [command] = re.findall(r"--constraint constraints\.txt\s+((?:'?\./|\"?\./)[^&]*)&&", text)
    found = []
    for word in command.split():
        folder, _, extras = word.strip("'\"").partition("[")
        extras = "" if "$" in folder else extras
        folder = folder.partition("${")[0]
        if folder.startswith("./"):
            project = (ROOT / folder / "pyproject.toml").read_text()
            folder = re.findall(r'^name = "(.*)"$', project, re.MULTILINE)[0]
        found.append(Requirement(f"{folder}[{extras}" if extras else folder))
    return found


def closure(roots: list[Requirement]) -> set[str]:
    """Return the names of all packages that some need, from what is installed here."""
    seen: set[tuple[str, str]] = set()
    waiting = [(root, extra) for root in roots for extra in ("", *root.extras)]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        waiting += [
            (needed, wanted) for needed in _needs(name, extra) for wanted in ("", *needed.extras)
        ]
    return {name for name, _ in seen}


def _needs(name: str, extra: str) -> Iterator[Requirement]:
    try:
        texts = requires(name) or []
    except PackageNotFoundError:
        raise AssertionError(f"{name} is needed and not installed here") from None
    for text in texts:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": extra}):
            yield requirement


def pinned() -> dict[str, set[str]]:
    """Return the versions in constraints.txt, by package."""
    pins: dict[str, set[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        found = re.match(r"([\w.-]+)==([^\s;]+)", line)
        if found:
            pins.setdefault(canonicalize_name(found[1]), set()).add(found[2])
    return pins


def is_pinned_as_installed(name: str) -> bool:
    """Whether constraints.txt names the very version of a package that is installed here."""
    return version(name) in pinned().get(name, set())


def metadata_of(bom: Path) -> dict[str, str]:
    """Return the components of a CycloneDX file with their versions."""
    components = json.loads(bom.read_text())["components"]
    return {canonicalize_name(each["name"]): each.get("version", "") for each in components}
