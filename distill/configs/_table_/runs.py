"""The table of runs: student × teacher × recipe × data, with hardware, cost and target; and the recipes."""

from dataclasses import dataclass, field

__all__ = ['RECIPES', 'RUNS', 'Recipe', 'Run']


@dataclass(frozen=True)
class Recipe:
    """How students are trained, with and without a teacher.

    Attributes:
        word: The word in names of configs.
        whose: Whose recipe it is, as a header says it.
        title: What a header says about the recipe.
        base: File of `_base_`; the small data sets have one each instead.
        own: Name of the model whose own recipe it is.
        gpus: What the total batch is meant for.
        student: Arguments of every student.
        alone: Losses without a teacher; none if ``base`` has them.
        smoothing: Label smoothing beside a teacher, where mixup does not add it.
        corrupt: What corrupts the images that students train on; teachers see clean ones.
        sees: What a header calls that.
        matching: Whether the student matches its teacher as a function, without labels; ``base`` has the loss.
    """

    word: str
    whose: str = ''
    title: str = ''
    base: str = ''
    own: str = ''
    gpus: int = 0
    student: dict = field(default_factory=dict)
    alone: tuple[dict, ...] = ()
    smoothing: float | None = None
    corrupt: dict = field(default_factory=dict)
    sees: str = ''
    matching: bool = False


LABELS = (dict(type='cross_entropy'),)
# The source's parameters for images of 32 pixels.
PRIME = dict(kinds=('prime',), prime=dict(colour_cut=100, colour_temperature=0.01, colour_band=None))
RECIPES = {
    'deit': Recipe(
        '300e',
        "DeiT's",
        '300-epoch recipe',
        'imagenet_deit_300e',
        gpus=8,
        student=dict(drop_path_rate=0.1),
        alone=LABELS,
    ),
    'convnext': Recipe(
        '300e',
        "ConvNeXt-B's",
        '300-epoch recipe',
        'imagenet_convnext_300e',
        own='convnext-b',
        gpus=32,
        student=dict(drop_path_rate=0.5),
        alone=LABELS,
    ),
    'resnest': Recipe('270e', 'its own', '270-epoch recipe', 'imagenet_resnest_270e', gpus=64),
    'fm': Recipe(
        'fm-1200e',
        title='"a good teacher is patient and consistent"',
        base='imagenet_function_matching_1200e',
        gpus=32,
        matching=True,
    ),
    'small': Recipe('', smoothing=0.1),
    'small-augmix': Recipe('augmix', smoothing=0.1, corrupt=dict(kinds=('augmix',)), sees='sees mixtures by AugMix'),
    'small-prime': Recipe('prime', smoothing=0.1, corrupt=PRIME, sees='sees mixtures by PRIME'),
    'small-corrupted': Recipe(
        'corrupted',
        smoothing=0.1,
        corrupt=dict(severities=(1, 2, 3, 4, 5)),
        sees='sees corrupted images',
    ),
    # All that no benchmark here is scored on; the parameters of PRIME are those for 32 pixels.
    'small-broad': Recipe(
        'broad',
        smoothing=0.1,
        corrupt=dict(kinds=('augmix', *PRIME['kinds'], 'holdout'), prime=PRIME['prime']),
        sees='sees mixtures by AugMix and PRIME and corrupted images',
    ),
    'small-fm': Recipe('fm', matching=True),
}


@dataclass(frozen=True)
class Run:
    """A row of the table.

    Attributes:
        data: 'imagenet', 'shapes' or 'cifar10': also the folder of the config.
        student: Name of the model that learns.
        teacher: Name of the model that teaches; '' if none does.
        recipe: Key of `RECIPES`.
        hardware: What the run is meant for; on ImageNet the memory of each GPU.
        cost: Time, or what is known about it.
        target: Score that the run aims at, with its source.
        lines: Last lines of the config.
    """

    data: str
    student: str
    teacher: str
    recipe: str
    hardware: str
    cost: str
    target: str
    lines: str = ''

    @property
    def name(self) -> str:
        """Name of the config."""
        words = (self.teacher, self.student, RECIPES[self.recipe].word, self.data)
        return '_'.join(word for word in words if word)


UNKNOWN = 'not measured here'
IN_PORTIONS = (
    'not measured here; with train_dataloader.batch_size={} optim_wrapper.accumulative_counts={} on GPUs of {} GB'
)
AUTHORS = 'about 50 hours on 8 A5000 by the authors (RobustCNN TRAIN.md), not measured here'
TAUGHT = "not measured here; that of the student alone and the teacher's forward passes"
FOUND = 'above both models alone (Wang et al., ICLR 2023, section 6)'
OF_STUDENT, OF_TEACHER = (f'top-1 on val ≥ {pct} % with 12,000 images, as in the demo' for pct in (85, 90))
BROAD = """
# Made by `tools/make_data.py data/shapes-broad --sets imagenet --size 32 --train 12000 --texture-agreement 0.1`.
data_root = 'data/shapes-broad/imagenet'
train_dataloader = dict(dataset=dict(root=data_root))
val_dataloader = dict(dataset=dict(root=data_root))
test_dataloader = val_dataloader"""
LIKELY = 'above both models alone, as Wang et al., ICLR 2023, found for a Robust-ResNet'
# fmt: off
RUNS = [
    # Data, student, teacher, recipe, hardware, cost, target.
    Run('imagenet', 'deit-s', '', 'deit', '16 GB', "two to three days by the recipe's authors, not measured here",
        'top-1 79.8 % (Touvron et al., ICML 2021, table 7)'),
    Run('imagenet', 'deit-b', '', 'deit', '32 GB', UNKNOWN, 'top-1 81.8 % (DeiT README)'),
    Run('imagenet', 'resnet50', '', 'deit', '16 GB', UNKNOWN, 'none is published for the whole of this recipe'),
    Run('imagenet', 'robust-resnet-dw-s', '', 'deit', '24 GB', AUTHORS, 'top-1 79.4 % (RobustCNN README)'),
    Run('imagenet', 'robust-resnet-inverted-s', '', 'deit', '24 GB', AUTHORS, 'top-1 79.0 % (RobustCNN README)'),
    Run('imagenet', 'robust-resnet-up-s', '', 'deit', '24 GB', AUTHORS, 'top-1 79.2 % (RobustCNN README)'),
    Run('imagenet', 'robust-resnet-down-s', '', 'deit', '24 GB', AUTHORS, 'top-1 79.9 % (RobustCNN README)'),
    Run('imagenet', 'robust-resnet-dw-b', '', 'convnext', '32 GB', UNKNOWN,
        'none is published for this depth, see docs/models.md'),
    Run('imagenet', 'convnext-b', '', 'convnext', '32 GB', UNKNOWN, 'top-1 83.8 % (ConvNeXt README)'),
    Run('imagenet', 'resnest50', '', 'resnest', '16 GB', UNKNOWN, 'top-1 81.03 % at 224 px (ResNeSt README)'),
    Run('imagenet', 'resnest101', '', 'resnest', '24 GB', UNKNOWN, 'top-1 82.83 % at 256 px (ResNeSt README)'),
    Run('imagenet', 'resnest200', '', 'resnest', '80 GB', IN_PORTIONS.format(64, 2, 40),
        'top-1 83.84 % at 320 px (ResNeSt README)'),
    Run('imagenet', 'resnest269', '', 'resnest', '141 GB', IN_PORTIONS.format(32, 4, 40),
        'top-1 84.54 % at 416 px (ResNeSt README)'),

    Run('imagenet', 'robust-resnet-dw-s', 'deit-s', 'deit', '24 GB', TAUGHT, FOUND),
    Run('imagenet', 'robust-resnet-inverted-s', 'deit-s', 'deit', '24 GB', TAUGHT, LIKELY),
    Run('imagenet', 'robust-resnet-up-s', 'deit-s', 'deit', '24 GB', TAUGHT, LIKELY),
    Run('imagenet', 'robust-resnet-down-s', 'deit-s', 'deit', '24 GB', TAUGHT, LIKELY),
    Run('imagenet', 'resnet50', 'deit-s', 'deit', '24 GB', TAUGHT,
        'none; robustness is not expected to pass (Wang et al., ICLR 2023, section 6)'),
    Run('imagenet', 'robust-resnet-dw-b', 'deit-b', 'convnext', '40 GB', UNKNOWN,
        'none is published; above the 81.8 % of DeiT-B (DeiT README)'),
    Run('imagenet', 'deit-s', 'robust-resnet-dw-s', 'deit', '24 GB', TAUGHT, FOUND),
    Run('imagenet', 'deit-s', 'resnet50', 'deit', '24 GB', TAUGHT,
        'above its teacher (Wang et al., ICLR 2023, section 6)'),
    Run('imagenet', 'deit-b', 'robust-resnet-dw-b', 'deit', '40 GB', UNKNOWN,
        'none is published; above the 81.8 % of DeiT-B alone (DeiT README)'),
    Run('imagenet', 'deit-s-token', 'robust-resnet-dw-s', 'deit', '24 GB', TAUGHT,
        'none is published with this teacher; with a RegNetY-16GF as teacher top-1 81.2 % (DeiT README)'),
    Run('imagenet', 'bit-r50', 'bit-r152x2', 'fm', '32 GB',
        'four times the 15 hours that 300 epochs take on a TPU v3-32 by the authors; not measured here',
        "none is published for this length; the paper's best, longer and with two teachers, has 82.8 %"),
    Run('imagenet', 'robust-resnet-dw-s', 'deit-s', 'fm', '24 GB', 'not measured here; four times that of 300 epochs',
        'none is published for this pair',
        '# The rate and decay that this student is trained with otherwise, for this batch: 5e-4 × 4096 / 512.\n'
        'optim_wrapper = dict(optimizer=dict(lr=4e-3, weight_decay=0.05))'),

    Run('shapes', 'deit-mini', '', 'small', 'one CPU core', 'about 1½ minutes', OF_TEACHER),
    Run('shapes', 'deit-tiny', '', 'small', 'one CPU core', 'about 1 minute', OF_STUDENT),
    Run('shapes', 'robust-resnet-mini', '', 'small', 'one CPU core', 'about 1 minute', OF_TEACHER),
    Run('shapes', 'robust-resnet-broad', '', 'small', 'one CPU core', 'about 1½ minutes', OF_TEACHER, BROAD),
    Run('shapes', 'robust-resnet-tiny', '', 'small', 'one CPU core', 'about half a minute', OF_STUDENT),
    Run('shapes', 'resnet-tiny', '', 'small', 'one CPU core', 'about half a minute', OF_STUDENT),
    Run('shapes', 'robust-resnet-tiny', 'deit-mini', 'small', 'one CPU core', 'about 1 minute', OF_STUDENT),
    Run('shapes', 'robust-resnet-tiny', 'robust-resnet-broad', 'small', 'one CPU core', 'about 1 minute',
        OF_STUDENT),
    Run('shapes', 'resnet-tiny', 'robust-resnet-broad', 'small', 'one CPU core', 'about 1 minute',
        OF_STUDENT),
    Run('shapes', 'resnet-tiny', 'deit-mini', 'small', 'one CPU core', 'not measured', 'none set'),
    Run('shapes', 'deit-tiny', 'robust-resnet-mini', 'small', 'one CPU core', 'about 1 minute', OF_STUDENT),
    Run('shapes', 'deit-tiny', 'resnet-tiny', 'small', 'one CPU core', 'not measured', 'none set'),
    Run('shapes', 'deit-mini-token', 'robust-resnet-mini', 'small', 'one CPU core', 'not measured', 'none set'),
    Run('shapes', 'robust-resnet-tiny', 'deit-mini', 'small-fm', 'one CPU core', 'not measured', 'none set'),

    Run('shapes', 'robust-resnet-tiny', '', 'small-augmix', 'one CPU core', 'not measured', 'none set'),
    Run('shapes', 'robust-resnet-tiny', '', 'small-prime', 'one CPU core', 'not measured', 'none set'),
    Run('shapes', 'robust-resnet-tiny', '', 'small-corrupted', 'one CPU core', 'not measured', 'none set'),
    Run('shapes', 'robust-resnet-tiny', 'deit-mini', 'small-prime', 'one CPU core', 'not measured', 'none set'),
    Run('shapes', 'robust-resnet-tiny', 'deit-mini', 'small-corrupted', 'one CPU core', 'not measured', 'none set'),

    Run('cifar10', 'deit-mini', '', 'small', 'two CPU cores', 'some minutes',
        'clearly above chance; see docs/real_small.md'),
    Run('cifar10', 'deit-tiny', '', 'small', 'two CPU cores', 'some minutes', 'none set; see docs/transfer.md'),
    Run('cifar10', 'robust-resnet-tiny', '', 'small', 'two CPU cores', 'some minutes',
        'clearly above chance; see docs/real_small.md'),
    Run('cifar10', 'resnet-tiny', '', 'small', 'two CPU cores', 'not measured', 'none set'),
    Run('cifar10', 'robust-resnet-tiny', 'deit-mini', 'small', 'two CPU cores', 'some minutes',
        'clearly above chance; see docs/real_small.md'),
    Run('cifar10', 'resnet-tiny', 'deit-mini', 'small', 'two CPU cores', 'not measured', 'none set'),
    Run('cifar10', 'deit-mini-token', 'robust-resnet-tiny', 'small', 'two CPU cores', 'not measured', 'none set'),
    Run('cifar10', 'robust-resnet-tiny', '', 'small-augmix', 'two CPU cores', 'not measured', 'none set'),
    Run('cifar10', 'robust-resnet-tiny', '', 'small-prime', 'two CPU cores', 'not measured', 'none set'),
    Run('cifar10', 'robust-resnet-tiny', '', 'small-corrupted', 'two CPU cores', 'not measured', 'none set'),
    Run('cifar10', 'deit-mini', '', 'small-broad', 'two CPU cores', 'not measured', 'none set'),
    Run('cifar10', 'robust-resnet-tiny', 'deit-mini', 'small-prime', 'two CPU cores', 'not measured', 'none set'),
    Run('cifar10', 'robust-resnet-tiny', 'deit-mini', 'small-corrupted', 'two CPU cores', 'not measured', 'none set'),
    Run('cifar10', 'robust-resnet-tiny', 'deit-mini', 'small-fm', 'two CPU cores', 'not measured', 'none set'),
]
# fmt: on
