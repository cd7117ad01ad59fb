"""Manifests, splits, clips and examples put together: what a task trains and validates on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from shrinkspeech.data.checking import Fault, Faults
from shrinkspeech.data.clips import Clips
from shrinkspeech.data.frontend import FrontEnd
from shrinkspeech.data.items import Batch, Items, Key, Plan
from shrinkspeech.data.labels import class_indices, drop_unlabelled, speaker_indices, speech_rows
from shrinkspeech.data.loader import endless, in_pairs, load, once
from shrinkspeech.data.manifest import Manifest, read_manifest
from shrinkspeech.data.options import DataOptions
from shrinkspeech.data.rows import LABELS, SPEAKERS, Row, in_split
from shrinkspeech.data.splits import Splits, split_rows
from shrinkspeech.errors import InputError
from shrinkspeech.processes import cut

TARGETS = ("class", "speaker", "speech", "clean", "none")


@dataclass
class Source:
    """Training and validation batches.

    Attributes:
        labels: in the order of their indices; empty unless the target is a class.
        counts: training rows of each class.
        notes: what the user should know, in sentences.
        whole: every batch has ``options.batch_size`` examples, for models of one batch size.
    """

    options: DataOptions
    train_items: Items
    val_items: Items
    labels: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    whole: bool = False
    _faults: dict[str, Faults] = field(default_factory=dict)
    _val: list[Batch] | None = None

    def train(self, workers: int | None = None, start: int = 0) -> Iterator[Batch]:
        """An endless stream of batches, the same at every call and for every number of workers, from number ``start`` on."""
        keys = islice(self._train_keys(), start, None)
        return self._load(self.train_items, keys, self.options.processes if workers is None else workers)

    def train_rows(self, rank: int, count: int) -> Iterator[tuple[Batch, int]]:
        """Of every batch of ``train`` the rows of one of ``count`` processes, and how many the batch has."""
        size = self.options.batch_size
        start, end = cut(size, count)[rank]
        keys = (whole[start:end] for whole in self._train_keys())
        for batch in self._load(self.train_items, keys, self.options.processes):
            yield batch, size

    def _train_keys(self) -> Iterator[list[Key]]:
        size, seed, items = self.options.batch_size, self.options.seed, self.train_items
        if items.plan.kind == "speaker":
            return in_pairs([row.label for row in items.clips.checked.rows], size, seed)
        return endless(items.visits(), size, seed)

    def val(self) -> Iterable[Batch]:
        """The same batches at every call; kept in memory if they fit into ``options.cache_mb``."""
        if self._val is not None:
            return self._val
        keys = self._val_keys()
        if not keys:
            raise InputError(
                f"{len(self.val_items.clips)} rows to validate on do not fill one batch of {self.options.batch_size}, "
                "the only size that the model takes: give more rows"
            )
        workers = self.options.processes if len(keys) > 4 else 0
        size = len(keys) * self.options.batch_size * self.val_items.plan.length * 4
        if size > self.options.cache_mb * 1e6:
            return self._load(self.val_items, keys, workers)
        self._val = list(self._load(self.val_items, keys, workers))
        return self._val

    def val_rows(self) -> list[int]:
        """Which rows of ``val_items`` are validated on."""
        return [row for keys in self._val_keys() for _, row in keys]

    def _val_keys(self) -> list[list[tuple[int, int]]]:
        return once(len(self.val_items.clips), self.options.batch_size, self.options.val_items, whole=self.whole)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Clips that were left out while batches were made."""
        return tuple(fault for faults in self._faults.values() for fault in faults.found.values())

    def _load(self, items: Items, keys: Iterable[list[tuple[int, int]]], workers: int) -> Iterator[Batch]:
        for clips in (items.clips, items.noise, items.rooms):
            if clips is not None:
                self._faults.setdefault(clips.name, Faults(len(clips), clips.name))
        return load(items, keys, workers, tuple(self._faults.values()))


def open_source(
    options: DataOptions, kind: str, length: int, frontend: FrontEnd | None = None, *, whole: bool = False
) -> Source:
    """Read manifests, check every file, and say how examples are made.

    Args:
        kind: what the target is: ``class``, ``speaker``, ``speech``, ``clean`` or ``none``.
        length: samples of an example.
        frontend: features in place of samples.
        whole: leave out a smaller last batch when validating.

    Raises:
        InputError: a manifest has a fault; one sentence.
        AudioError: more than one in a hundred clips is broken.
    """
    if kind == "speech" and options.pad == "repeat":
        raise InputError("--pad repeat would repeat clips away from their labels: leave it out")
    _refuse_huge(options.batch_size, length)
    main, splits, others = _manifests(options, kind)
    classes: dict[str, int] = {}
    notes: list[str] = []
    if kind == "class":
        splits = drop_unlabelled(splits, main)
        classes, notes = class_indices(splits, options.labels, str(main.path))
    elif kind == "speaker":
        splits = drop_unlabelled(splits, main, kind)
        classes, notes = speaker_indices(splits, main.label_column)
    elif kind == "speech":
        splits = speech_rows(splits, main)
    elif kind == "clean" and options.noise is None and any(row.clean is None for row in (*splits.train, *splits.val)):
        raise InputError(
            f"{main.path} has no clean form of every clip: give noise with --noise, or a column 'clean_filepath'"
        )
    notes = [*splits.notes, *notes]
    train = Clips.open(splits.train, f"{main.path} (train)", options.sample_rate, options.cache_mb)
    val = Clips.open(splits.val, f"{options.val or main.path} (val)", options.sample_rate, options.cache_mb)
    noise, rooms = others.get("noise"), others.get("rir")
    train_noise, val_noise = _by_split(noise, options, notes) if noise else (None, None)
    train_rooms = _clips(rooms, "train", options) if rooms else None
    plan = Plan(
        kind=kind,
        length=length,
        rate=options.sample_rate,
        seed=options.seed,
        training=True,
        classes=classes,
        pad=options.pad,
        snr=options.snr,
        gain=options.gain,
        masks=options.masks,
    )
    for clips in (train, val, train_noise, val_noise, train_rooms):
        notes.extend(clips.checked.notes if clips is not None else ())
    counts = Counter(row.label for row in train.checked.rows)
    return Source(
        options=options,
        train_items=Items(train, plan, train_noise, train_rooms, frontend),
        val_items=Items(val, replace(plan, training=False), val_noise, None, frontend),
        labels=tuple(classes) if kind == "class" else (),
        counts=tuple(counts[label] for label in classes),
        notes=tuple(dict.fromkeys(notes)),
        whole=whole,
    )


def _manifests(options: DataOptions, kind: str) -> tuple[Manifest, Splits, dict[str, Manifest]]:
    """The manifest of the clips, their splits, and the manifests of noise and rooms."""
    named = SPEAKERS if kind == "speaker" else LABELS
    main = read_manifest(options.manifest, options.label_column, options.where, named)
    others = {}
    if options.noise is not None:
        others["noise"] = read_manifest(options.noise, None, options.noise_where)
    if options.rir is not None:
        others["rir"] = read_manifest(options.rir)
    if kind == "speaker":
        main = replace(main, rows=tuple(replace(row, group=row.label or row.group) for row in main.rows))
    if options.val is None:
        name, one_will_do = str(main.path), kind == "none"
        return main, split_rows(main.rows, options.val_fraction, options.seed, name, one_will_do=one_will_do), others
    val = read_manifest(options.val, options.label_column, options.where, named)
    return main, Splits(_some(main, "train"), _some(val, "val"), ()), others


def _some(manifest: Manifest, split: str) -> tuple[Row, ...]:
    rows = in_split(manifest.rows, split)
    if not rows:
        raise InputError(f"{manifest.path} has no rows of the split '{split}'")
    return tuple(rows)


def _by_split(noise: Manifest, options: DataOptions, notes: list[str]) -> tuple[Clips, Clips]:
    """Noise to train with and to validate with; the same where the manifest does not tell them apart."""
    if all(row.split is None for row in noise.rows):
        notes.append(f"{noise.path} has no splits: the same noise serves to train and to validate")
        clips = _open(noise.rows, f"{noise.path} (noise)", options)
        return clips, clips
    return _clips(noise, "train", options), _clips(noise, "val", options)


def _clips(manifest: Manifest, split: str, options: DataOptions) -> Clips:
    return _open(_some(manifest, split), f"{manifest.path} ({split})", options)


def _open(rows: Sequence[Row], name: str, options: DataOptions) -> Clips:
    return Clips.open(rows, name, options.sample_rate, options.cache_mb)


def _refuse_huge(batch_size: int, length: int) -> None:
    """
    Raises:
        InputError: not even the samples of one batch fit into this machine's memory.
    """
    wanted, there = batch_size * length * 4, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > there:
        raise InputError(
            f"a batch of {batch_size} examples of {length} samples takes {wanted / 1e9:.3g} GB, and this machine has "
            f"{there / 1e9:.3g} GB: lower --batch-size or --crop"
        )
