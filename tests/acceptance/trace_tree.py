"""A trace as a tree: to look at, and to compare with what the documentation shows."""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from otlp_receiver import OtlpReceiver, SpanRecord

from headrace_local.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "trace.md"
_LINE = re.compile(r"(?P<indent> *)(?P<name>.+?) {2,}(?P<service>\S+) +(?P<kind>\S+) +-?\d.*")


@dataclass
class Node:
    """A span with what it led to."""

    span: SpanRecord
    children: list["Node"] = field(default_factory=list)

    @property
    def label(self) -> tuple[str, str, str]:
        return self.span.name, self.span.service, self.span.kind

    def walk(self, depth: int = 0) -> Iterator[tuple[int, "Node"]]:
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)

    def find(self, name: str, service: str | None = None) -> list["Node"]:
        return [
            node
            for _, node in self.walk()
            if node.span.name == name and service in {None, node.span.service}
        ]


def tree_of(spans: list[SpanRecord], *, root_parent: str) -> Node:
    """Return the tree of a trace that hangs under the span `root_parent`, which is not in it.

    Every span must be in it.
    """
    nodes = {span.span_id: Node(span) for span in spans}
    assert len(nodes) == len(spans), "a span came twice"
    roots = []
    for node in nodes.values():
        if (parent := nodes.get(node.span.parent_id)) is not None:
            parent.children.append(node)
        else:
            assert node.span.parent_id == root_parent, f"{node.label} has no parent in the trace"
            roots.append(node)
    first = min(span.start for span in spans)
    last = max(span.end for span in spans)
    outside = SpanRecord(
        spans[0].trace_id, root_parent, "", "client", "client", "-", first, last, {}, [], [], False
    )
    return Node(outside, roots)


def whole_tree(receiver: OtlpReceiver, trace: str, root_parent: str, *needed: str) -> Node:
    """Wait for a trace to be whole: no parent is missing, nor the work on anything sent.

    Args:
        receiver: gets it.
        trace: its id.
        root_parent: id of the span that began it, which is not in it.
        needed: names of spans, and statuses of the job, that must be there, as often as here.
    """

    def is_whole(spans: list[SpanRecord]) -> bool:
        known = {span.span_id for span in spans} | {root_parent}
        statuses = [told.get("headrace.job.status") for span in spans for _, told in span.events]
        names = [span.name for span in spans]
        sent = {span.span_id for span in spans if span.kind == "producer" or _is_webhook(span)}
        taken = {span.parent_id for span in spans if span.kind in {"consumer", "server"}}
        whole = {span.parent_id for span in spans} <= known and sent <= taken
        return whole and Counter(needed) <= Counter([*names, *statuses])

    spans = wait_until(lambda: receiver.of_trace(trace), is_whole, seconds=120)
    return tree_of(spans, root_parent=root_parent)


def _is_webhook(span: SpanRecord) -> bool:
    return "/webhooks/" in span.attributes.get("url.full", "")


def render(tree: Node) -> str:
    """Write a trace, a span a line: its name, service, kind, beginning and duration."""
    rows = [(depth, node.span) for depth, node in tree.walk()]
    name_width = max(2 * depth + len(span.name) for depth, span in rows) + 2
    service_width = max(len(span.service) for _, span in rows) + 1
    zero = tree.span.start
    return "\n".join(
        f"{' ' * (2 * depth) + span.name:{name_width}}{span.service:{service_width}}{span.kind:9}"
        f"{(span.start - zero) * 1000:7.0f} +{(span.end - span.start) * 1000:.0f} ms"
        for depth, span in rows
    )


def show(tree: Node) -> None:
    """Print a trace, for whoever runs the test with `-s`, or wants to know why it failed."""
    sys.stdout.write(f"\n{render(tree)}\n")


def documented(heading: str, number: int = 0) -> set[tuple[tuple[str, str, str], ...]]:
    """Return every path from the root, as names, services and kinds, that the page shows.

    Args:
        heading: of the section.
        number: of the tree in it, from 0.
    """
    section = PAGE.read_text().split(f"\n## {heading}\n")[1]
    block = section.split("```")[2 * number + 1].partition("\n")[2]
    paths: set[tuple[tuple[str, str, str], ...]] = set()
    open_path: list[tuple[str, str, str]] = []
    for line in block.splitlines():
        found = _LINE.fullmatch(line)
        assert found is not None, line
        depth = len(found["indent"]) // 2
        open_path = [*open_path[:depth], (found["name"], found["service"], found["kind"])]
        paths.add(tuple(open_path))
    return paths


def paths_of(tree: Node) -> set[tuple[tuple[str, str, str], ...]]:
    """Return every path from the root of a tree."""
    paths: set[tuple[tuple[str, str, str], ...]] = set()
    open_path: list[tuple[str, str, str]] = []
    for depth, node in tree.walk():
        open_path = [*open_path[:depth], node.label]
        paths.add(tuple(open_path))
    return paths
