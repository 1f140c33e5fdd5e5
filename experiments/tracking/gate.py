"""The gate in front of MLflow's server: who may call it, and for what.

MLflow's API lets whoever may create an experiment say where its files lie, and then reads and writes there as the
user who runs the server; its own accounts do not change that. So MLflow is asked nothing but what stands below, and
never for a file: those come from one folder (``Artifacts``). What is not listed is refused, so that a route that a
later MLflow adds stays closed until somebody has looked at it.
"""

from __future__ import annotations

import json
import mimetypes
import re
import urllib.parse
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import anyio.to_thread
import graphql
import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from .artifacts import Artifacts, OutsideError, relative
from .keys import Keyring, Role

_APIS = ("/api", "/ajax-api")
# What pages and clients look at; all of it is in the database.
_READS = frozenset(
    [("GET", "/"), ("GET", "/health"), ("GET", "/version"), ("POST", "/graphql")]
    + [
        (method, f"{api}/{path}")
        for api in _APIS
        for method, path in (
            ("GET", "2.0/mlflow/experiments/get"),
            ("GET", "2.0/mlflow/experiments/get-by-name"),
            ("GET", "2.0/mlflow/experiments/search"),
            ("POST", "2.0/mlflow/experiments/search"),
            ("POST", "2.0/mlflow/experiments/search-datasets"),
            ("GET", "2.0/mlflow/metrics/get-history"),
            ("GET", "2.0/mlflow/metrics/get-history-bulk"),
            ("GET", "2.0/mlflow/metrics/get-history-bulk-interval"),
            ("GET", "2.0/mlflow/runs/get"),
            ("POST", "2.0/mlflow/runs/search"),
            ("POST", "2.0/mlflow/logged-models/search"),
            ("GET", "2.0/mlflow/model-versions/search"),
            ("GET", "2.0/mlflow/registered-models/search"),
            ("GET", "3.0/mlflow/server-info"),
        )
    ]
)
# What a job tells a server. No model, no trace, no webhook: nothing with an address in it.
_WRITES = frozenset(
    ("POST", f"/api/2.0/mlflow/{path}")
    for path in (
        "experiments/create",
        "experiments/restore",
        "experiments/set-experiment-tag",
        "runs/create",
        "runs/delete",
        "runs/delete-tag",
        "runs/log-batch",
        "runs/log-inputs",
        "runs/log-metric",
        "runs/log-parameter",
        "runs/set-tag",
        "runs/update",
    )
)
# An experiment's files lie where the server puts them.
_EXPERIMENT_FIELDS = frozenset({"name", "tags"})
_QUERIES = frozenset(
    {"mlflowGetExperiment", "mlflowGetRun", "mlflowGetMetricHistoryBulkInterval", "mlflowSearchModelVersions"}
    | {"mlflowSearchRuns"}
)
_RUN_FILE = ("GET", "/get-artifact")
_RUN_FILES = frozenset(("GET", f"{api}/2.0/mlflow/artifacts/list") for api in _APIS)
_PROXIED = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts(?:/(?P<path>.+))?")
_STATIC = re.compile(r"/static-files/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)*")
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PASSED_ON = ("content-type", "content-length", "content-disposition", "etag", "last-modified", "cache-control")
_OPENED = '<!doctype html><title>MLflow</title><script>location.replace("/" + location.hash)</script>'
_MOST_BYTES = 32 * 2**20
_CHUNK = 2**20
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # MLflow's pages call nobody but this server
    "Content-Security-Policy": "connect-src 'self' blob: data:; frame-ancestors 'self'; object-src 'none'",
}


class RefusalError(Exception):
    """A request that the gate does not let through, with the status of its answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Gate:
    """An ASGI application that answers for the MLflow behind ``mlflow``, at addresses with a name in ``hosts``."""

    def __init__(
        self, mlflow: httpx.AsyncClient, *, keys: Keyring, artifacts: Artifacts, hosts: Collection[str]
    ) -> None:
        self._mlflow = mlflow
        self._keys = keys
        self._artifacts = artifacts
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        try:
            response = await self._answer(Request(scope, receive))
        except RefusalError as refusal:
            response = PlainTextResponse(f"{refusal}\n", refusal.status)
            if refusal.status == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
        except OutsideError as error:
            response = PlainTextResponse(f"{error}\n", 403)
        except FileNotFoundError:
            response = PlainTextResponse("there is no such file\n", 404)
        except httpx.HTTPError as error:
            response = PlainTextResponse(f"MLflow does not answer: {error}\n", 502)
        for name, value in _SAFE.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        self._check_addressee(request)
        if request.method == "GET" and request.scope["path"] == "/" and "token" in request.query_params:
            return self._log_in(request)
        role = self._role(request)
        route = (request.method, request.scope["path"])
        if route == _RUN_FILE:
            return self._file(await self._place(request))
        if route in _RUN_FILES:
            return await self._list_of_run(request)
        if proxied := _PROXIED.fullmatch(request.scope["path"]):
            return await self._proxied(request, proxied["path"] or "", role)
        if route in _READS or (role is Role.WRITER and route in _WRITES):
            return await self._pass_on(request)
        if request.method == "GET" and _STATIC.fullmatch(request.scope["path"]):
            return await self._pass_on(request)
        if role is Role.READER and route in _WRITES:
            raise RefusalError(403, "you may look, and not write: that is for jobs with the owner's secret")
        raise RefusalError(403, "this server shows experiments and runs, and nothing else")

    # ------------------------------------------------------------------------------------------------ who is calling

    def _check_addressee(self, request: Request) -> None:
        """Refuse what a page from elsewhere makes a browser send, under a name of its own or as another site."""
        hosts = request.headers.getlist("host")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        if re.sub(r":\d+$", "", host) not in self._hosts:
            raise RefusalError(
                403, f"this server is not called {host!r}; expected one of: {', '.join(sorted(self._hosts))}"
            )
        # an address that is typed in comes from nowhere; a link from elsewhere shows a page to nobody but the user
        own = request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        link = (request.method, request.headers.get("sec-fetch-mode")) == ("GET", "navigate")
        origin = request.headers.get("origin")
        if not (own or link) or (origin is not None and urllib.parse.urlsplit(origin).netloc.lower() != host):
            raise RefusalError(403, "another site's page may not ask this server")

    def _role(self, request: Request) -> Role:
        header = request.headers.get("authorization")
        if header is not None:
            role = self._keys.of_header(header)
            # a browser sends a password that it once was given with whatever a page asks for
            from_page = "origin" in request.headers or "sec-fetch-site" in request.headers
            if role is not None:
                return Role.READER if from_page else role
        elif self._keys.is_session(request.cookies.get(_cookie(request), "")):
            return Role.READER
        raise RefusalError(
            401, "open the address that vswin ui prints; a program sends MLFLOW_TRACKING_PASSWORD or _TOKEN"
        )

    def _log_in(self, request: Request) -> Response:
        session = self._keys.session(request.query_params["token"])
        if session is None:
            raise RefusalError(401, "this token is not of this server: open the address that vswin ui printed last")
        # A page and no redirect, which after a link on another site would go without the cookie. It takes the token out
        # of the address and of what the browser remembers, and leaves what follows #.
        answer = HTMLResponse(_OPENED, headers={"Cache-Control": "no-store"})
        answer.set_cookie(_cookie(request), session, httponly=True, samesite="strict")
        return answer

    # ---------------------------------------------------------------------------------------------------- the database

    async def _pass_on(self, request: Request) -> Response:
        """Ask MLflow what was asked, in the gate's own words: none of the caller's headers, one reading of its JSON."""
        content = None
        if request.method == "POST":
            body = await _json(request)
            if request.scope["path"] == "/graphql":
                _check_query(body)
            if request.scope["path"].endswith("/experiments/create") and not body.keys() <= _EXPERIMENT_FIELDS:
                raise RefusalError(
                    403, "an experiment's files lie where this server keeps them: leave its location out"
                )
            content = json.dumps(body).encode()
        asked = self._mlflow.build_request(
            request.method,
            request.scope["path"],
            params=str(request.query_params),
            content=content,
            headers={"Content-Type": "application/json"} if content is not None else None,
        )
        answer = await self._mlflow.send(asked, stream=True)
        headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        close = BackgroundTask(answer.aclose)
        return StreamingResponse(answer.aiter_raw(), answer.status_code, headers, background=close)

    # ----------------------------------------------------------------------------------------------------------- files

    async def _place(self, request: Request) -> PurePosixPath:
        """Where the file lies that is asked for as a path in a run."""
        return self._artifacts.within(await self._location(request), request.query_params.get("path", ""))

    async def _location(self, request: Request) -> str:
        run = request.query_params.get("run_id") or request.query_params.get("run_uuid") or ""
        if not _RUN_ID.fullmatch(run):
            raise RefusalError(400, "expected a run's id: ?run_id=...")
        answer = await self._mlflow.get("/api/2.0/mlflow/runs/get", params={"run_id": run})
        if answer.status_code != 200:
            raise RefusalError(404, f"there is no run {run}")
        return str(answer.json()["run"]["info"]["artifact_uri"])

    async def _list_of_run(self, request: Request) -> Response:
        location, path = await self._location(request), request.query_params.get("path", "")
        names = self._entries(self._artifacts.within(location, path), below=relative(*path.split("/")))
        return JSONResponse({"root_uri": location, "files": names})

    async def _proxied(self, request: Request, path: str, role: Role) -> Response:
        """Files under the names that MLflow's clients give them, without a run."""
        if request.method == "GET" and not path:
            folder = relative(*request.query_params.get("path", "").split("/"))
            return JSONResponse({"files": self._entries(folder, below=PurePosixPath())})
        if request.method == "GET":
            return self._file(relative(*path.split("/")))
        if request.method == "PUT" and path and role is Role.WRITER:
            with self._artifacts.replace(relative(*path.split("/"))) as file:
                async for chunk in request.stream():
                    await anyio.to_thread.run_sync(file.write, chunk)
            return JSONResponse({})
        raise RefusalError(403, "files may be looked at, and written by jobs with the owner's secret")

    def _entries(self, folder: PurePosixPath, *, below: PurePosixPath) -> list[dict[str, Any]]:
        return [
            {"path": str(below / entry.name), "is_dir": entry.size is None}
            | ({} if entry.size is None else {"file_size": entry.size})
            for entry in self._artifacts.entries(folder)
        ]

    def _file(self, path: PurePosixPath) -> Response:
        file = self._artifacts.open(path)
        size = file.seek(0, 2)
        file.seek(0)
        # shown by MLflow's pages or saved, but never run as a page of this server
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{urllib.parse.quote(path.name)}",
            "Content-Length": str(size),
            "Content-Security-Policy": "sandbox",
            "Cache-Control": "no-store",
        }
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return StreamingResponse(_chunks(file, size), headers=headers, media_type=kind)


def _cookie(request: Request) -> str:
    # a browser keeps cookies by host, for all its ports
    return f"vswin-{request.url.port or 80}"


async def _json(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _MOST_BYTES:
            raise RefusalError(413, f"expected at most {_MOST_BYTES // 2**20} MiB")
    try:
        body = json.loads(content or b"{}")
    except ValueError:
        raise RefusalError(400, "expected JSON") from None
    if not isinstance(body, dict):
        raise RefusalError(400, f"expected a JSON object, got {type(body).__name__}")
    return body


def _check_query(body: dict[str, Any]) -> None:
    """Refuse GraphQL that asks for anything but what stands in ``_QUERIES``: MLflow would also list files."""
    try:
        document = graphql.parse(str(body.get("query", "")))
    except graphql.GraphQLError as error:
        raise RefusalError(400, f"expected GraphQL: {error.message}") from None
    for definition in document.definitions:
        if isinstance(definition, graphql.FragmentDefinitionNode):
            # of use below a query's own fields only
            continue
        if not isinstance(definition, graphql.OperationDefinitionNode):
            raise RefusalError(403, "expected GraphQL queries, and fragments of what they give")
        for field in definition.selection_set.selections:
            asked = field.name.value if isinstance(field, graphql.FieldNode) else "a fragment"
            if definition.operation is not graphql.OperationType.QUERY or asked not in _QUERIES:
                raise RefusalError(403, f"GraphQL may not ask for {asked} here")


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The content of ``file`` when it was opened: a log may grow while it is read."""
    with file:
        while size > 0 and (chunk := file.read(min(size, _CHUNK))):
            size -= len(chunk)
            yield chunk
