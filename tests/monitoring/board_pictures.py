"""Draws a dashboard's JSON as Grafana would, from what a Prometheus answers.

No package has a Grafana server, so that this stands for it: each panel at its place, with its
title, unit, legend and thresholds, and with real samples. What it cannot show is Grafana itself.
"""

import io
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from board_units import written
from headrace_monitoring.panels import RATE
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageColor
from prometheus_server import Line, Prometheus

#: Pixels: of a column and of a row of Grafana's grid, which has 24 columns.
_COLUMN: Final = 62
_ROW: Final = 30
_GAP: Final = 5
_HEAD: Final = 46
_DPI: Final = 100
_COLOURS: Final = (
    *("#3f833d", "#b58900", "#1f60c4", "#e0752d", "#bf1b00", "#890f02", "#0a437c", "#6d1f62"),
    *("#584477", "#2f575e", "#99440a", "#5195ce"),
)
#: Between the left of a panel and its axes, and lines of names under it that there is room for.
_LEFT: Final = 54
_LEGEND_ROWS: Final = 4
_LABEL: Final = re.compile(r"\{\{(\w+)\}\}")
_BACKGROUND: Final = "#f4f5f5"
_NAMES: Final = {"green": "#3f833d", "red": "#c4162a"}


@dataclass
class Picture:
    """One dashboard over a span of time.

    Attributes:
        start: Unix time of its left end.
        end: of its right end.
        window: what stands for Grafana's interval of rates.
        empty: titles of the panels that had nothing to show.
    """

    server: Prometheus
    start: float
    end: float
    window: str
    empty: list[str] = field(default_factory=list)

    @property
    def step(self) -> float:
        """Seconds between two points: what fits a panel."""
        return max(2.0, round((self.end - self.start) / 150))

    def draw(self, file: str) -> Image.Image:
        """Draw what the file of a dashboard says; `empty` has what it lacks."""
        board = json.loads(file)
        panels = board["panels"]
        rows = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels)
        width, height = 24 * _COLUMN, rows * _ROW + _HEAD
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=_BACKGROUND)
        FigureCanvasAgg(figure)
        sheet = _Sheet(figure, width, height)
        span = f"{datetime.fromtimestamp(self.start, UTC):%Y-%m-%d %H:%M} to "
        span += f"{datetime.fromtimestamp(self.end, UTC):%H:%M} UTC"
        sheet.text(12, 12, board["title"], size=14, weight="bold")
        sheet.text(width - 12, 16, span, size=9, ha="right", color="#555555")
        for panel in panels:
            self._panel(sheet, panel)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=_DPI)
        # Few colours make a small file; they are those that there are, lighter or darker.
        return (
            Image.open(picture)
            .convert("RGB")
            .quantize(palette=_palette(), dither=Image.Dither.NONE)
        )

    def _panel(self, sheet: "_Sheet", panel: Mapping[str, Any]) -> None:
        at = panel["gridPos"]
        x, y = at["x"] * _COLUMN, at["y"] * _ROW + _HEAD
        width, height = at["w"] * _COLUMN, at["h"] * _ROW
        if panel["type"] == "row":
            sheet.text(x + 10, y + 8, panel["title"], size=11, weight="bold")
            return
        sheet.box(x + _GAP, y + _GAP / 2, width - 2 * _GAP, height - _GAP)
        sheet.text(x + 14, y + 9, panel["title"], size=9, weight="bold")
        if panel["type"] == "text":
            text = "\n".join(
                textwrap.fill(line, 200)
                for line in panel["options"]["content"].replace("`", "").splitlines()
            )
            sheet.text(x + 14, y + 32, text, size=9)
            return
        lines = self._lines(panel)
        if not lines:
            self.empty.append(panel["title"])
            sheet.text(x + width / 2, y + height / 2, "No data", size=11, ha="center")
        elif panel["type"] == "stat":
            _stat(sheet.axes(x + 12, y + 30, width - 24, height - 40), panel, lines[0][1])
        else:
            axes = sheet.axes(x + 66, y + 32, width - 84, height - 100)
            _graph(axes, panel, lines, (self.start, self.end))

    def _lines(self, panel: Mapping[str, Any]) -> list[tuple[str, Line]]:
        """Return the panel's lines with what its legend calls them."""
        found = []
        for target in panel["targets"]:
            expr = target["expr"].replace(RATE, self.window)
            lines = self.server.lines(expr, start=self.start, end=self.end, step=self.step)
            found += [(_legend(target["legendFormat"], line, expr), line) for line in lines]
        return found


def _palette() -> Image.Image:
    """Return a picture with every colour over white in six strengths, and with greys."""
    greys = [(grey, grey, grey) for grey in range(0, 256, 15)]
    shades = [
        tuple(round(255 - strength * (255 - value)) for value in ImageColor.getrgb(colour))
        for colour in (*_COLOURS, *_NAMES.values())
        for strength in (0.05, 0.12, 0.25, 0.5, 0.75, 1)
    ]
    found = [ImageColor.getrgb(_BACKGROUND), *greys, *shades]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for colour in found for value in colour])
    return palette


class _Sheet:
    """A figure that is drawn on in pixels from its upper left."""

    def __init__(self, figure: Figure, width: float, height: float) -> None:
        self._figure, self._width, self._height = figure, width, height

    def text(self, x: float, y: float, text: str, *, size: float, **more: Any) -> None:
        place = (x / self._width, 1 - y / self._height)
        # Dollars are no formulas.
        self._figure.text(*place, text, fontsize=size, va="top", parse_math=False, **more)

    def box(self, x: float, y: float, width: float, height: float) -> None:
        left, bottom, *size = self._place(x, y, width, height)
        frame = Rectangle(
            (left, bottom),
            *size,
            facecolor="white",
            edgecolor="#d8d9da",
            linewidth=0.8,
            transform=self._figure.transFigure,
            zorder=-1,
        )
        self._figure.add_artist(frame)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        return self._figure.add_axes(self._place(x, y, width, height))

    def _place(
        self, x: float, y: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        bottom = 1 - (y + height) / self._height
        return x / self._width, bottom, width / self._width, height / self._height


def _legend(pattern: str, line: Line, expr: str) -> str:
    if pattern != "__auto":
        return _LABEL.sub(lambda found: line.labels.get(found[1], ""), pattern).strip()
    labels = {name: value for name, value in line.labels.items() if name != "__name__"}
    inside = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return (
        f"{{{inside}}}"
        if labels
        else line.labels.get("__name__", expr if len(expr) < 40 else "none")
    )


def _limits(panel: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Return from which value a panel has which colour."""
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    return [
        (float("-inf") if each["value"] is None else each["value"], _NAMES[each["color"]])
        for each in steps
    ]


def _stat(axes: Axes, panel: Mapping[str, Any], line: Line) -> None:
    last = line.values[-1]
    colour = [colour for value, colour in _limits(panel) if value <= last][-1]
    axes.set_axis_off()
    axes.fill_between(line.times, line.values, color=colour, alpha=0.12, linewidth=0)
    axes.plot(line.times, line.values, color=colour, alpha=0.5, linewidth=0.8)
    axes.set_ylim(0, 2.6 * max(*line.values, 1e-9))
    shown = written(last, panel["fieldConfig"]["defaults"]["unit"])
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.68, shown, fontsize=19, color=colour, weight="bold", **place)


def _graph(
    axes: Axes, panel: Mapping[str, Any], lines: list[tuple[str, Line]], span: tuple[float, float]
) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults.get("custom", {})
    if custom.get("stacking", {}).get("mode") == "normal":
        _stacked(axes, lines)
    else:
        for number, (name, line) in enumerate(lines):
            colour = _COLOURS[number % len(_COLOURS)]
            marker = "." if len(line.times) < 3 else ""
            axes.plot(line.times, line.values, color=colour, linewidth=1, label=name, marker=marker)
            axes.fill_between(line.times, line.values, color=colour, alpha=0.05, linewidth=0)
    unit, most = defaults["unit"], defaults.get("max")
    highest = most if most is not None else 1.05 * max(axes.get_ylim()[1], 1e-9)
    if "thresholdsStyle" in custom:
        for value, colour in _limits(panel):
            if 0 < value <= highest:
                axes.axhline(value, color=colour, linewidth=0.9, linestyle="--")
    # So much below that a line at nothing is seen.
    axes.set_ylim(-0.02 * highest, highest)
    axes.set_xlim(*span)
    axes.yaxis.set_major_formatter(lambda value, _: written(value, unit))
    axes.xaxis.set_major_formatter(lambda at, _: f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}")
    axes.locator_params(axis="both", nbins=4)
    axes.tick_params(labelsize=7, length=0, colors="#555555")
    axes.grid(color="#e4e5e6", linewidth=0.6)
    for side in axes.spines.values():
        side.set_visible(False)
    _name(axes)


def _stacked(axes: Axes, lines: list[tuple[str, Line]]) -> None:
    times = sorted({at for _, line in lines for at in line.times})
    below = [0.0] * len(times)
    for number, (name, line) in enumerate(lines):
        values = dict(zip(line.times, line.values, strict=True))
        above = [low + values.get(at, 0) for low, at in zip(below, times, strict=True)]
        colour = _COLOURS[number % len(_COLOURS)]
        axes.fill_between(times, below, above, color=colour, alpha=0.25, linewidth=0)
        axes.plot(times, above, color=colour, linewidth=1, label=name)
        below = above


def _name(axes: Axes) -> None:
    """Write what the lines are called under them, and how many more there are."""
    handles, names = axes.get_legend_handles_labels()
    width = axes.bbox.width + _LEFT
    columns = max(1, int(width / (34 + 4.2 * max(map(len, names)))))
    room = columns * _LEGEND_ROWS
    if len(names) > room:
        names = [*names[: room - 1], f"and {len(names) - room + 1} more"]
        handles = handles[:room]
    legend = axes.legend(
        handles,
        names,
        loc="upper left",
        bbox_to_anchor=(-_LEFT / axes.bbox.width, -20 / axes.bbox.height),
        fontsize=6,
        frameon=False,
        ncols=min(columns, len(names)),
        columnspacing=1,
        handlelength=1,
        labelspacing=0.15,
        borderaxespad=0,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
