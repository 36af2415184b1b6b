"""Records the example that the page shows before anything has run: two levels of one model on one question.

    python -m scripts.record_example MODEL.gguf --levels Q4_K_M Q2_K --machine "2 cores of a server, no GPU"

MODEL.gguf is the first level as it was published; the second is made from it and says so. Writes
playground/assets/recorded_example.json: answers, tokens with both top fives, sizes, planned memory, speeds and the
date. Run it on a quiet computer: speeds that were disturbed are left out.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path

from playground.app.compare.comparison import CompareRequest, Comparison
from playground.app.compare.recorded import FILE, recorded_json
from playground.app.compare.service import CompareService
from playground.app.loaded_models import LoadedModels
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.service import ModelPickerService
from playground.app.services import Services
from playground.chat.prompts import load_comparison_prompts
from playground.limits.visitor import Visitor
from playground.resources import asset
from playground.settings import load_settings

VISITOR = Visitor("the recorder")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="the file of the first level")
    parser.add_argument("--levels", nargs=2, default=["Q4_K_M", "Q2_K"])
    parser.add_argument("--title", default="Three facts", help="of the example question")
    parser.add_argument("--machine", required=True, help="in a few words, for people")
    arguments = parser.parse_args()
    asset(FILE).write_text(record(arguments.model, arguments.levels, arguments.title, arguments.machine), "utf-8")
    print(f"Wrote {FILE}.")


def record(model: Path, levels: list[str], title: str, machine: str) -> str:
    """The content of the file."""
    prompt = next(prompt for prompt in load_comparison_prompts() if prompt.title == title)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(data_dir=Path(folder), model_dirs=(model.absolute().parent,))
        with Services(settings) as services:
            service = _service(services)
            file = next(file for file in services.library.files() if file.path.absolute() == model.absolute())
            left, right = (ModelChoice(file.base_name, level, 4096) for level in levels)
            request = CompareRequest((left, right), prompt.system, max_tokens=prompt.tokens)
            comparison = Comparison()
            for update in service.ask_both(VISITOR, comparison, prompt.text, request):
                comparison = update.comparison or comparison
            for _ in service.measurements.measure_by_itself(VISITOR, comparison):
                pass
            fidelity = service.measurements.kept.find_agreement(VISITOR.session, *comparison.panes)
            assert fidelity is not None, "B could not read A's answer"
            facts = replace(
                service.measurements.facts(comparison, VISITOR.session), can_go_lower=False, is_recorded=True
            )
            if facts.not_compared == "busy":
                facts = replace(facts, speeds=(None, None))
            day = date.today()
            return recorded_json(
                comparison,
                facts,
                fidelity,
                model=file.display_name,
                machine=machine,
                date=f"{day.day} {day:%B %Y}",
            )


def _service(services: Services) -> CompareService:
    picker = ModelPickerService(
        services.library,
        services.planner,
        services.pool.budget_for,
        services.settings.slots,
        services.quantization_jobs,
        services.runs,
    )
    return CompareService(services, picker, LoadedModels(services.pool, services.planner, picker))


if __name__ == "__main__":
    main()
