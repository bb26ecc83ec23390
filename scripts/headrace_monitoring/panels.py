"""Panels, as short as this project wants them; the library writes them as Grafana reads them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from grafana_foundation_sdk.builders import common, stat, text, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard as DashboardBuilder
from grafana_foundation_sdk.builders.dashboard import (
    DashboardLink,
    DatasourceVariable,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.dashboard import Row as RowBuilder
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

_TAG: Final = "headrace"
_DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT: Final = 8
_STAT_HEIGHT: Final = 4
#: Grafana's own for the shortest window in which a rate makes sense.
RATE: Final = "[$__rate_interval]"
_BY: Final = re.compile(r"by \((\w+)")


class Unit(StrEnum):
    """What an axis counts, by Grafana's names."""

    COUNT = "short"
    SECONDS = "s"
    BYTES = "bytes"
    BYTES_RATE = "Bps"
    PER_SECOND = "ops"
    REQUESTS = "reqps"
    RATIO = "percentunit"
    FLAG = "bool_yes_no"


@dataclass(frozen=True)
class Query:
    """An expression, and what its series are called."""

    expr: str
    legend: str = ""

    def built(self, ref: str, *, instant: bool) -> Dataquery:
        """Return it as the library wants it."""
        query = Dataquery().expr(self.expr).ref_id(ref).datasource(_DATASOURCE)
        query = query.legend_format(self.legend or "__auto")
        return query.instant() if instant else query.range()


@dataclass(frozen=True)
class Graph:
    """Lines over time.

    Attributes:
        queries: each may have many series.
        meaning: what one looks for in it.
        width: of 24.
        stacked: the series are parts of a whole.
        most: of the axis.
        red_from: a dashed line is drawn there: above it somebody is to look.
    """

    title: str
    queries: Sequence[Query]
    unit: Unit
    meaning: str
    width: int = 8
    stacked: bool = False
    most: float | None = None
    red_from: float | None = None

    def built(self) -> timeseries.Panel:
        """Return it as the library wants it."""
        legend = common.VizLegendOptions().show_legend(show_legend=True)
        legend = legend.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        panel = timeseries.Panel().title(self.title).description(self.meaning).unit(self.unit)
        panel = panel.datasource(_DATASOURCE).span(self.width).height(_HEIGHT).min(0)
        panel = panel.legend(legend).fill_opacity(20 if self.stacked else 5)
        if self.stacked:
            panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
        if self.most is not None:
            panel = panel.max(self.most)
        if self.red_from is not None:
            style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
            panel = panel.thresholds(_thresholds(red_from=self.red_from)).thresholds_style(style)
        for ref, query in zip("ABCDEFGH", self.queries, strict=False):
            panel = panel.with_target(query.built(ref, instant=False))
        return panel


@dataclass(frozen=True)
class Number:
    """One number, green until it reaches a limit."""

    title: str
    query: Query
    unit: Unit
    meaning: str
    red_from: float | None = None
    green_from: float | None = None
    width: int = 4

    def built(self) -> stat.Panel:
        """Return it as the library wants it."""
        thresholds = _thresholds(red_from=self.red_from, green_from=self.green_from)
        # Otherwise it is the very last point, which a scrape that is late leaves out.
        reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
        panel = stat.Panel().title(self.title).description(self.meaning).unit(self.unit)
        panel = panel.datasource(_DATASOURCE).span(self.width).height(_STAT_HEIGHT)
        panel = panel.thresholds(thresholds).graph_mode(BigValueGraphMode.AREA)
        panel = panel.color_mode(BigValueColorMode.VALUE).reduce_options(reduced)
        return panel.with_target(self.query.built("A", instant=False))

    @property
    def queries(self) -> Sequence[Query]:
        """Its only one."""
        return [self.query]


@dataclass(frozen=True)
class Note:
    """A text, in Markdown."""

    title: str
    content: str
    width: int = 24

    def built(self) -> text.Panel:
        """Return it as the library wants it."""
        return text.Panel().title(self.title).content(self.content).span(self.width).height(5)

    @property
    def queries(self) -> Sequence[Query]:
        """None."""
        return []


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Graph | Number | Note]


@dataclass(frozen=True)
class Board:
    """A dashboard.

    Attributes:
        name: of its file, and its address in Grafana.
        title: for people.
        meaning: what it answers.
    """

    name: str
    title: str
    meaning: str
    rows: Sequence[Row]

    def expressions(self) -> Iterator[tuple[str, str]]:
        """Yield every panel's title with each of its expressions."""
        for row in self.rows:
            for panel in row.panels:
                for query in panel.queries:
                    yield panel.title, query.expr

    def as_json(self) -> str:
        """Return the file."""
        links = DashboardLink("Headrace").type(DashboardLinkType.DASHBOARDS).tags([_TAG])
        links = links.as_dropdown(as_dropdown=True).keep_time(keep_time=True)
        board = DashboardBuilder(f"Headrace / {self.title}").uid(f"headrace-{self.name}")
        board = board.description(self.meaning).tags([_TAG]).time("now-3h", "now").refresh("30s")
        board = board.timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR).link(links)
        board = board.with_variable(
            DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
        for row in self.rows:
            board = board.with_row(RowBuilder(row.title))
            for panel in row.panels:
                board = board.with_panel(panel.built())
        return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _thresholds(
    *, red_from: float | None = None, green_from: float | None = None
) -> ThresholdsConfig:
    steps = [Threshold(value=None, color="green" if green_from is None else "red")]
    if red_from is not None:
        steps.append(Threshold(value=red_from, color="red"))
    if green_from is not None:
        steps.append(Threshold(value=green_from, color="green"))
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def quantile(share: float, histogram: str, *by: str, where: str = "") -> str:
    """Return the expression of a quantile of a histogram."""
    labels = ", ".join(("le", *by))
    chosen = f"{{{where}}}" if where else ""
    return (
        f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket{chosen}{RATE})))"
    )


def rate(counter: str, *by: str, where: str = "") -> str:
    """Return the expression of the rate of a counter."""
    chosen = f"{{{where}}}" if where else ""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate({counter}{chosen}{RATE}))"


def or_none(expr: str) -> str:
    """Return the expression of something that may not happen at all: that is 0, not a gap."""
    by = _BY.search(expr)
    zero = f'label_replace(vector(0), "{by[1]}", "none", "", "")' if by else "vector(0)"
    # `on ()`: only where there is nothing else, whatever its labels.
    return f"{expr} or on () {zero}"
