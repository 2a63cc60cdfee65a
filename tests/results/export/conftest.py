import pytest
from support.export_run import ExportRun, write_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> ExportRun:
    """A finished run of hand-made label maps; read only."""
    return write_run(tmp_path_factory.mktemp("export"))
