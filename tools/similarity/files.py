"""The files of a study: similarity.json, and the self-contained page similarity.html with its figures inside."""

from __future__ import annotations

from pathlib import Path

from reuse_compiler.errors import OutputError
from reuse_compiler.graph.files import FileTransaction
from reuse_compiler.graph.save import check_output
from reuse_compiler.reports.page import check_extra, render
from reuse_compiler.reports.table import number
from tools.similarity.figures import layer_figure
from tools.similarity.report import SimilarityReport
from tools.similarity.table import ACCURACIES, granularity

NAME = "similarity"
TEMPLATE = Path(__file__).with_name("page.html")


def study_page(report: SimilarityReport) -> str:
    """Returns the page; raises OutputError without the extra `report`."""
    return render(
        TEMPLATE,
        report=report,
        accuracy=None if report.accuracy is None else ACCURACIES[report.accuracy],
        layers=[(layer, layer_figure(report, layer) if layer.points else None) for layer in report.layers],
        granularity=granularity,
        number=number,
    )


class StudyFiles:
    """The folder of a report; says before the work starts whether it could be written."""

    def __init__(self, folder: Path, overwrite: bool = False) -> None:
        """Makes the folder; raises OutputError if it cannot, or without the extra `report`."""
        check_extra()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        self._paths = {suffix: folder / f"{NAME}.{suffix}" for suffix in ("json", "html")}
        self._overwrite = overwrite
        for path in self._paths.values():
            check_output(path, overwrite)

    def write(self, report: SimilarityReport) -> None:
        """Writes both files in one step."""
        texts = {"json": report.model_dump_json(indent=2) + "\n", "html": study_page(report)}
        with FileTransaction(self._overwrite) as files:
            for suffix, path in self._paths.items():
                with files.create(path) as stream:
                    stream.write(texts[suffix].encode())
            files.publish()
