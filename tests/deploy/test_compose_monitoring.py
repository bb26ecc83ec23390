"""Prometheus and Grafana in docker-compose.yml: they find the services, and each other."""

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from compose_file import ROOT, SETTINGS, Compose

from headrace_local import tools


def test_prometheus_asks_every_service() -> None:
    configuration = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    jobs = [job["dns_sd_configs"][0] for job in configuration["scrape_configs"]]

    assert {name for job in jobs for name in job["names"]} == set(SETTINGS)
    assert {job["port"] for job in jobs} == {8000}
    promtool = tools.ensure_prometheus() / "promtool"
    checked = ["check", "config", "--syntax-only", "deploy/compose/prometheus.yml"]
    subprocess.run([promtool, *checked], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_grafana_is_given_its_source_and_a_folder_that_is_mounted(whole: Compose) -> None:
    grafana = whole["services"]["grafana"]
    provider = yaml.safe_load((ROOT / "deploy/compose/grafana-dashboards.yaml").read_text())
    source = yaml.safe_load((ROOT / "deploy/compose/grafana-source.yaml").read_text())

    mounted = {volume["target"] for volume in grafana["volumes"]}
    assert provider["providers"][0]["options"]["path"] in mounted
    assert urlsplit(source["datasources"][0]["url"]).netloc == "prometheus:9090"
    for config in whole["configs"].values():
        assert "content" in config or Path(config["file"]).is_file()
    for name in ("prometheus", "grafana"):  # what Compose would make an empty folder of
        volumes = whole["services"][name]["volumes"]
        bound = [volume["source"] for volume in volumes if volume["type"] == "bind"]
        assert bound
        assert all(Path(source).exists() for source in bound)


def test_every_dashboard_finds_the_source_that_is_provisioned() -> None:
    source = yaml.safe_load((ROOT / "deploy/compose/grafana-source.yaml").read_text())
    [prometheus] = source["datasources"]
    assert prometheus["isDefault"] is True  # a variable without a value takes this one
    dashboards = [
        json.loads(path.read_text()) for path in (ROOT / "k8s/monitoring/dashboards").glob("*.json")
    ]
    assert len({each["uid"] for each in dashboards}) == len(dashboards) > 5
    for dashboard in dashboards:
        [variable] = [
            each for each in dashboard["templating"]["list"] if each["type"] == "datasource"
        ]
        assert variable["query"] == prometheus["type"]
        wanted = {"type": prometheus["type"], "uid": f"${{{variable['name']}}}"}
        panels = [each for each in dashboard["panels"] if each["type"] not in {"row", "text"}]
        assert panels, dashboard["title"]
        for panel in panels:
            asked = [panel, *panel["targets"]]
            assert [each["datasource"] for each in asked] == [wanted] * len(asked), panel["title"]
