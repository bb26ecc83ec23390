"""docker-compose.yml for the tests here, read once."""

import subprocess
import sys
from pathlib import Path

import pytest
from compose_file import GENERATOR, PROFILES, Compose, read


@pytest.fixture(scope="session")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the generator writes."""
    directory = tmp_path_factory.mktemp("compose")
    program = "import compose_env; open('env', 'w').write(compose_env.new_secrets())"
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=directory,
        env={"PYTHONPATH": str(GENERATOR.parent)},
    )
    return directory / "env"


@pytest.fixture(scope="session")
def whole(env_file: Path) -> Compose:
    """The file with all profiles."""
    return read(env_file, [*PROFILES, "tools"])
