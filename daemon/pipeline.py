"""The stages that a file goes through, on threads that work at the same time.

    inbox -> intake (claim) -> readers (read, decode) -> classifying -> deciding -> filing (move)

The queues between them are bounded, so that memory does not grow with what is waiting. Every step
is written down before it is taken, so that a killed service is finished by `recover`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from daemon import classifier, filing, naming
from daemon.classifier import Photo
from daemon.deciding import UNSURE, decision_of, label_of
from daemon.filing import Move, Outcome
from daemon.identity import Identity
from daemon.inbox import Inbox
from daemon.life import Life
from daemon.measures import Measure, Observe, forget, timed
from daemon.naming import Wanted
from daemon.reading import Read, Readers, share_of
from daemon.settling import SettledFile, regular
from db.errors import LedgerConflict, LedgerError, LedgerUnavailable
from db.ledger import Decision, Ledger, Source, Unfinished
from trainer.bundle import Bundle, Verdict
from trainer.errors import ImageError

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_SIZE = 64
"""Files that share three transactions and the syncing of folders: with more, little is saved."""

BATCHES_AHEAD = 2
"""Batches that may wait between two stages."""

PLACED_AT_ONCE = 32
"""Files that are moved between two signs of life; they may have to be copied to a slow disk."""

MOST_CONFLICTS = 5
"""So often in a row another process may have been faster, before that is worth a word."""

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class Folders:
    """Where files come from and go to, as absolute paths without links.

    `mounts` are those that were mount points when the service started.
    """

    inbox: Path
    happy: Path
    sad: Path
    failed: Path
    unsure: Path
    mounts: frozenset[Path] = frozenset()

    @classmethod
    def of(cls, paths: Mapping[str, Path]) -> Folders:
        """The folders by name, as they are mounted now."""
        return cls(**paths, mounts=frozenset(path for path in paths.values() if path.is_mount()))

    def remembering(self, before: Folders) -> Folders:
        """With the mount points of an earlier time, though their disks may be away now."""
        return replace(self, mounts=self.mounts | before.mounts)

    def root_of(self, label: str | None) -> Path:
        """The destination of a label; of None, for a bad image, it is `failed`."""
        roots = {"happy": self.happy, "sad": self.sad, UNSURE: self.unsure, None: self.failed}
        return roots[label]

    def root_above(self, destination: Path) -> Path | None:
        """The destination folder that a path of an earlier run lies in; None: in none of these."""
        roots = (self.happy, self.sad, self.failed, self.unsure)
        return next((root for root in roots if lies_in(root, destination)), None)


@dataclass(frozen=True)
class Filed:
    """One file that has reached its place, for those who watch."""

    decision: Decision
    source: Path


@dataclass(frozen=True)
class Recovered:
    """Interrupted files: how many were moved, and how many are to be judged anew."""

    moved: int
    given_back: int


@dataclass(frozen=True)
class _Claim:
    """A claimed file."""

    id: int
    file: SettledFile


@dataclass(frozen=True)
class _Reading:
    """Claimed files that a process reads one after the other."""

    claims: Sequence[_Claim]
    read: Future[list[Read | None]]


@dataclass(frozen=True)
class _Judged:
    """A photo and what the model, or for a bad one the decoder, says of it.

    `noticed` is when its file was first seen, by `time.monotonic`.
    """

    id: int
    photo: Photo
    verdict: Verdict | ImageError
    noticed: float


@dataclass(frozen=True)
class _Batch:
    """What has been judged, and claims that were not read: changed, vanished, or stopped."""

    judged: Sequence[_Judged]
    unread: Sequence[_Claim]


@dataclass(frozen=True)
class _Decided:
    """Photos, and in the same order what is written down of them."""

    judged: Sequence[_Judged]
    decisions: Sequence[Decision]


class Stopped(Exception):
    """The service is to end while it waits for a disk or a database."""


class Pipeline:
    """Takes settled files from an inbox until it is stopped."""

    def __init__(
        self,
        inbox: Inbox,
        folders: Folders,
        ledger: Ledger,
        bundle: Bundle,
        readers: Readers,
        model_id: int,
        *,
        batch_size: int,
        max_wait_ms: int,
        unsure_below: float,
        on_filed: Callable[[Sequence[Filed]], None],
        observe: Observe = forget,
    ) -> None:
        self.folders = folders
        self._inbox = inbox
        self._ledger = ledger
        self._bundle = bundle
        self._readers = readers
        self._model_id = model_id
        self._batch_size = batch_size
        self._max_wait = max_wait_ms / 1000
        self._unsure_below = unsure_below
        self._on_filed = on_filed
        self._observe = observe
        self._ending = threading.Event()  # Nothing more is taken in.
        self._stopping = threading.Event()  # Nothing more is waited for, either.
        self._claimed: queue.Queue[Sequence[_Reading] | None] = queue.Queue(BATCHES_AHEAD)
        self._judged: queue.Queue[_Batch | None] = queue.Queue(BATCHES_AHEAD)
        self._decided: queue.Queue[_Decided | None] = queue.Queue(BATCHES_AHEAD)
        self._broken = threading.Event()
        stages = {
            "intake": self._intake,
            "classifying": self._classifying,
            "deciding": self._deciding,
            "filing": self._filing,
        }
        self._lives = {name: Life() for name in stages}
        self._threads = {
            name: threading.Thread(target=partial(self._guard, stage), name=name)
            for name, stage in stages.items()
        }
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Start the stages."""
        for life, thread in zip(self._lives.values(), self._threads.values(), strict=True):
            life.beat()
            thread.start()

    def drain(self) -> None:
        """Finish what is being read and judged, give back the rest, and end.

        A disk or a database that does not take it is waited for, unless `give_up` is called.
        """
        self._ending.set()
        self._readers.close()
        for thread in self._threads.values():
            thread.join()

    def give_up(self) -> None:
        """Wait for no disk and no database any longer: the next start goes on from the rows."""
        self._stopping.set()

    def stop(self) -> None:
        """`drain`, and wait for nothing."""
        self.give_up()
        self.drain()

    @property
    def silence(self) -> float:
        """Seconds for which a stage that should work has given no sign of life."""
        silent = {name: life.silence for name, life in self._lives.items()}
        # It waits for the readers, and each of their answers is a sign.
        silent["classifying"] = min(silent["classifying"], self._readers.life.silence)
        return max(silent[name] if self._threads[name].is_alive() else 0.0 for name in silent)

    @property
    def trouble(self) -> str | None:
        """What a stage waits for, such as a full disk."""
        return next((life.trouble for life in self._lives.values() if life.trouble), None)

    @property
    def depths(self) -> dict[str, int]:
        """Batches that wait between the stages."""
        return {
            "batches_to_judge": self._claimed.qsize(),
            "batches_to_file": self._judged.qsize() + self._decided.qsize(),
        }

    def _guard(self, stage: Callable[[], None]) -> None:
        """A stage that fails ends the service, visibly; its rows are finished at the next start."""
        try:
            stage()
        except BaseException as error:
            if not isinstance(error, Stopped):
                self.failure = error
                if not isinstance(error, LedgerError):  # That one says what to do.
                    log.exception("a stage of the pipeline failed")
            self._broken.set()
            self._stopping.set()
        finally:
            self._ending.set()

    def _intake(self) -> None:
        life = self._lives["intake"]
        try:
            while not self._ending.is_set():
                life.beat()
                if files := self._next_files():
                    self._put(self._claimed, self._claim(files), life)
        finally:
            self._put(self._claimed, None, life)

    def _next_files(self) -> list[SettledFile]:
        """Up to a batch; the first is waited for, the others for `max_wait_ms` altogether."""
        try:
            files = [self._inbox.settled.get(timeout=0.1)]
        except queue.Empty:
            return []
        end = time.monotonic() + self._max_wait
        while len(files) < self._batch_size:
            try:
                files.append(self._inbox.settled.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                break
        return files

    def _claim(self, files: Sequence[SettledFile]) -> list[_Reading]:
        for file in files:
            self._observe(Measure.SETTLING, file.settled - file.noticed)
        files = sorted(files, key=lambda file: str(file.path))  # As all who claim the same do.
        sources = [Source(f.path, *f.identity) for f in files]
        ids = persist(partial(self._ledger.claim, sources), self._stopping, self._lives["intake"])
        claims = []
        for id, file in zip(ids, files, strict=True):
            if id is None:
                if not self._ledger.is_shared:
                    self._inbox.leave_alone(file.path, "another service has claimed it")
                self._inbox.done(file.path)
            else:
                claims.append(_Claim(id, file))
        size = share_of(len(claims), self._readers.count)
        parts = [claims[i : i + size] for i in range(0, len(claims), size)]
        return [_Reading(part, self._readers.read([c.file.path for c in part])) for part in parts]

    def _classifying(self) -> None:
        life = self._lives["classifying"]
        try:
            while (readings := self._get(self._claimed, life)) is not None:
                self._put(self._judged, self._judge(readings), life)
        finally:
            self._put(self._judged, None, life)

    def _judge(self, readings: Sequence[_Reading]) -> _Batch:
        unread: list[_Claim] = []
        claims: list[_Claim] = []
        read: list[Read] = []
        for claim, one in self._finished(readings):
            # None, or it was changed while it waited here.
            if one is None or one.photo.identity != claim.file.identity:
                unread.append(claim)
            else:
                claims.append(claim)
                read.append(one)
        judged = [
            _Judged(claim.id, photo, verdict, claim.file.noticed)
            for claim, (photo, verdict) in zip(claims, self._verdicts(read), strict=True)
        ]
        return _Batch(judged, unread)

    def _finished(self, readings: Sequence[_Reading]) -> Iterator[tuple[_Claim, Read | None]]:
        """Each claim with what was read."""
        for reading in readings:
            yield from zip(reading.claims, reading.read.result(), strict=True)
            self._lives["classifying"].beat()

    def _verdicts(self, read: Sequence[Read]) -> list[tuple[Photo, Verdict | ImageError]]:
        """Each photo with what is said of it."""
        left = [one.photo for one in read if one.verdict is None]
        begin = time.perf_counter()
        said = iter(classifier.judge(self._bundle, left))
        share = (time.perf_counter() - begin) / max(1, len(left))
        for one in read:
            self._observe(Measure.DECODING, one.decoding)
            self._observe(Measure.JUDGING, one.judging if one.verdict else share)
        return [
            (one.photo, one.verdict) if one.verdict else (one.photo.without_pixels(), next(said))
            for one in read
        ]

    def _deciding(self) -> None:
        life = self._lives["deciding"]
        try:
            while (batch := self._get(self._judged, life)) is not None:
                self._give_back(batch.unread, life)
                if batch.judged:
                    decisions = persist(partial(self._decide, batch.judged), self._stopping, life)
                    self._put(self._decided, _Decided(batch.judged, decisions), life)
        finally:
            self._put(self._decided, None, life)

    def _give_back(self, claims: Sequence[_Claim], life: Life) -> None:
        """Files that changed, vanished or are no longer to be read: as if never claimed."""
        ids = [claim.id for claim in claims]
        persist(partial(self._ledger.release, ids), self._stopping, life)
        self._inbox.done(*(claim.file.path for claim in claims), again=True)

    def _filing(self) -> None:
        while (batch := self._get(self._decided, self._lives["filing"])) is not None:
            self._file(batch.judged, batch.decisions)

    def _file(self, judged: Sequence[_Judged], decisions: Sequence[Decision]) -> None:
        sources = {one.id: one.photo.path for one in judged}
        moves = [self._move(decision, sources[decision.id]) for decision in decisions]
        with timed(self._observe, Measure.FILING):
            outcomes = carry_out(self._ledger, moves, self._stopping, self._lives["filing"])
        self._observe(Measure.BATCH, len(judged))
        for one in judged:
            self._observe(Measure.WHOLE, time.monotonic() - one.noticed)
        gone = {path for id, path in sources.items() if outcomes[id] is Outcome.GONE}
        self._inbox.done(*gone, again=True)
        self._inbox.done(*(path for path in sources.values() if path not in gone))
        for id, path in sources.items():
            if outcomes[id] is Outcome.STUCK:
                self._inbox.leave_alone(path, "it may not be moved away")
        self._on_filed(
            [Filed(d, sources[d.id]) for d in decisions if outcomes[d.id] is Outcome.DONE]
        )

    def _decide(self, judged: Sequence[_Judged]) -> list[Decision]:
        wanted = [self._wanted(one) for one in judged]
        chosen = naming.choose_destinations(wanted, self._ledger.taken)
        decisions = [self._decision(one, chosen[one.id]) for one in judged]
        with timed(self._observe, Measure.COMMIT):
            self._ledger.decide(decisions)
        return decisions

    def _wanted(self, one: _Judged) -> Wanted:
        root = self.folders.root_of(label_of(one.verdict, self._unsure_below))
        relative = one.photo.path.relative_to(self.folders.inbox)
        return Wanted(one.id, root, root / naming.clean_name(relative))

    def _decision(self, one: _Judged, destination: Path) -> Decision:
        return decision_of(
            one.id,
            one.photo,
            one.verdict,
            destination,
            label_of(one.verdict, self._unsure_below),
            self._model_id,
        )

    def _move(self, decision: Decision, source: Path) -> Move:
        root = self.folders.root_of(decision.label)
        return Move(
            id=decision.id,
            source=source,
            destination=decision.destination,
            root=root,
            identity=Identity(decision.size_bytes, decision.mtime_ns),
            sha256=decision.sha256,
            on_mount=root in self.folders.mounts,
        )

    def _get(self, source: queue.Queue[T], life: Life) -> T:
        """Take from the stage before, unless a stage is broken and nothing may come."""
        while not self._broken.is_set():
            life.beat()
            with contextlib.suppress(queue.Empty):
                return source.get(timeout=0.1)
        raise Stopped

    def _put(self, to: queue.Queue[T], item: T, life: Life) -> None:
        """Hand on to the next stage, unless a stage is broken and nobody will take it."""
        while not self._broken.is_set():
            life.beat()
            with contextlib.suppress(queue.Full):
                to.put(item, timeout=0.1)
                return
        raise Stopped


def carry_out(
    ledger: Ledger, moves: Sequence[Move], stopping: threading.Event, life: Life | None = None
) -> dict[int, Outcome]:
    """Move decided files and close their rows; says by id what became of each.

    A name that was taken since the decision is replaced by another, first in the row. A file that
    is gone or may not be moved loses its row: what is there now is another story, or still waits.

    Raises:
        Stopped: `stopping` was set while a disk or the database did not take it.
    """
    outcomes: dict[int, Outcome] = {}
    left = list(moves)
    while left:
        now = _placed(ledger, left, stopping, life)
        outcomes |= now
        done = [id for id, outcome in now.items() if outcome is Outcome.DONE]
        lost = [id for id, outcome in now.items() if outcome in (Outcome.GONE, Outcome.STUCK)]
        persist(partial(ledger.finish, done), stopping, life)
        persist(partial(ledger.release, lost), stopping, life)
        occupied = [move for move in left if now[move.id] is Outcome.OCCUPIED]
        left = persist(partial(_redirect, ledger, occupied), stopping, life)
    return outcomes


def _placed(
    ledger: Ledger, moves: Sequence[Move], stopping: threading.Event, life: Life | None
) -> dict[int, Outcome]:
    outcomes: dict[int, Outcome] = {}
    for begin in range(0, len(moves), PLACED_AT_ONCE):
        some = moves[begin : begin + PLACED_AT_ONCE]
        persist(ledger.require_claims, stopping, life)
        outcomes |= persist(partial(filing.place, some), stopping, life)
    return outcomes


def _redirect(ledger: Ledger, moves: Sequence[Move]) -> list[Move]:
    wanted = [Wanted(move.id, move.root, move.destination) for move in moves]
    chosen = naming.choose_destinations(wanted, ledger.taken)
    ledger.redirect(chosen)
    return [replace(move, destination=chosen[move.id]) for move in moves]


def recover(
    ledger: Ledger, folders: Folders, stopping: threading.Event, life: Life | None = None
) -> Recovered:
    """Finish what an interrupted run, or a service that is gone, left between states.

    Raises:
        Stopped: `stopping` was set while a disk or the database did not take it.
    """
    idle = [
        row
        for row in persist(ledger.unfinished, stopping, life)
        if lies_in(folders.inbox, row.source.path)
    ]
    taken = persist(partial(ledger.take_over, [row.id for row in idle]), stopping, life)
    rows = [row for row in idle if row.id in taken]
    moves: list[Move] = []
    to_be_judged: list[int] = []
    for row in rows:
        if move := resumed(row, folders):
            moves.append(move)
        elif row.destination is None or _is_to_be_judged_anew(row):
            to_be_judged.append(row.id)
    persist(partial(ledger.release, to_be_judged), stopping, life)
    outcomes = carry_out(ledger, moves, stopping, life)
    for move in moves:
        if outcomes[move.id] is not Outcome.DONE:
            log.warning("an interrupted move: %s", outcomes[move.id].value, extra=_names(move))
    moved = sum(outcome is Outcome.DONE for outcome in outcomes.values())
    return Recovered(moved, len(to_be_judged) + len(outcomes) - moved)


def resumed(row: Unfinished, folders: Folders) -> Move | None:
    """The move that was decided; None if none was, or one to a folder that is not configured."""
    if row.destination is None:
        return None
    root = folders.root_above(row.destination)
    if root is None:
        return None
    return Move(
        id=row.id,
        source=row.source.path,
        destination=row.destination,
        root=root,
        identity=Identity(row.source.size_bytes, row.source.mtime_ns),
        sha256=row.sha256,
        on_mount=root in folders.mounts,
    )


def _is_to_be_judged_anew(row: Unfinished) -> bool:
    """Of a row whose destination lies in no folder of the configuration, as after a change of it.

    Nothing is touched there, whatever a row says. If the file is gone from the inbox, the row is
    left for a start with the folder that it has been moved to.
    """
    is_here = regular(row.source.path) is not None
    log.warning(
        "the destination is in none of the configured folders: %s",
        "judging the file anew" if is_here else "start once with its folder to end the move",
        extra={"file": row.source.path, "destination": row.destination},
    )
    return is_here


def lies_in(folder: Path, path: Path) -> bool:
    """Whether a path as a row tells it leads into a folder."""
    return path.is_relative_to(folder) and ".." not in path.parts


def _names(move: Move) -> dict[str, Path]:
    return {"file": move.source, "destination": move.destination}


def persist(action: Callable[[], T], stopping: threading.Event, life: Life | None = None) -> T:
    """Do what a full or missing disk or a locked database may refuse, until it works.

    `life` is told how that goes: to wait for a disk is no hang.

    Raises:
        Stopped: `stopping` was set before it worked.
    """
    life = life or Life()
    wait = FIRST_RETRY_SECONDS
    conflicts = 0
    while True:
        life.beat()
        try:
            result = action()
        except (LedgerUnavailable, OSError) as error:
            if isinstance(error, LedgerConflict) and conflicts < MOST_CONFLICTS:
                conflicts += 1
                continue
            if stopping.is_set():
                raise Stopped from error
            if life.trouble is None:
                log.error("cannot go on, trying again until it works: %s", error)
            life.trouble = str(error)
            if life.rest(wait, stopping):
                raise Stopped from error
            wait = min(2 * wait, LONGEST_RETRY_SECONDS)
        else:
            if life.trouble:
                log.info("going on")
            life.trouble = None
            return result
