"""What tests of MLflow's side share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.mlflow_points import client


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables in SQLite, made once: that takes seconds."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    client(f"sqlite:///{file}").search_experiments()
    return file
