"""Views of a table's runs that MLflow's UI offers by name: filter, grouping by row, and columns.

The UI keeps a view as a tag of the experiment and opens it by its key in the address. Source of the format: mlflow
3.17, ``ExperimentPageUIState.tsx`` and pull request 24359 (an envelope of name, dates and state, in JSON).
"""

from __future__ import annotations

import base64
import json
import urllib.parse
import zlib
from typing import Any

from ..registry.recipe import Scale
from ..registry.table import Table
from . import summaries
from .card import differs_tag

TAG_PREFIX = "mlflow.sharedViewState."
# The tag must be the same whoever writes it, whenever: no date of writing.
_CREATED = 1767225600000
_SECTION = "vswin"
_RUNS_IN_CHARTS = 100
# Always there, and a width counts only for a column whose place is said.
_FIRST_COLUMNS = ("attributes.`Run Name`", "runDateAndNestInfo")
_CURVES = ("train/loss", "val/top1", "train/lr", "speed/clips_per_second", "memory/peak_gib")


def key(table: Table) -> str:
    """The view's key, as in ``?viewStateShareKey=table4``."""
    return table.id


def row_filter(table: Table) -> str:
    """The search that shows the rows of ``table`` and nothing else."""
    # quoted: the id may have a dash
    return f"tags.`{table.id}` LIKE '%'"


def rows_key(table: Table) -> str:
    """The key of the view that has a line for each row, as in ``?viewStateShareKey=table4-rows``."""
    return f"{table.id}-rows"


def tag(table: Table, scale: Scale) -> tuple[str, str]:
    """The experiment's tag that holds the view of ``table``, as (key, value); the value is always the same."""
    return TAG_PREFIX + key(table), _envelope(f"{table.id}: {table.caption}", _state(table, scale))


def rows_tag(table: Table) -> tuple[str, str]:
    """As ``tag``, of the view that shows ``table`` itself: one line a row, mean ± interval beside the paper's."""
    return TAG_PREFIX + rows_key(table), _envelope(f"{table.id}, row by row: {table.caption}", _rows_state(table))


def _envelope(name: str, state: dict[str, Any]) -> str:
    # MLflow bounds such a tag, and shows the list of views without inflating any
    packed = zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)
    envelope = {
        "name": name,
        "createdAt": _CREATED,
        "updatedAt": _CREATED,
        "state": f"deflate;{base64.b64encode(packed).decode()}",
    }
    return json.dumps(envelope, separators=(",", ":"))


def address(root: str, *, experiment: str, table: Table | None) -> str:
    """The page of an MLflow experiment; of ``table``, its view: grouped by row, and with its columns.

    ``root`` is the server's first page, ``http://HOST/``, perhaps with a ``?token=``.
    """
    return _page(root, experiment, **({"viewStateShareKey": key(table)} if table else {}))


def rows_address(root: str, *, experiment: str, table: Table) -> str:
    """As ``address``, of the view with a line for each row."""
    return _page(root, experiment, viewStateShareKey=rows_key(table))


def filtered_address(root: str, *, experiment: str, table: Table) -> str:
    """As ``address``, with nothing but the filter: every run a line of its own."""
    return _page(root, experiment, searchFilter=row_filter(table))


def _page(root: str, experiment: str, **state: str) -> str:
    # the UI otherwise shows what it has for language models around the page
    state = {"workflowType": "machine_learning", **state}
    return f"{root}#/experiments/{experiment}/runs?{urllib.parse.urlencode(state, quote_via=urllib.parse.quote)}"


def _state(table: Table, scale: Scale) -> dict[str, Any]:
    isolated = sorted({path for block in table.blocks for path in block.isolates})
    views = sorted({f"{protocol.clips}x{protocol.crops}" for protocol in _protocols(table, scale)})
    columns = [
        *(_column("metrics", f"test/{view}/{top}") for view in views for top in ("top1", "top5")),
        _column("tags", differs_tag(table.id)),
        "attributes.`Duration`",
        *(_column("metrics", name) for name in _CURVES),
        *(_column("params", path) for path in isolated),
    ]
    curves = [_chart("LINE", name) for name in _CURVES]
    results = [_chart("BAR", f"test/{view}/top1") for view in views]
    return {
        # rows' names begin with their number: the paper's order
        **_search(row_filter(table), order=_column("tags", table.id)),
        "selectedColumns": columns,
        "columnOrder": [*_FIRST_COLUMNS, *columns],
        "columnWidths": {_FIRST_COLUMNS[0]: 320, _column("tags", differs_tag(table.id)): 260},
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": table.id}]},
        "useGroupedValuesInCharts": True,
        # the default draws the first ten
        "runsHiddenMode": "SHOW_ALL",
        # the UI adds the charts of all other metrics below
        "compareRunSections": [{"uuid": _SECTION, "name": table.id, "display": True, "isReordered": True}],
        "compareRunCharts": [*results, *curves],
        "isAccordionReordered": True,
    }


def _rows_state(table: Table) -> dict[str, Any]:
    columns = [_column("tags", name) for name in summaries.COLUMNS]
    widths = {_FIRST_COLUMNS[0]: 380, **dict.fromkeys(columns, 130)}
    return {
        **_search(
            f"tags.`{summaries.TABLE_TAG}` = '{table.id}'",
            order=_column("tags", summaries.ROW_TAG),
        ),
        "selectedColumns": columns,
        "columnOrder": [*_FIRST_COLUMNS, *columns],
        "columnWidths": {**widths, _column("tags", "row.verdict"): 260},
        "groupBy": None,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [{"uuid": _SECTION, "name": table.id, "display": True, "isReordered": True}],
        "compareRunCharts": [_chart("BAR", name) for name in summaries.METRICS],
        "isAccordionReordered": True,
    }


def _search(query: str, *, order: str) -> dict[str, Any]:
    return {
        "searchFilter": query,
        "orderByKey": order,
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
    }


def _chart(kind: str, metric: str) -> dict[str, Any]:
    chart: dict[str, Any] = {"uuid": f"vswin-{metric}", "type": kind, "metricKey": metric, "metricSectionId": _SECTION}
    chart |= {"deleted": False, "isGenerated": False, "runsCountToCompare": _RUNS_IN_CHARTS}
    if kind == "LINE":
        chart |= {"selectedMetricKeys": [metric], "xAxisKey": "step", "useGlobalXaxisKey": True}
        chart |= {"scaleType": "linear", "xAxisScaleType": "linear", "lineSmoothness": 0, "yAxisKey": "metric"}
        chart |= {"yAxisExpressions": [], "selectedXAxisMetricKey": "", "useGlobalLineSmoothing": True, "range": {}}
    return chart


def _protocols(table: Table, scale: Scale) -> list[Any]:
    return [variant.at(scale).protocol for variant in table.at(scale)]


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"
