"""Targets that other packages declare, as they are installed: with a dist-info of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from headrace_common.contracts.schedules import (
    PREPROCESS,
    REANALYSE,
    CameraParams,
    ReanalyseParams,
    target_contracts,
)

Install = Callable[..., None]

_MODULE = """
from pydantic import BaseModel
from headrace_common.contracts.schedules import TargetContract

class Params(BaseModel):
    region: str

TARGET = TargetContract(
    "acme.report", "Write a report", Params, "acme_reports", "acme.report", tracked=False
)
TAKEN = TargetContract("audio.reanalyse", "Another", Params, "acme_reports", "acme.report")
OURS = TargetContract("housekeeping.of-acme", "Another", Params, "acme_reports", "acme.report")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package whose entry point is what `TARGET` names."""

    def install(entry: str) -> None:
        (tmp_path / "acme_of_this_test.py").write_text(_MODULE)
        info = tmp_path / "acme_of_this_test-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[headrace.targets]\nreport = acme_of_this_test:{entry}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        target_contracts.cache_clear()

    yield install
    target_contracts.cache_clear()


def test_a_package_declares_a_target(install: Install) -> None:
    ours = set(target_contracts())
    install("TARGET")
    contracts = target_contracts()
    assert set(contracts) == ours | {"acme.report"}
    contract = contracts["acme.report"]
    assert (contract.queue, contract.actor, contract.tracked) == (
        "acme_reports",
        "acme.report",
        False,
    )
    params: BaseModel = contract.params.model_validate({"region": "north"})
    assert contract.key(params) == "acme.report", "one target, unless it says more"
    assert not contract.is_housekeeping


def test_what_is_declared_wrongly_is_refused_at_once(install: Install) -> None:
    install("TAKEN")
    with pytest.raises(ValueError, match=r"two targets are named 'audio\.reanalyse'"):
        target_contracts()


def test_house_keeping_is_ours(install: Install) -> None:
    install("OURS")
    with pytest.raises(ValueError, match=r"'housekeeping\.of-acme' is no name"):
        target_contracts()


def test_what_is_no_contract_is_refused_at_once(install: Install) -> None:
    install("Params")
    with pytest.raises(TypeError, match=r"entry point 'report' of headrace\.targets"):
        target_contracts()


def test_each_job_and_each_camera_is_a_target_of_its_own() -> None:
    assert REANALYSE.key(ReanalyseParams(job_id="1")) == "job:1"
    assert PREPROCESS.key(CameraParams(camera="gate-1")) == "camera:gate-1"
