"""What the demos on embedded and on a user's images share: trainings, and what is said of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from distill.jobs.steps import Step, Workplace


ENOUGH = 200
"""Images from which on a difference is told; of fewer it is mostly chance."""


@dataclass(frozen=True)
class Training:
    """A classifier that the demo trains.

    Attributes:
        config: Name of its config.
        epochs: How often it sees the drawn images; `demo --data` has the config's own length instead.
        who: What people are told that it is.
        teacher: The training that makes its teacher; None for none.
        alone: The training of the same model without a teacher.
        data: Folder of its images.
        expected_s: About how long it takes, for the estimate of what is left.
    """

    config: str
    epochs: int
    who: str
    teacher: str | None = None
    alone: str | None = None
    data: str = 'imagenet'
    expected_s: float = 30


BROAD = 'broad'
"""Folder of the images that give no class away by texture."""
RUNS = {
    'deit-teacher': Training('deit-mini_shapes', 9, 'teacher DeiT-mini', expected_s=90),
    'broad-teacher': Training(
        'robust-resnet-broad_shapes',
        4,
        'teacher Robust-ResNet-mini, taught on every shape in every texture',
        data=BROAD,
        expected_s=70,
    ),
    'robust-teacher': Training('robust-resnet-mini_shapes', 2, 'teacher Robust-ResNet-mini', expected_s=35),
    'robust-alone': Training('robust-resnet-tiny_shapes', 2, 'Robust-ResNet-tiny alone'),
    'robust-from-deit': Training(
        'deit-mini_robust-resnet-tiny_shapes',
        2,
        'Robust-ResNet-tiny, taught by DeiT-mini',
        'deit-teacher',
        'robust-alone',
    ),
    'deit-alone': Training('deit-tiny_shapes', 3, 'DeiT-tiny alone', expected_s=25),
    'deit-from-robust': Training(
        'robust-resnet-mini_deit-tiny_shapes',
        3,
        'DeiT-tiny, taught by Robust-ResNet-mini',
        'robust-teacher',
        'deit-alone',
        expected_s=40,
    ),
    'robust-from-broad': Training(
        'robust-resnet-broad_robust-resnet-tiny_shapes',
        2,
        'Robust-ResNet-tiny, taught by the one that saw every texture',
        'broad-teacher',
        'robust-alone',
    ),
    'resnet-alone': Training('resnet-tiny_shapes', 2, 'ResNet-tiny alone', expected_s=15),
    'resnet-from-broad': Training(
        'robust-resnet-broad_resnet-tiny_shapes',
        2,
        'ResNet-tiny, taught by the one that saw every texture',
        'broad-teacher',
        'resnet-alone',
        expected_s=20,
    ),
}
"""The trainings on the embedded images, by name."""


def check_same_demo(steps: 'list[Step]', place: 'Workplace', work: Path) -> None:
    """Check that what was done before is a part of this demo.

    Raises:
        ValueError: It is of another one.
    """
    for step in steps:
        if place.mark(step.name).is_file() and not place.is_done(step):
            raise ValueError(
                f"'{work}' holds another demo, or one of another version, whose step '{step.name}' differs; "
                'choose another --work-dir or delete it'
            )


def checkpoint(run: str, work: Path) -> Path:
    """The weights of a training, by its name."""
    return work / run / 'student_best.pth'


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in this thread alone: a pool of several would not survive in forks."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def glance(name: str, run: Training, data: Path, work: Path, suites: 'Sequence[str]' = ('clean', 'stylized')) -> str:
    """Judge a training on the suites that say most; returns what came out, in words. The last step goes on from it.

    Args:
        name: Name of the training.
        run: The training.
        data: Folder with the suites' folders.
        work: Folder that everything goes to.
        suites: ``clean``, and ``stylized`` if it is there.
    """
    from distill.robustness.evaluate import Settings, evaluate
    from distill.robustness.runs import load_run
    from distill.robustness.suites import choose_suites

    with one_thread():
        judged = load_run(str(checkpoint(name, work)), 'cpu')
        chosen, _ = choose_suites(list(suites), str(data), judged.classes or [])
        scores = evaluate([judged], chosen, Settings(str(data), work / 'robustness', workers=0))['classification']
    alone, last = scores.get(run.alone or ''), suites[-1]
    text = f'{run.who}: {scores[name]["clean"]["top1_pct"]:.1f} % right'
    if last == 'stylized':
        text += f", {scores[name][last]['top1_pct']:.0f} % where shapes wear each other's textures"
    if alone is None or scores[name][last]['images'] < ENOUGH:
        return text
    difference = scores[name][last]['top1_pct'] - alone[last]['top1_pct']
    points = f'{difference:+.0f} points against' if round(difference) else 'as often as'
    return f'{text}, {points} the same model alone'


def show_end(console: 'Console', results: Mapping, scores: 'Table', work: Path) -> None:
    """Print the answer, the scores and where the report is.

    Args:
        console: Rich's console.
        results: Contents of the report's results.json.
        scores: Table of the scores.
        work: Folder that everything went to, as the user gave it.
    """
    from distill.report.headline import three_sentences
    from distill.report.ledger import ledger_sentences
    from distill.report.ledger_scenes import scene_ledger_sentences

    console.print()
    for sentence in (*three_sentences(results), *ledger_sentences(results), *scene_ledger_sentences(results)):
        if sentence:
            console.print(sentence)
    console.print(scores)
    console.print(f'report: {work / "report.html"}')
