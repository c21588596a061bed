"""The entries of ``results.json`` as types, for the code that writes and reads them.

The keys are those of `distill.results.schema`, whose documentation, ``docs/results_schema.md``, says what each means.
"""

from typing import Literal, TypedDict


class _Run(TypedDict):
    model: str
    model_kwargs: dict
    teacher: str | None
    params: int
    checkpoint: str | None
    weights_sha256: str
    input_size: list[int]
    mean: list[float]
    std: list[float]


class _Artefact(TypedDict):
    engine: str
    precision: Literal['fp32', 'bf16', 'fp16', 'int8']


class ArtefactRecord(_Artefact, total=False):
    """What an exported file is: engine, precision, and the weights that it was exported from."""

    engine_version: str
    weights_sha256: str | None
    kept_in_fp32: list[str]
    calibration: dict | None


class _Probe(TypedDict):
    method: Literal['knn', 'linear', 'ridge']
    share: float
    seed: int
    images: int
    train_sha256: str


class ProbeRecord(_Probe, total=False):
    """A classifier on frozen features: how it learns, and the training images that it learns from."""

    neighbours: int
    temperature: float


class RunRecord(_Run, total=False):
    """A model under evaluation: an entry of ``runs``."""

    source: str
    classes_from: Literal['told', 'assumed', 'data']
    clean_subset_top1_pct: dict[str, float]
    artefact: ArtefactRecord
    seen_kinds: list[str]
    probe: ProbeRecord
    learnt: dict[str, float | None]


class Fingerprint(TypedDict, total=False):
    """What the predictions of a run on a suite follow from; two scores with the same one need no second evaluation."""

    weights: str
    data: str
    classes: str
    cells: int
    input_size: list[int]
    transform: dict | str
    normalisation: list[list[float]]
    source: str | None
    probe: ProbeRecord
    resized_from: int
    seed: int
    definition: str
    frost: str
    corrupted_on: str


class _Images(TypedDict):
    images: int


class ShownEntry(_Images, total=False):
    """What a run was shown, and what a reader of its scores should know: the keys of every entry of a suite."""

    classes: int
    input_size: list[int]
    fingerprint: Fingerprint
    problems: dict[str, int]


class UnlabelledEntry(ShownEntry, total=False):
    """What was counted on images without labels: an entry of ``unlabelled.<run>``."""

    agreement_pct: dict[str, float]


class _Scored(ShownEntry):
    top1_pct: float


class SuiteEntry(_Scored, total=False):
    """The scores of a run on a suite: an entry of ``classification.<run>``.

    The keys from ``mean_error_pct`` on are those of ``corruption``; `distill.results.cells` reads and writes the cells.
    """

    top1_ci95_pct: list[float]
    top5_pct: float
    ece_pct: float
    shape_bias_pct: float | None
    shape_bias_by_class: dict[str, float]
    shape_bias_counts: dict[str, int]
    clean_subset_top1_pct: float
    effective_robustness_pct: float
    mean_error_pct: float
    source: str
    cells: dict[str, list[float]]
    mce_pct: float
    relative_mce_pct: float
    mce_normaliser: str
    extra_cells: dict[str, list[float]]
    unseen_mean_error_pct: float
    frost: str
    definition: str
    corrupted_on: str


class ShapeBias(TypedDict):
    """Decisions for the shape against the texture: keys of a `SuiteEntry`."""

    shape_bias_pct: float | None
    shape_bias_by_class: dict[str, float]
    shape_bias_counts: dict[str, int]


class _Answer(TypedDict):
    label: str


class Answer(_Answer, total=False):
    """What a run decided for a sample."""

    confidence: float


class _Sample(TypedDict):
    suite: str
    image: str
    target: str
    predictions: dict[str, Answer]


class Sample(_Sample, total=False):
    """An image that is shown in the report."""

    texture: str
    note: str
    disagreement: bool


class BaselineFit(TypedDict):
    """The line through the baselines on a suite."""

    slope: float
    intercept: float
    space: Literal['logit']
    runs: list[str]


class Comparison(TypedDict):
    """Two runs on the same images of a suite."""

    a: str
    b: str
    suite: str
    difference_pct: float
    ci95_pct: list[float]
    agreement_pct: float
    images: int


class SceneChange(TypedDict):
    """One detector or segmenter against another, image by image."""

    section: Literal['detection', 'segmentation']
    score: Literal['P', 'mPC']
    difference_points: float
    ci95_points: list[float]
    images: int


class ArtefactChange(SceneChange):
    """An exported detector or segmenter against its model."""

    model: str
    artefact: str


class StudentChange(SceneChange):
    """A detector or segmenter against its teacher."""

    teacher: str
    student: str


class LedgerStage(TypedDict):
    """A run in its place in a chain of the ledger; of a detector or segmenter its ``checkpoint``."""

    stage: str
    run: str


class LedgerLink(TypedDict):
    """What is gained or lost from one stage of a chain to another by a measure."""

    before: str
    after: str
    measure: str
    difference_points: float
    ci95_points: list[float]


class _LedgerChain(TypedDict):
    section: Literal['classification', 'detection', 'segmentation']
    stages: list[LedgerStage]
    links: list[LedgerLink]
    most_lost: LedgerLink | None
    sentence: str


class LedgerChain(_LedgerChain, total=False):
    """The chain from a teacher to an artefact: an entry of ``ledger``."""

    alone: str
    backbone: str


class DataRecord(TypedDict, total=False):
    """The images of a suite: where they lie, how many there are, and the hash of their paths and sizes."""

    root: str
    images: int
    sha256: str


class Provenance(TypedDict, total=False):
    """Where numbers come from."""

    command: str
    created: str
    seed: int | None
    device: str
    versions: dict[str, str]
    data: dict[str, DataRecord]


class _Results(TypedDict):
    schema_version: int


class Results(_Results, total=False):
    """The contents of ``results.json``; the sections of detectors, segmenters and explained pairs are plain dicts."""

    runs: dict[str, RunRecord]
    classification: dict[str, dict[str, SuiteEntry]]
    baseline_fit: dict[str, BaselineFit]
    comparisons: list[Comparison]
    unlabelled: dict[str, dict[str, UnlabelledEntry]]
    samples: list[Sample]
    scores: dict[str, float]
    explain: list[dict]
    detection: dict
    segmentation: dict
    artefact_changes: list[ArtefactChange]
    student_changes: list[StudentChange]
    ledger: list[LedgerChain]
    provenance: Provenance
