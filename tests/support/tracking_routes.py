"""The paths that MLflow's server answers, as JSON; a program, since MLflow's server warns when it is imported.

``python tests/support/tracking_routes.py``
"""

import json
import re
import sys

from mlflow.server import app as pages
from mlflow.server.fastapi_app import app

if __name__ == "__main__":
    rules = {re.sub(r"<[^>]*>", "any", rule.rule) for rule in pages.url_map.iter_rules()}
    rules |= {re.sub(r"\{[^}]*\}", "any", path) for path in app.openapi()["paths"]}
    json.dump(sorted(rules), sys.stdout)
