"""Attacks on what ``vswin ui`` and the cluster's server job serve: by another user, by a colleague, by a web page."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from experiments.registry.recipe import Scale
from experiments.tracking.mirror import experiment_name
from tests.support.command_line import vswin_command
from tests.support.made_up_runs import make_up_run
from tests.support.mlflow_pages import a_page, addresses
from tests.support.mlflow_points import client, journal_points, mlflow_points, mlflow_run
from tests.support.places import CLONE
from tests.support.tracking_attacker import DOOR, KEY, basic
from tests.support.tracking_servers import ServerJob, free_port, postgres

# a server starts for the first test, and slowly on a machine with other work
pytestmark = pytest.mark.timeout(900)

SUPPORT = CLONE / "tests" / "support"
NOBODY = 65534
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
PROXIED = ("/api/2.0/mlflow-artifacts/artifacts", "/ajax-api/2.0/mlflow-artifacts/artifacts")
# What a reader may ask; any stands for what a path leaves open.
SHOWN = {
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/version"),
    ("GET", "/static-files/any"),
    ("GET", "/get-artifact"),
    ("POST", "/graphql"),
    *(("GET", path) for path in PROXIED),
    *(("GET", f"{path}/any") for path in PROXIED),
    *(
        (method, f"{api}/{path}")
        for api in ("/api", "/ajax-api")
        for method, path in (
            ("GET", "2.0/mlflow/artifacts/list"),
            ("GET", "2.0/mlflow/experiments/get"),
            ("GET", "2.0/mlflow/experiments/get-by-name"),
            ("GET", "2.0/mlflow/experiments/search"),
            ("POST", "2.0/mlflow/experiments/search"),
            ("GET", "2.0/mlflow/metrics/get-history"),
            ("GET", "2.0/mlflow/metrics/get-history-bulk-interval"),
            ("GET", "2.0/mlflow/model-versions/search"),
            ("GET", "2.0/mlflow/registered-models/search"),
            ("GET", "2.0/mlflow/runs/get"),
            ("GET", "3.0/mlflow/server-info"),
            ("POST", "2.0/mlflow/logged-models/search"),
            ("POST", "2.0/mlflow/runs/search"),
        )
    ),
    ("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk"),
    ("POST", "/ajax-api/2.0/mlflow/experiments/search-datasets"),
}
# What a job may, too.
WRITTEN = {
    *(("PUT", f"{path}/any") for path in PROXIED),
    *(
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
    ),
}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@dataclass(frozen=True)
class Ui:
    """A ``vswin ui`` that runs: its address, and the token that it printed."""

    root: str
    token: str
    runs: Path

    @contextlib.contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """A browser that has opened the address."""
        with httpx.Client(base_url=self.root, timeout=60, follow_redirects=True) as browser:
            assert browser.get(f"/?token={self.token}").status_code == 200
            yield browser


@pytest.fixture(scope="module")
def ui() -> Iterator[Ui]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSWIN_RUNS", folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        make_up_run("table4/split")
        subprocess.run(vswin_command("sync", "--scale", "tiny"), check=True)
        with addresses("table4", "--scale", "tiny", "--port", str(free_port())) as (view, *_):
            root, _, token = view.partition("#")[0].partition("/?token=")
            yield Ui(root, token, Path(folder))


@pytest.fixture
def owners(tmp_path: Path) -> Path:
    """A folder of the server's owner, closed to everybody else, with a private key in it."""
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    (folder / KEY).write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    return folder


def attack(address: str, owners: Path, authorization: str = "") -> list[int]:
    """Attack as another user of the machine; nothing is read or written, and the statuses come back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, NOBODY, NOBODY)
        # MLflow, as the owner, may look and write here
        folder.chmod(0o777)
        program = folder / "attacker.py"
        shutil.copy(SUPPORT / "tracking_attacker.py", program)
        # the system's: another user may not run this environment's
        answer = subprocess.run(
            ["/usr/bin/python3", program, address, folder, owners],
            env={"ATTACKER_AUTHORIZATION": authorization},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert report["read"] == []
    assert [path.name for path in owners.iterdir()] == [KEY]
    assert not list(Path("/tmp").glob(DOOR))
    return list(report["statuses"].values())


# ------------------------------------------------------------------------------------------------------------ vswin ui


@needs_root
def test_another_user_gets_nothing_out_of_the_ui(ui: Ui, owners: Path) -> None:
    statuses = attack(ui.root, owners)
    assert len(statuses) > 50
    assert set(statuses) == {401}
    assert set(attack(ui.root, owners, "Bearer wrong")) == {401}


@needs_root
def test_who_has_the_token_of_the_ui_still_reaches_no_file(ui: Ui, owners: Path) -> None:
    statuses = attack(ui.root, owners, f"Bearer {ui.token}")
    assert 200 not in statuses
    assert 403 in statuses


@pytest.fixture(scope="module")
def routes() -> list[str]:
    program = [sys.executable, SUPPORT / "tracking_routes.py"]
    found: list[str] = json.loads(subprocess.run(program, check=True, capture_output=True).stdout)
    assert len(found) > 200
    return found


@pytest.mark.parametrize("authorization", [None, "Bearer wrong"])
def test_no_route_of_mlflow_answers_without_the_token(ui: Ui, routes: list[str], authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    with httpx.Client(base_url=ui.root, headers=headers, timeout=60) as stranger:
        answers = {(method, path): stranger.request(method, path).status_code for path in routes for method in METHODS}
    assert set(answers.values()) == {401}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Token {token}"},
        {"Authorization": "Basic {token}"},
        {"Authorization": "Basic eW91Og=="},
        {"Cookie": "{cookie}="},
        {"Cookie": "{cookie}={token}"},
        {"Cookie": "token={token}"},
        {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-User": "you"},
    ],
)
def test_nothing_but_the_token_opens_the_ui(ui: Ui, headers: dict[str, str]) -> None:
    cookie = f"vswin-{urllib.parse.urlsplit(ui.root).port}"
    sent = {name: value.format(token=ui.token, cookie=cookie) for name, value in headers.items()}
    with httpx.Client(base_url=ui.root, headers=sent, timeout=60) as stranger:
        for path in ("/", "/health", "/?token=", f"/?token={ui.token[:-1]}", f"/health?token={ui.token}"):
            assert stranger.get(path).status_code == 401


def test_a_reader_is_refused_every_route_that_is_not_shown(ui: Ui, routes: list[str]) -> None:
    with ui.browser() as browser:
        assert allowed(browser, routes) == {(method, path) for method, path in SHOWN if path in routes}


def allowed(caller: httpx.Client, routes: list[str]) -> set[tuple[str, str]]:
    return {
        (method, path)
        for path in routes
        for method in METHODS
        if caller.request(method, path, json={} if method == "POST" else None).status_code != 403
    }


@pytest.mark.parametrize(
    "path",
    [
        "//ajax-api/2.0/mlflow/experiments/create",
        "/ajax-api//2.0/mlflow/experiments/create",
        "/ajax-api/2.0/mlflow/experiments/create/",
        "/ajax-api/2.0/mlflow/experiments/create;x=/experiments/search",
        "/ajax-api/2.0/mlflow/experiments/search/../create",
        "/ajax-api/2.0/mlflow/experiments/search/..;/create",
        "/ajax-api/2.0/mlflow/experiments/search/%2e%2e/create",
        "/ajax-api/2.0/mlflow/experiments/search%2f..%2fcreate",
        "/ajax-api/2.0/mlflow/experiments/%63reate",
        "/ajax-api/2.0/mlflow/experiments/%2563reate",
        "/ajax-api/2.0/mlflow/experiments/create%00",
        "/ajax-api/2.0/mlflow/experiments/create?/experiments/search",
        "/AJAX-API/2.0/MLFLOW/EXPERIMENTS/CREATE",
        "/static-files/../ajax-api/2.0/mlflow/experiments/create",
        "/static-files/..%2fajax-api/2.0/mlflow/experiments/create",
        "\\ajax-api\\2.0\\mlflow\\experiments\\create",
        "http://127.0.0.1/ajax-api/2.0/mlflow/experiments/create",
        "*",
    ],
)
def test_no_spelling_of_a_path_gets_past(ui: Ui, path: str) -> None:
    cases = [
        ("POST", {}),
        ("GET", {}),
        ("GET", {"X-HTTP-Method-Override": "POST", "X-Method-Override": "POST"}),
        ("POST", {"X-Forwarded-Prefix": "/x", "X-Original-URL": "/health", "X-Rewrite-URL": "/health"}),
    ]
    for method, headers in cases:
        assert raw(ui, method, path, headers, json.dumps({"name": "intruder"})) in (400, 403, 404), (method, path)
    assert "intruder" not in experiments_of(ui)


def raw(ui: Ui, method: str, target: str, headers: dict[str, str], body: str = "", host: str | None = None) -> int:
    """The status of a request whose target no library has put in order."""
    netloc = urllib.parse.urlsplit(ui.root).netloc
    name, _, port = netloc.partition(":")
    head = {
        "Host": host or netloc,
        "Authorization": f"Bearer {ui.token}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    lines = [f"{method} {target} HTTP/1.1", *(f"{key}: {value}" for key, value in head.items() if value), "", body]
    with socket.create_connection((name, int(port)), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode())
        answer = connection.makefile("rb").readline()
    return int(answer.split()[1])


def experiments_of(ui: Ui) -> set[str]:
    with ui.browser() as browser:
        answer = browser.get("/api/2.0/mlflow/experiments/search", params={"max_results": 1000, "view_type": "ALL"})
    return {item["name"] for item in answer.json()["experiments"]}


def test_other_sites_do_not_get_past_the_browser(ui: Ui) -> None:
    search = "/ajax-api/2.0/mlflow/experiments/search"
    with ui.browser() as browser:
        body = {"max_results": 1}
        assert browser.post(search, json=body).status_code == 200
        own = {"Origin": ui.root, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
        assert browser.post(search, json=body, headers=own).status_code == 200
        refused = [
            {"Host": "evil.example"},
            {"Host": "127.0.0.1.evil.example"},
            {"Host": "127.0.0.1@evil.example"},
            {"Origin": "http://evil.example"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        ]
        for headers in refused:
            assert browser.post(search, json=body, headers=headers).status_code == 403, headers
        [cookie] = browser.cookies.jar
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert cookie.get_nonstandard_attr("SameSite") == "strict"
        assert ui.token not in str(cookie.value)
    assert raw(ui, "GET", "/health", {"Host": ""}) == 400
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    assert raw(ui, "GET", "/", {**upgrade, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}) != 101


def test_graphql_looks_at_runs_and_at_nothing_else(ui: Ui) -> None:
    refused = [
        'query { mlflowListArtifacts(input: {runId: "1", path: ""}) { files { path } } }',
        'query MlflowGetRun { x: mlflowListArtifacts(input: {runId: "1"}) { files { path } } }',
        'query { ...F } fragment F on Query { test(inputString: "x") { output } }',
        'query { ... on Query { test(inputString: "x") { output } } }',
        "query { __schema { types { name } } }",
        'mutation { testMutation(inputString: "x") { output } }',
        "mutation { mlflowSearchRuns(input: {}) { runs { info { runId } } } }",
        'query A { mlflowGetRun(input: {runId: "1"}) { run { info { runId } } } } query B { test { output } }',
        "type X { y: Int }",
    ]
    with ui.browser() as browser:
        for query in refused:
            assert browser.post("/graphql", json={"query": query}).status_code == 403, query
        assert browser.post("/graphql", json={"query": "{"}).status_code == 400
        assert browser.get("/graphql", params={"query": refused[0]}).status_code == 403
        run = a_run(browser)
        query = "query GetRun($data: MlflowGetRunInput!) { mlflowGetRun(input: $data) { run { info { runId } } } }"
        answer = browser.post("/graphql", json={"query": query, "variables": {"data": {"runId": run["run_id"]}}})
        assert answer.json()["data"]["mlflowGetRun"]["run"]["info"]["runId"] == run["run_id"]


def a_run(browser: httpx.Client) -> dict[str, str]:
    found = browser.post("/ajax-api/2.0/mlflow/runs/search", json={"experiment_ids": ["1"]})
    info: dict[str, str] = found.json()["runs"][0]["info"]
    return info


def test_files_of_runs_are_shown_and_links_are_not(ui: Ui, owners: Path) -> None:
    with ui.browser() as browser:
        run = a_run(browser)
        folder = Path(urllib.parse.urlsplit(run["artifact_uri"]).path)
        listed = browser.get("/ajax-api/2.0/mlflow/artifacts/list", params={"run_id": run["run_id"], "path": "tests"})
        png = next(item for item in listed.json()["files"] if item["path"].endswith(".png"))
        shown = browser.get("/get-artifact", params={"run_id": run["run_id"], "path": png["path"]})
        assert shown.content == (folder / png["path"]).read_bytes()
        assert (shown.headers["Content-Type"], len(shown.content)) == ("image/png", png["file_size"])
        assert shown.headers["Content-Disposition"].startswith("attachment")
        assert shown.headers["Content-Security-Policy"] == "sandbox"

        (folder / KEY).symlink_to(owners / KEY)
        (folder / "ssh").symlink_to(owners)
        for path in (KEY, f"ssh/{KEY}", f"../{KEY}", str(owners / KEY)):
            for name in ("run_id", "run_uuid"):
                answer = browser.get("/get-artifact", params={name: run["run_id"], "path": path})
                assert answer.status_code in (403, 404)
        inside = folder.relative_to(ui.runs / "mlflow-artifacts")
        for path in PROXIED:
            assert browser.get(f"{path}/{inside}/{KEY}").status_code == 403
            assert browser.get(path, params={"path": f"{inside}/ssh"}).status_code == 403


def test_an_experiment_that_lies_elsewhere_shows_no_files(ui: Ui, owners: Path) -> None:
    # as an attack on an earlier version may have left it
    store = client(f"sqlite:///{ui.runs / 'mlflow.db'}")
    experiment = store.create_experiment("elsewhere", artifact_location=str(owners.parent))
    run = store.create_run(experiment)
    place = owners.parent / run.info.run_id
    place.mkdir()
    (place / "artifacts").symlink_to(owners)
    with ui.browser() as browser:
        asked = {"run_id": run.info.run_id}
        assert browser.get("/get-artifact", params={**asked, "path": KEY}).status_code == 403
        assert browser.get("/api/2.0/mlflow/artifacts/list", params=asked).status_code == 403


def test_the_token_is_nowhere_but_on_the_terminal(ui: Ui) -> None:
    with ui.browser() as browser:
        a_run(browser)
    # of a zombie nothing can be read
    every = [item for item in psutil.process_iter(["cmdline"]) if "ui" in (item.info["cmdline"] or ())]
    [server] = [item for item in every if listens_at(item, ui.root)]
    processes = [server, *server.children(recursive=True)]
    assert len(processes) > 2
    for process in processes:
        assert ui.token not in " ".join(process.cmdline())
        assert ui.token not in str(process.environ())
    for path in ui.runs.rglob("*"):
        assert not path.is_file() or ui.token.encode() not in path.read_bytes()
    assert (ui.runs / "mlflow-server.log").stat().st_mode & 0o777 == 0o600
    assert (ui.runs / "mlflow.db").stat().st_mode & 0o777 == 0o600
    # MLflow itself is reached through a socket in a folder that is closed to others
    for process in processes[1:]:
        assert not [item for item in process.net_connections("inet") if item.status == psutil.CONN_LISTEN]
    [command] = {match[1] for process in processes if (match := re.search(r"--uds (\S+)", " ".join(process.cmdline())))}
    assert Path(command).parent.stat().st_mode & 0o777 == 0o700


def listens_at(process: psutil.Process, root: str) -> bool:
    return any(
        item.status == psutil.CONN_LISTEN and item.laddr.port == urllib.parse.urlsplit(root).port
        for item in process.net_connections("inet")
    )


@pytest.mark.slow
def test_a_link_on_another_site_opens_the_pages_and_leaves_no_token_behind(ui: Ui) -> None:
    with a_page() as page:
        page.goto(f"data:text/html,<a href='{ui.root}/?token={ui.token}%23/experiments/1/runs'>a link</a>")
        page.get_by_text("a link").click()
        page.get_by_text("matching run").wait_for()
        assert page.url.startswith(f"{ui.root}/#/experiments/1/runs")
        page.go_back()
        assert page.url.startswith("data:")


# ------------------------------------------------------------------------------------------------ the cluster's server


@pytest.fixture(scope="module", params=["127.0.0.1", "127.0.0.2"])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerJob]:
    """The server job on PostgreSQL: on loopback as by default, and at a name that jobs on other nodes know."""
    folder = tmp_path_factory.mktemp("job")
    with postgres(folder) as store, ServerJob(store, folder, host=request.param) as job:
        (job.folder / "readers" / "ada").write_text("a long one, please\n")
        yield job


def credentials(job: ServerJob) -> dict[str, str]:
    return {
        "a stranger": "",
        "a guess": basic("owner", "wrong"),
        "another's name": basic("ada", job.password),
        "a colleague": basic("ada", "a long one, please"),
        "the owner, by name": basic("owner", job.password),
        "the owner, by token": f"Bearer {job.password}",
    }


@needs_root
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nobody_gets_at_files_through_the_server_job(job: ServerJob, owners: Path) -> None:
    for who, authorization in credentials(job).items():
        statuses = set(attack(job.uri, owners, authorization))
        if who in ("a stranger", "a guess", "another's name"):
            assert statuses == {401}, who
        elif who == "a colleague":
            assert 200 not in statuses
    for path in ("owner-password", "readers", "artifacts", "mlflow-server.log", "."):
        assert (job.folder / path).stat().st_mode & 0o077 == 0, path


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_server_job_refuses_every_route_that_is_not_needed(job: ServerJob, routes: list[str]) -> None:
    expected = {"a colleague": SHOWN, "the owner, by name": SHOWN | WRITTEN}
    for who, authorization in credentials(job).items():
        with httpx.Client(base_url=job.uri, headers={"Authorization": authorization}, timeout=60) as caller:
            if who in expected:
                answered = {(method, path) for method, path in expected[who] if path in routes}
                assert allowed(caller, routes) == answered
            elif who == "a stranger":
                answers = {caller.request(method, path).status_code for path in routes for method in METHODS}
                assert answers == {401}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_jobs_write_and_colleagues_look(job: ServerJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", job.uri)
    run = make_up_run("table4/split", seed=0 if job.uri.startswith("http://127.0.0.1") else 1)
    # a job, by name and password
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "owner")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", job.password)
    subprocess.run(vswin_command("sync", "--scale", "tiny"), check=True)
    assert mlflow_points(run) == journal_points(run)
    # and by token
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", job.password)
    subprocess.run(vswin_command("sync", "--scale", "tiny", "--again"), check=True)
    assert mlflow_points(run) == journal_points(run)

    # a colleague
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a long one, please")
    found = mlflow_run(run)
    assert mlflow_points(run) == journal_points(run)
    shown = Path(client().download_artifacts(found.info.run_id, "", str(tmp_path)))
    assert (shown / "journal.jsonl").read_bytes() == run.directory.journal.read_bytes()
    assert len(list((shown / "tests").iterdir())) == 3
    for write in (
        lambda: client().create_experiment("ada's"),
        lambda: client().set_tag(found.info.run_id, "ada", "was here"),
        lambda: client().log_metric(found.info.run_id, "train/loss", 0.0),
        lambda: client().delete_run(found.info.run_id),
        lambda: client().log_text(found.info.run_id, "ada was here", "journal.jsonl"),
    ):
        with pytest.raises(Exception, match=r"403|you may look|files may be looked at"):
            write()
    assert mlflow_points(run) == journal_points(run)

    # her pages: an address that lets look, in which no password is
    view, *_ = printed("table4", "--scale", "tiny")
    assert "a long one" not in view
    with httpx.Client(follow_redirects=True, timeout=60) as browser:
        assert browser.get(view).status_code == 200
        name = {"experiment_name": experiment_name(Scale.TINY)}
        ajax = f"{job.uri}/ajax-api/2.0/mlflow/experiments"
        assert browser.get(f"{ajax}/get-by-name", params=name).status_code == 200
        assert browser.post(f"{ajax}/create", json={"name": "x"}).status_code == 403
        (job.folder / "readers" / "ada").rename(job.folder / "ada")
        assert browser.get(f"{ajax}/get-by-name", params=name).status_code == 401
        (job.folder / "ada").rename(job.folder / "readers" / "ada")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_browser_never_writes_even_for_the_owner(job: ServerJob) -> None:
    with httpx.Client(base_url=job.uri, timeout=60) as calls:
        create, body = "/api/2.0/mlflow/experiments/create", {"name": "by a page"}
        by_name = {"Authorization": basic("owner", job.password)}
        for mark in ({"Origin": job.uri}, {"Sec-Fetch-Site": "same-origin"}):
            assert calls.post(create, json=body, headers={**by_name, **mark}).status_code == 403
        assert calls.get("/", params={"token": job.password}).status_code == 401
        located = {**body, "artifact_location": "/tmp"}
        for form in (located, {**body, "artifactLocation": "/tmp"}):
            assert calls.post(create, json=form, headers=by_name).status_code == 403
        assert calls.post(create, json=json.dumps(located), headers=by_name).status_code == 400
        twice = '{"name": "a", "artifact_location": "/tmp", "name": "b"}'
        assert calls.post(create, content=twice, headers=by_name).status_code == 403


def printed(*arguments: str) -> list[str]:
    """The addresses that ``vswin ui`` prints of a server that runs already."""
    answer = subprocess.run(vswin_command("ui", *arguments), check=True, capture_output=True, text=True)
    return re.findall(r"^http://\S+$", answer.stdout, re.M)


@pytest.mark.slow
def test_the_server_job_refuses_secrets_that_others_may_read(tmp_path: Path) -> None:
    (tmp_path / "tracking").mkdir()
    (tmp_path / "tracking" / "owner-password").write_text("for all to see")
    (tmp_path / "tracking" / "owner-password").chmod(0o644)
    with pytest.raises(RuntimeError, match="others may read"), ServerJob("sqlite://", tmp_path, host="127.0.0.1"):
        pass
