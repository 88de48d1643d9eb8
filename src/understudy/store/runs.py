"""A stage's folder as one run: fresh, to be resumed or finished, locked while in use, never mixed with another recipe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self

from understudy.store.atomic import make_folder, sync_folder, writing_to
from understudy.store.events import EVENTS_FILE
from understudy.store.hashing import sha256_of_json
from understudy.store.json_files import as_plain, read_json, write_json
from understudy.store.manifest import (
    MANIFEST_FILE,
    InputFile,
    Manifest,
    check_schema,
    read_manifest,
    stage_result,
    write_manifest,
)
from understudy.types import BadInput, Json, StageResult
from understudy.version import __version__

RECIPE_FILE = "recipe.json"
LOCK_FILE = ".lock"
SCHEMA = 1

HOW_LONG = ("default_minutes",)
"""Settings that say how long a stage goes on where nobody does: another default is no other work."""

RunState = Literal["fresh", "resume", "finished"]


@dataclass
class Run:
    """A stage's folder, locked for this process until `close`; use it as a context manager.

    A run that fails before it has made anything leaves the folder free for other work, and none where there was none.

    state: "fresh" (nothing done), "resume" (some of it done) or "finished" (`manifest` is then there). serves_others,
    disposable: see `open_run`. was_there: whether the folder was, before the run.
    """

    folder: Path
    stage: str
    recipe: Json
    inputs: Mapping[str, InputFile]
    state: RunState
    manifest: Manifest | None
    serves_others: Path | None
    disposable: Sequence[str]
    was_there: bool
    _lock: int

    def finish(
        self,
        figures: Mapping[str, object],
        outputs: Mapping[str, Path],
        *,
        seed: int | None = None,
        licences: Mapping[str, str] | None = None,
        consent: Mapping[str, str] | None = None,
    ) -> StageResult:
        """Write the manifest, which makes the run finished, and return the stage's result."""
        self.manifest = Manifest(
            stage=self.stage,
            inputs=self.inputs,
            recipe_sha256=sha256_of_json(self.recipe),
            figures={name: as_plain(value) for name, value in figures.items()},
            outputs={name: _relative(path, self.folder) for name, path in outputs.items()},
            seed=seed,
            licences=licences or {},
            consent=consent or {},
        )
        write_manifest(self.folder, self.manifest)
        self.state = "finished"
        return self.result()

    def result(self) -> StageResult:
        """The result of a finished run, from its manifest."""
        if self.manifest is None:
            raise ValueError(f"expected a finished run in {self.folder}, it is {self.state}")
        return stage_result(self.folder, self.manifest)

    def reopen(self) -> None:
        """Go on with a finished run (more training): takes its manifest away; the next `finish` writes a new one."""
        with writing_to(self.folder):
            (self.folder / MANIFEST_FILE).unlink(missing_ok=True)
            sync_folder(self.folder)
        self.manifest = None
        self.state = "resume"

    def close(self) -> None:
        """Unlock the folder; may be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                with suppress(OSError):  # what made the run fail is what the user should hear of
                    _free_unless_something_was_made(self.folder, self.serves_others, self.disposable, self.was_there)
        finally:
            self.close()


def open_run(
    folder: Path,
    stage: str,
    recipe: object,
    inputs: Mapping[str, InputFile],
    *,
    may_replace: bool = False,
    serves_others: Path | None = None,
    disposable: Sequence[str] = (),
    preliminary: Sequence[str] = (),
) -> Run:
    """Open the folder of a stage for work, and write down what is asked (`recipe.json`) where that is new.

    recipe: a dataclass or JSON object without what may grow later (minutes, steps). inputs: by role, from `describe_input`.
    Raises BadInput where another process works in the folder, or it holds other work: the message shows each difference.
    may_replace: the stage's own work on other terms is removed instead, because seconds bring it back. serves_others: a file in
    the folder that states itself what it was made from, so that where a run fails with nothing else made, it stays for others.
    disposable: names of files that are no loss; where a run fails with nothing else made, they go.
    preliminary: patterns of what saves the same command time and is not yet work (`looks/*`; a star stands for folders too);
    where a run was killed with nothing else made, it goes as soon as something else is asked for.
    """
    asked = _what_is_asked(stage, recipe, inputs)
    was_there = folder.exists()
    with writing_to(folder):
        make_folder(folder)
        lock = _lock(folder)
    try:
        if may_replace:
            _remove_work_on_other_terms(folder, asked)
        state = _compare_with_folder(folder, asked, serves_others, (*disposable, *preliminary))
        manifest = read_manifest(folder) if state != "fresh" else None
        if state == "fresh":
            write_json(folder / RECIPE_FILE, {"schema": SCHEMA, "code_version": __version__, **asked})
    except BaseException:
        os.close(lock)
        raise
    # That of the folder may lack a setting that is newer, and off: the manifest states the hash of what lies there.
    plain_recipe = (asked if state == "fresh" else read_json(folder / RECIPE_FILE))["recipe"]
    assert isinstance(plain_recipe, dict)
    state = "finished" if manifest else state
    return Run(folder, stage, plain_recipe, inputs, state, manifest, serves_others, disposable, was_there, lock)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a stage's folder, which is made where it is not there, as its run would; the folder may be removed meanwhile.

    Raises BadInput where another process works in it.
    """
    with writing_to(folder):
        make_folder(folder)
        lock = _lock(folder)
    try:
        yield
    finally:
        os.close(lock)


def _what_is_asked(stage: str, recipe: object, inputs: Mapping[str, InputFile]) -> Json:
    plain = as_plain({"stage": stage, "recipe": recipe, "inputs": inputs})
    assert isinstance(plain, dict)
    return plain


def _compare_with_folder(folder: Path, asked: Json, serves_others: Path | None, no_work: Sequence[str]) -> RunState:
    """Whether the folder is new or holds the work that is asked for. Raises BadInput where it holds anything else.

    no_work: patterns of what goes where other settings are asked for and there is nothing else.
    """
    path = folder / RECIPE_FILE
    if not path.is_file():
        stranger = next((name for name in _made_in(folder, serves_others) if not name.startswith(".")), None)
        if stranger:
            raise BadInput(f"{folder} is not empty and not a stage's folder (it has {stranger}); name a new folder as --out")
        return "fresh"
    there = read_json(path)
    check_schema(path, there, SCHEMA)
    if there.get("stage") != asked["stage"]:
        raise BadInput(f"{folder} holds the work of {there.get('stage')}, not of {asked['stage']}; name another --out")
    differences = recipe_differences(there, asked)
    if differences and not any(_made_in(folder, serves_others, no_work)):  # killed before there was any work
        with writing_to(folder):
            _remove_what_is_no_work(folder, no_work)
        return "fresh"
    if differences:
        raise BadInput(
            f"{folder} was made with other settings: {'; '.join(differences)}. Name another --out, or ask for the old settings"
        )
    return "resume"


def _remove_work_on_other_terms(folder: Path, asked: Json) -> None:
    """Empties a folder of the same stage that was asked for something else: the manifest goes first, the recipe last."""
    path = folder / RECIPE_FILE
    if not path.is_file():
        return
    there = read_json(path)
    if there.get("stage") != asked["stage"] or not recipe_differences(there, asked):
        return
    with writing_to(folder):
        (folder / MANIFEST_FILE).unlink(missing_ok=True)
        for item in folder.iterdir():
            if item.is_file() and item.name not in (RECIPE_FILE, LOCK_FILE, EVENTS_FILE):
                item.unlink()
        path.unlink()
        sync_folder(folder)


def check_extracted(faces: Path, before: str) -> None:
    """Raises BadInput where the extraction of a face set was begun and not finished: it holds only a part of its faces.

    before: what to do when it is finished.
    """
    if (faces / RECIPE_FILE).is_file() and not (faces / MANIFEST_FILE).is_file():
        raise BadInput(f"{faces}: its extraction is not finished; give the same extract command again, then {before}")


def recipe_differences(there: Json, now: Json) -> list[str]:
    """What differs between two `recipe.json`, a sentence for each field: "resolution_px: 64 there, 96 now".

    A setting that one of them lacks is as good as one that is off: a folder from before there was such a setting goes on
    without it, and so with what only says how that which is off would be done.
    """
    fields_there, fields_now = _comparable(there), _comparable(now)
    for how, what in _HOW.items():
        if fields_there.get(what) in _OFF and fields_now.get(what) in _OFF:
            fields_there.pop(how, None)
            fields_now.pop(how, None)
    names = [*fields_there, *(name for name in fields_now if name not in fields_there)]
    both = {name: (fields_there.get(name), fields_now.get(name)) for name in names}
    return [
        f"{name}: {then or 'none'} there, {value or 'none'} now"
        for name, (then, value) in both.items()
        if then != value and not (None in (then, value) and {then, value} <= _OFF) and name not in HOW_LONG
    ]


_OFF = {None, "none", "None", "0", "0.0", "False", ""}
"""How a setting that is off reads as text, and one that is not there."""


_HOW = {"exemplar_px": "num_exemplars"}
"""Settings that say nothing where another is off."""


def _comparable(asked: Json) -> dict[str, str]:
    """Each field of the recipe, and each input by its contents (where it lies does not matter), as text."""
    fields = _flatten(asked.get("recipe"), "")
    inputs = asked.get("inputs")
    for role, value in (inputs if isinstance(inputs, dict) else {}).items():
        fields[f"input {role}"] = f"sha256 {str(value.get('sha256'))[:12]}…"
    return fields


def _flatten(value: object, name: str) -> dict[str, str]:
    if isinstance(value, dict) and value:
        prefix = f"{name}." if name else ""
        return {path: text for key, item in value.items() for path, text in _flatten(item, f"{prefix}{key}").items()}
    return {name: str(value)}


def _free_unless_something_was_made(
    folder: Path, serves_others: Path | None, disposable: Sequence[str], was_there: bool
) -> None:
    """Takes the recipe of a failed run away where nothing else was written, and the folder too where the run had made it.

    Only for the process that holds the lock. Killed before or after that, the folder is one to resume or a fresh one: either
    holds no work.
    """
    if any(_made_in(folder, serves_others, disposable)):
        return
    _remove_what_is_no_work(folder, disposable)
    if not was_there and {item.name for item in folder.iterdir()} <= {LOCK_FILE, EVENTS_FILE}:
        for name in (EVENTS_FILE, LOCK_FILE):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _remove_what_is_no_work(folder: Path, patterns: Sequence[str]) -> None:
    """Takes away what matches, and then the recipe, so that the folder is free."""
    for path in [each for each in _leaves(folder) if _matches(each.relative_to(folder).as_posix(), patterns)]:
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / RECIPE_FILE).unlink(missing_ok=True)
    sync_folder(folder)


def _made_in(folder: Path, serves_others: Path | None, no_work: Sequence[str] = ()) -> Iterator[str]:
    """What lies in a folder, by name, beside the run's own files and what consists of files alone that are no work.

    The file `serves_others` is none either, nor what SQLite leaves beside it when it is killed.
    """
    patterns = list(no_work)
    if serves_others is not None:
        patterns += [f"{serves_others.relative_to(folder).as_posix()}{end}" for end in ("", "-wal", "-shm", "-journal")]
    for item in sorted(folder.iterdir()):
        names = (each.relative_to(folder).as_posix() for each in _leaves(item))
        if item.name not in (RECIPE_FILE, LOCK_FILE, EVENTS_FILE) and not all(_matches(name, patterns) for name in names):
            yield item.name


def _leaves(path: Path) -> Iterator[Path]:
    """All files below a path, and folders that hold nothing; the path itself where it is one."""
    inside = list(path.iterdir()) if path.is_dir() and not path.is_symlink() else []
    if not inside:
        yield path
    for item in inside:
        yield from _leaves(item)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _lock(folder: Path) -> int:
    """The descriptor of a lock that ends with this process, however it ends. Raises BadInput where another holds it."""
    path = folder / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _take_lock(descriptor)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise BadInput(f"{folder} is in use by process {holder}; wait for it or end it, then run again") from error
    if not path.is_file() or not os.path.samestat(os.fstat(descriptor), path.stat()):  # its holder removed it meanwhile
        os.close(descriptor)
        folder.mkdir(parents=True, exist_ok=True)
        return _lock(folder)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
    return descriptor


def _take_lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: the folder is not guarded there
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # some network file systems have no locks
        return


def _relative(path: Path, folder: Path) -> str:
    """`path` as seen from `folder`, so that the folder can be moved; unchanged where it lies outside."""
    path, folder = path.absolute(), folder.absolute()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
