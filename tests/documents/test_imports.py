"""What must not be imported at start-up: a command line that takes seconds to answer is not used."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "mlflow", "submitit", "pandas", "scipy", "av")


def loaded_after(code: str) -> set[str]:
    probe = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(answer.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import vswin",
        "import vswin.config",
        "from experiments.registry.catalogue import tables; tables()",
        "import experiments.launch.plan, experiments.job.body",
        "from typer.testing import CliRunner; from experiments.cli.main import app\n"
        "for command in (['list'], ['status'], ['launch', 'table4', '--dry-run'], ['--help'],\n"
        "        ['forecast', '--help'], ['check', '--help']):\n"
        "    # a dry run exits with 1 where data are missing, as on a fresh clone\n"
        "    assert CliRunner().invoke(app, command).exit_code in ((0, 1) if '--dry-run' in command else (0,))",
    ],
)
def test_starts_without_heavy_packages(code: str) -> None:
    assert loaded_after(code) == set()


def test_clip_sampling_needs_no_torch() -> None:
    assert loaded_after("import vswin.data.clips") == set()


def test_public_names_resolve() -> None:
    code = "import vswin\nfor name in vswin.__all__: getattr(vswin, name)"
    assert "torch" in loaded_after(code)


def test_unknown_public_name_is_an_attribute_error() -> None:
    import vswin

    with pytest.raises(AttributeError, match="no attribute 'SwinTransformer4D'"):
        _ = vswin.SwinTransformer4D  # type: ignore[attr-defined]
