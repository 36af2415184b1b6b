"""Models on the Hub, judged before any of their weights are downloaded: search, a repository's levels, the chosen one.

One header is read to open a repository. Other levels of the same model differ only in size and are judged by it, until
they are chosen and their own header is read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from playground.app.hub.view import ESTIMATED, HubView, SearchView
from playground.app.model_picker.choice import LevelRow, experts_note
from playground.app.model_picker.makeable_levels import NO_SUMMARY
from playground.app.records import USUAL_CONTEXT
from playground.app.services import Services
from playground.errors import BadModelFile, PlaygroundError
from playground.fit.budget import Budget
from playground.fit.offload import describe_placement
from playground.fit.planner import PlacedPlan
from playground.fit.subjects import FitSubject, hyperparameters_of
from playground.fit.table import LevelSize
from playground.fit.verdict import judge, largest_context_that_fits
from playground.gguf.levels import find_level, main_type
from playground.gguf.weight_use import TokenWork, token_work
from playground.llama.cpu_kernels import speed_note
from playground.llama.kernel_speed import PROBE_SECONDS
from playground.llama.params import ContextParameters
from playground.measure.forecast import CPU
from playground.models.hub.client import FoundRepository
from playground.models.hub.headers import LevelHeader
from playground.models.hub.names import looks_like_reference, parse_reference
from playground.models.hub.repository import UNKNOWN_LEVEL, HubLevel, HubModel, Repository, recommended_level
from playground.models.model_file import readable_name

MOST_TRIED: Final = 3  # other headers read where the first one is bad
MOST_OPEN: Final = 20  # repositories remembered, for all visitors


@dataclass
class _OpenedRepository:
    """A repository and the headers read of it so far, by HubLevel.key; headers are only ever added.

    bad_files: why a header cannot be used, by the same key.
    """

    repository: Repository
    headers: dict[str, LevelHeader] = field(default_factory=dict)
    bad_files: dict[str, BadModelFile] = field(default_factory=dict)


class HubService:
    """Serves every visitor; a repository that one has opened is open for all."""

    def __init__(self, services: Services, context_size: int = USUAL_CONTEXT) -> None:
        self._services = services
        self._context_size = context_size
        self._opened: OrderedDict[str, _OpenedRepository] = OrderedDict()
        self._found: OrderedDict[str, tuple[FoundRepository, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def search_repositories(self, text: str) -> SearchView:
        """GGUF repositories by words, the most downloaded first; the name of a repository is not searched for."""
        words = " ".join(text.split())
        if not words or looks_like_reference(words):
            return SearchView(words)
        with self._lock:
            known = self._found.get(words.lower())
        if known is not None:
            return SearchView(words, known)
        try:
            found = self._services.hub.search_repositories(words)
        except PlaygroundError as error:
            return SearchView(words, error=error)
        with self._lock:
            self._found[words.lower()] = found
            while len(self._found) > MOST_OPEN:
                self._found.popitem(last=False)
        return SearchView(words, found)

    def open_repository(self, text: str) -> Iterator[HubView]:
        """The repository that a text names, with the level that it names, else the recommended one."""
        try:
            meant = parse_reference(text, self._services.hub.endpoint)
            repository = self._services.hub.fetch_repository(meant.repo)
            opened = self._remember(repository)
            named = meant.level is not None or meant.path is not None
            chosen = (
                repository.resolve_level(meant.level, path=meant.path)
                if named
                else recommended_level(repository.levels)
            )
        except PlaygroundError as error:
            yield HubView(error=error)
            return
        yield from self._views(opened, chosen, is_named=named)

    def choose_level(self, repo: str, key: str) -> Iterator[HubView]:
        """Another level of a repository that is open."""
        try:
            opened, level = self._level(repo, key)
        except PlaygroundError as error:
            yield HubView(error=error)
            return
        yield from self._views(opened, level, is_named=True)

    def find_level(self, repo: str, key: str) -> HubLevel:
        """The level of a repository; raises PlaygroundError if it has none of that key."""
        return self._level(repo, key)[1]

    def is_installed(self, level: HubLevel) -> bool:
        """Whether all of the level is on this disk."""
        names = {file.path_in_repo for file in self._services.library.files() if file.repo == level.repo}
        return level.files[0].path in names

    # --- for the Fit tab ---

    def fit_subjects(self) -> list[FitSubject]:
        """Every model of an opened repository of which a header was read, with the exact sizes of its levels."""
        with self._lock:
            opened = list(self._opened.values())
        return [
            _subject(one.repository, model, header)
            for one in opened
            for model in one.repository.models
            if (header := next((one.headers[lv.key] for lv in model.levels if lv.key in one.headers), None))
        ]

    def find_fit_subject(self, text: str) -> tuple[str, str]:
        """(key of the subject, level) of a repository by name or address, which is opened if need be.

        Raises PlaygroundError if it cannot be opened.
        """
        *_, view = self.open_repository(text)
        if view.error:
            raise view.error
        assert view.repository and view.chosen
        return f"hub/{view.repository.id}/{view.chosen.base_name}", view.chosen.level

    # --- one repository ---

    def _level(self, repo: str, key: str) -> tuple[_OpenedRepository, HubLevel]:
        with self._lock:
            opened = self._opened.get(repo.lower())
        if opened is None:
            opened = self._remember(self._services.hub.fetch_repository(repo))
        for level in opened.repository.levels:
            if level.key == key:
                return opened, level
        raise PlaygroundError(f"{repo} no longer offers that file.", "Open the repository again.")

    def _remember(self, repository: Repository) -> _OpenedRepository:
        self._services.listings.remember(repository)
        with self._lock:
            known = self._opened.pop(repository.id.lower(), None)
            fresh = known is not None and known.repository.commit == repository.commit
            opened = known if known is not None and fresh else _OpenedRepository(repository)
            self._opened[repository.id.lower()] = opened
            while len(self._opened) > MOST_OPEN:
                self._opened.popitem(last=False)
        return opened

    def _views(self, opened: _OpenedRepository, chosen: HubLevel | None, *, is_named: bool) -> Iterator[HubView]:
        repository = opened.repository
        view = HubView(repository, tuple(_row(level) for level in repository.levels), chosen)
        if chosen is None and repository.levels:
            chosen = repository.levels[0]  # none that llama.cpp can read
            view = replace(view, chosen=chosen)
        if chosen is None:
            yield replace(
                view, error=PlaygroundError(f"{repository.id} offers no GGUF model.", "Choose another repository.")
            )
            return
        yield replace(view, is_installed=self.is_installed(chosen))
        try:
            for level in _to_try(repository, chosen):
                problem = self._read_header(opened, level)
                if problem is None:
                    view = replace(view, chosen=chosen if is_named else level)
                    break
                view = replace(view, error=view.error or problem)
            view = self._judged(opened, view)
            if is_named and chosen.key in opened.bad_files:
                yield replace(view, error=opened.bad_files[chosen.key])
                return
            if not opened.headers:
                yield view
                return
            view = replace(view, error=None)
            recommended = self._recommended(view)
            rows = tuple(replace(row, recommended=recommended is not None and row.value == recommended.key)
                         for row in view.rows)  # fmt: skip
            view = replace(view, rows=rows)
            if recommended and not is_named:
                view = replace(view, chosen=recommended)
            view = self._with_plan(opened, view)
            yield view
            yield self._with_forecasts(opened, view)
        except PlaygroundError as error:
            yield replace(view, error=error)

    def _read_header(self, opened: _OpenedRepository, level: HubLevel) -> BadModelFile | None:
        """Read a level's header. Returns what is wrong with its file, and raises HubProblem where it cannot be had."""
        if level.key in opened.headers:
            return None
        if level.made_for:
            problem = _made_for(level)
            opened.bad_files[level.key] = problem
            return problem
        try:
            header = self._services.headers.read_header(level)
            self._services.planner.trained_context(header.path)  # raises for what llama.cpp cannot open
        except BadModelFile as problem:
            opened.bad_files[level.key] = problem
            return problem
        opened.bad_files.pop(level.key, None)
        opened.headers[level.key] = header
        return None

    def _judged(self, opened: _OpenedRepository, view: HubView) -> HubView:
        """The view with a verdict for every row whose header is known: its own or another level's of the same model."""
        budget = self._services.pool.budget_for()
        opened.bad_files |= {level.key: _made_for(level) for level in opened.repository.levels if level.made_for}
        rows = []
        for row, level in zip(view.rows, opened.repository.levels, strict=True):
            header = self._header_for(opened, level)
            if level.key in opened.bad_files:
                row = replace(row, notes=(str(opened.bad_files[level.key]),))
            elif header is not None:
                placed = self._place(header, level, self._context(header), budget)
                is_own = header.level.key == level.key
                slow, experts = _speed_note(level, header if is_own else None), experts_note(level.level, header.whole)
                where = _where(placed) if budget.devices else None
                notes = tuple(filter(None, (where, None if is_own else ESTIMATED, experts, slow)))
                weights = header.whole.parameter_count
                in_file = _weight_bytes(header, level)
                bits = header.whole.bits_per_weight if is_own or not weights else 8 * in_file / weights
                name = _name_with_header(level, header) if is_own else row.name
                row = replace(row, name=name, verdict=judge(placed.plan, budget), notes=notes, bits_per_weight=bits)
            rows.append(row)
        return replace(view, rows=tuple(rows), budget=budget, bad_files=dict(opened.bad_files))

    def _recommended(self, view: HubView) -> HubLevel | None:
        """The best level that fits, of the same model as the chosen one; None if there is no choice."""
        assert view.repository and view.chosen
        verdicts = {row.value: row.verdict.kind for row in view.rows if row.verdict}
        same = [
            level
            for level in view.repository.levels
            if level.base_name == view.chosen.base_name and level.key not in view.bad_files
        ]
        return recommended_level(same, verdicts) if len(same) > 1 else None

    def _with_plan(self, opened: _OpenedRepository, view: HubView) -> HubView:
        level = view.chosen
        header = self._header_for(opened, level) if level else None
        if level is None or header is None:
            return view
        size = self._context(header)
        levels = {row.value: row for row in view.rows}
        others = {
            levels[other.key].name: _weight_bytes(header, other)
            for other in opened.repository.levels
            if other.base_name == level.base_name and other.key not in view.bad_files
        }
        placed = self._place(header, level, size, view.budget, others)
        trained = self._services.planner.trained_context(header.path)
        largest = largest_context_that_fits(
            lambda size: self._place(header, level, size, view.budget).plan, trained, view.budget
        )
        return replace(
            view,
            is_exact=header.level.key == level.key,
            context_size=size,
            plan=placed.plan,
            where=placed.reason,
            verdict=judge(placed.plan, view.budget, largest_context=largest),
            largest_context=largest,
            is_installed=self.is_installed(level),
        )

    def _with_forecasts(self, opened: _OpenedRepository, view: HubView) -> HubView:
        """On the CPU, or on the GPU where there is one."""
        forecaster, gpus = self._services.forecaster, self._services.devices.known.gpus
        device = gpus[0].name if gpus else CPU
        works = [self._work(opened, level) for level in opened.repository.levels]
        forecaster.prepare([work for work in works if work], PROBE_SECONDS)
        rows = [
            replace(row, forecast=forecaster.forecast(work, device)) if work else row
            for row, work in zip(view.rows, works, strict=True)
        ]
        return replace(view, rows=tuple(rows))

    def _work(self, opened: _OpenedRepository, level: HubLevel) -> TokenWork | None:
        """By the level's own header, else by its name and size; None for what cannot be run."""
        header, kind = self._header_for(opened, level), main_type(level.level)
        if header is None or level.key in opened.bad_files:
            return None
        work = token_work(header.whole.architecture, header.whole.metadata, header.whole.tensors)
        if header.level.key == level.key:
            return work
        return work.at_level(kind, work.read_bytes * level.size / header.level.size) if kind else None

    def _header_for(self, opened: _OpenedRepository, level: HubLevel) -> LevelHeader | None:
        """The level's own header, else that of another level of the same model."""
        if level.key in opened.headers:
            return opened.headers[level.key]
        same = (header for header in opened.headers.values() if header.level.base_name == level.base_name)
        return next(same, None)

    def _context(self, header: LevelHeader) -> int:
        """The context size of every verdict: the usual one, or the trained one where that is smaller."""
        return min(self._context_size, self._services.planner.trained_context(header.path))

    def _place(
        self,
        header: LevelHeader,
        level: HubLevel,
        context_size: int,
        budget: Budget,
        others: Mapping[str, int] = MappingProxyType({}),
    ) -> PlacedPlan:
        """Where the level would run here and its memory there. others: the weights of the model's levels, in bytes."""
        context = ContextParameters(context_size, slots=self._services.settings.slots)
        weights = None if header.level.key == level.key else _weight_bytes(header, level)
        return self._services.planner.place(header.path, context, budget, others, weights)


def _where(placed: PlacedPlan) -> str:
    return f"{describe_placement(placed.plan.context.placement, placed.plan.layers)}."


def _weight_bytes(header: LevelHeader, level: HubLevel) -> int:
    """Of a level, from the size of its file: what lies beside the weights is the same in every file of the model."""
    return max(0, level.size - (header.level.size - header.whole.weight_bytes))


def _speed_note(level: HubLevel, header: LevelHeader | None) -> str | None:
    """That the level may be slower than larger ones here: by its own header, else by what its name says of it."""
    kind = header.whole.main_type if header else main_type(level.level)
    return speed_note(kind) if kind is not None else None


def _made_for(level: HubLevel) -> BadModelFile:
    return BadModelFile(
        f"{level.level} is made for {level.made_for}, and this llama.cpp cannot read it.",
        f"Run it with {level.made_for}, or choose a level of llama.cpp, such as Q4_K_M.",
    )


def _to_try(repository: Repository, chosen: HubLevel) -> list[HubLevel]:
    """The levels whose headers may be read: the chosen one, then others of its model, then of other models.

    The header of another level tells what this one needs, where its own file is bad.
    """
    others = sorted(
        (level for level in repository.levels if level.key != chosen.key),
        key=lambda level: (level.base_name != chosen.base_name, level.size),
    )
    return [chosen, *others[:MOST_TRIED]]


def _subject(repository: Repository, model: HubModel, header: LevelHeader) -> FitSubject:
    beside_weights = header.level.size - header.whole.weight_bytes
    return FitSubject(
        key=f"hub/{repository.id}/{model.base_name}",
        name=f"{readable_name(model.base_name)} · {repository.id}",
        planned=header.path,
        parameter_count=header.whole.parameter_count,
        sizes=tuple(LevelSize(level.level, max(0, level.size - beside_weights)) for level in model.levels),
        keeps_mxfp4=header.whole.keeps_mxfp4,
        tensors={"": header.whole.tensors, header.level.level: header.whole.tensors},
        hyperparameters=hyperparameters_of(header.whole),
        repo=repository.id,
    )


def _name_with_header(level: HubLevel, header: LevelHeader) -> str:
    """The level's name, with the level that the header says where the file's name says none that is known."""
    if find_level(level.level) or header.whole.level is None:
        return level.level
    return header.whole.level if level.level == UNKNOWN_LEVEL else f"{level.level} ({header.whole.level})"


def _row(level: HubLevel) -> LevelRow:
    summary = level.summary or NO_SUMMARY
    return LevelRow(level.key, level.level, level.size, bits_per_weight=None, summary=summary, verdict=None)
