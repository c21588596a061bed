"""Dense losses against values and gradients of the public implementations (dense_reference.json)."""

import functools
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from distill.losses.dense.context_pyramid import hcl
from distill.losses.dense.crosskd import align_scale, bins_kl, giou, quality_focal
from distill.losses.dense.factorised import FBKD, four_lengths
from distill.losses.dense.focal_global import FGD
from distill.losses.dense.masked_generation import MGD
from distill.losses.dense.pearson import pkd
from distill.losses.dense.pixel import pixel_dist, pixel_kl
from distill.losses.dense.regions import roi_classes, roi_deltas
from distill.losses.dense.structure import skd_pairwise, skd_patches, skd_pixel
from distill.losses.features import cwd
from distill.losses.logits import dist, dkd

TOLERANCE = dict(rtol=1e-5, atol=1e-12)


@functools.cache
def records() -> dict[str, dict]:
    path = Path(__file__).with_name('dense_reference.json')
    return {record['id']: record for record in json.loads(path.read_text())['records']}


def made(spec: list) -> Tensor:
    """The tensor of a record, exactly representable in fp32, as fp64."""
    _, index, shape, amplitude, rule, *_ = spec
    if rule == 'constant':
        return torch.full(shape, amplitude, dtype=torch.float64)
    k = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    if rule == 'sin':
        x = amplitude * torch.sin(0.7 * k + index)
    else:
        x = amplitude * (torch.sin((0.7 + 0.13 * index) * k + index) + 0.5 * torch.sin(0.05 * k + 2 * index))
    return x.float().double().reshape(shape)


def inputs_of(record: dict) -> dict[str, Tensor]:
    return {spec[0]: made(spec).requires_grad_(spec[-1]) for spec in record['inputs']}


def fill(module: nn.Module, record: dict, names: dict[str, str]) -> nn.Module:
    """Give a module the record's parameters, whose names begin with the keys of `names` instead of its values."""
    state = module.double().state_dict()
    for spec in record['params']:
        name = next(spec[0].replace(theirs, ours, 1) for theirs, ours in names.items() if spec[0].startswith(theirs))
        base = spec[5] if len(spec) > 5 else 0.0
        assert state[name].shape == tuple(spec[2]), name
        state[name] = made(spec) + base
    module.load_state_dict(state)
    return module


def golden(count: int) -> Tensor:
    return ((torch.arange(count, dtype=torch.float64) + 1) * 0.6180339887498949) % 1


class ChosenMask(MGD):
    """MGD with the records' numbers in place of random ones."""

    def uniform(self, shape, like):
        u = golden(torch.Size(shape).numel()).reshape(shape)
        # The version for classifiers hides where u is small, the other where it is large.
        return u if self.mask == 'positions' else 1 - u


def mgd(record: dict, student: Tensor, teacher: Tensor, **options) -> Tensor:
    loss = ChosenMask(student.shape[1], teacher.shape[1], **options)
    return fill(loss, record, {'align': 'align', 'generation': 'generation'})(student, teacher)


def fgd(record: dict, **options) -> tuple[FGD, tuple]:
    student, teacher = inputs_of(record).values()
    names = {'align': 'align'}
    for network, owner in (('s', 'student'), ('t', 'teacher')):
        names[f'conv_mask_{network}'] = f'{owner}_context.attend'
        names[f'channel_add_conv_{network}'] = f'{owner}_context.transform'
    loss = fill(FGD(student.shape[1], teacher.shape[1], **options), record, names)
    # The originals scale boxes by each image's size, ours by the padded batch's.
    batch_shape = tuple(max(side) for side in zip(*record['img_shape'], strict=True))
    boxes = [
        torch.tensor(b, dtype=torch.float64).reshape(-1, 4)
        * torch.tensor([batch_shape[1] / w, batch_shape[0] / h] * 2, dtype=torch.float64)
        for b, (h, w) in zip(record['boxes'], record['img_shape'], strict=True)
    ]
    return loss, (student, teacher, boxes, batch_shape)


TWO_STAGE = dict(alpha=5e-5, beta=2.5e-5, gamma=5e-5, relation=5e-7)
LABELS = (3 * torch.arange(16) + 1) % 9
FBKD_NAMES = {
    'channel_wise_adaptation': 'channel_adaptor',
    'spatial_wise_adaptation': 'spatial_adaptor',
    'adaptation_layers': 'feature_adaptor',
    'non_local_adaptation': 'relation_adaptor',
    **{
        f'{owner}_non_local.{theirs}': f'{owner}_relation.{ours}'
        for owner in ('student', 'teacher')
        for theirs, ours in {
            'g.0.0.conv': 'g',
            'theta.conv': 'theta',
            'phi.0.0.conv': 'phi',
            'conv_out.conv': 'out',
            'conv_out.bn': 'norm',
        }.items()
    },
}


def fbkd_of_outputs(r: dict, x: dict[str, Tensor]) -> Tensor:
    mask = 1 + (x['s_spatial_mask'] + x['t_spatial_mask']) / 2
    channel = (x['s_chpool'], x['teacher'].mean(dim=(2, 3)))
    lengths = four_lengths(
        (x['student'], x['teacher']), channel, (x['s_sppool'], x['t_sppool']), (x['s_rel'], x['t_rel']), mask
    )
    return sum(w * length for w, length in zip((7e-5, 4e-3, 4e-3, 7e-5), lengths, strict=True))


def boxes_of(raw: Tensor) -> Tensor:
    centre, size = 20 + 10 * raw[:, :2], 8 + 6 * raw[:, 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def gfl(x: dict[str, Tensor]) -> Tensor:
    """One level of a dense head with bins: classes, and the four sides of each anchor."""

    def rows(maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1).flatten(0, 2)

    cross, teacher = rows(x['s_cls']), rows(x['t_cls'])
    weight = torch.ones(len(cross), dtype=torch.float64)
    weight[::5] = 0
    classes = quality_focal(cross, teacher, weight, 6.0)
    best = teacher.sigmoid().amax(dim=1) * (weight > 0)
    sides = (rows(x[name]).reshape(-1, 8) for name in ('s_reg', 't_reg'))
    return classes + 4 * bins_kl(*sides, best.repeat_interleave(4), 4.0) / best.sum()


def weight_of_12() -> Tensor:
    weight = torch.ones(12, dtype=torch.float64)
    weight[[0, 5, 10]] = 0
    return weight


CASES = {
    'cwd_feat_1': lambda r, s, t: 10 * cwd(s, t, temperature=1.0),
    'cwd_logit_1': lambda r, s, t: 3 * cwd(s, t),
    'cwd_td_channel': lambda r, s, t: 3 * cwd(s, t),
    'cwd_td_spatial': lambda r, s, t: 3 * pixel_kl(s, t, temperature=4.0),
    # TorchDistiller's mean is also over the 19 classes.
    'kd_pixel_td': lambda r, s, t: 10 * pixel_kl(s, t) / 19,
    'kd_pixel_cirkd': lambda r, s, t: pixel_kl(s, t),
    'pkd_1': lambda r, s, t: 6 * pkd(s, t),
    'pkd_2': lambda r, s, t: 6 * pkd(s, t),
    'pkd_resize_stu': lambda r, s, t: 6 * pkd(s, t),
    'pkd_resize_tea': lambda r, s, t: 6 * pkd(s, t, resize_student=False),
    'pkd_crosskd': lambda r, s, t: 6 * pkd(s, t),
    'mgd_det_1': lambda r, s, t: mgd(r, s, t),
    'mgd_rz': lambda r, s, t: mgd(r, s, t),
    'mgd_seg_1': lambda r, s, t: mgd(r, s, t, mask_ratio=0.75),
    'mgd_cls_1': lambda r, s, t: mgd(r, s, t, alpha=7e-5, mask_ratio=0.15, mask='channels'),
    'skd_pi_1': lambda r, s, t: 10 * skd_pixel(s, t),
    'skd_pa_1': lambda r, s, t: 0.5 * skd_pairwise(s, t),
    'skd_pa_odd': lambda r, s, t: 0.5 * skd_pairwise(s, t),
    'skd_pa_cirkd': lambda r, s, t: skd_patches(s, t),
    'dist_seg_1': lambda r, s, t: pixel_dist(s, t),
    'dist_det_1': lambda r, s, t: dist(s, t),
    'dist_rz_2d': lambda r, s, t: dist(s, t, temperature=2.0),
    'dkd_det_1': lambda r, s, t: dkd(s, t, LABELS, beta=0.25, temperature=1.0),
    'dkd_rz_batchmean': lambda r, s, t: dkd(s, t, LABELS, beta=0.25, temperature=1.0),
    'ckd_qfl_1': lambda r, s, t: quality_focal(s, t, weight_of_12(), 7.0),
    'ckd_dfl_1': lambda r, s, t: 4 * bins_kl(s, t, golden(12), 4.0),
    # mmdet's class takes the mean over the 17 bins.
    'ld_dfl_mean': lambda r, s, t: 0.25 * bins_kl(s, t, golden(8), 2.5, temperature=10.0) / 17,
    'ckd_giou_1': lambda r, s, t: giou(boxes_of(s), boxes_of(t), golden(9), 5.0),
}
NAMED_CASES = {
    'ckd_align_1': lambda x: (align_scale(x['student'], x['teacher']) * x['probe']).mean(),
    'ckd_gfl_1': gfl,
    'hcl_1': lambda x: hcl(x['s0'], x['t0']) + hcl(x['s1'], x['t1']),
    'ckd_two_stage_1': lambda x: (
        0.5 * roi_classes(x['cross_cls'], x['teacher_cls'])
        + roi_deltas(x['cross_reg'], x['teacher_reg'], x['teacher_cls'])
    ),
}


def compare(record: dict, inputs: dict[str, Tensor], value: Tensor) -> None:
    assert value.item() == pytest.approx(record['value'], rel=1e-5)
    asked = [x for x in inputs.values() if x.requires_grad]
    gradients = torch.autograd.grad(value, asked)
    assert torch.cat([g.flatten() for g in gradients]).norm().item() == pytest.approx(record['grad_norm'], rel=1e-5)
    first = gradients[0].flatten()
    index, largest = record['grad_max']
    assert first.abs().argmax().item() == index
    scale = abs(largest)
    assert first[index].item() == pytest.approx(largest, rel=1e-5)
    torch.testing.assert_close(first[:4], first.new_tensor(record['grad_head']), rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize('name', CASES)
def test_pairs_of_tensors(name):
    record = records()[name]
    inputs = inputs_of(record)
    compare(record, inputs, CASES[name](record, inputs['student'], inputs['teacher']))


@pytest.mark.parametrize('name', NAMED_CASES)
def test_more_than_two_tensors(name):
    record = records()[name]
    inputs = inputs_of(record)
    compare(record, inputs, NAMED_CASES[name](inputs))


@pytest.mark.parametrize(('name', 'options'), [('fgd_1', {}), ('fgd_2', TWO_STAGE), ('fgd_3', {})])
def test_fgd(name, options):
    record = records()[name]
    loss, given = fgd(record, **options)
    compare(record, {'student': given[0]}, loss(*given))
    expected = record['components']
    foreground, background, attention, relation = loss.terms(*given)
    assert foreground.item() == pytest.approx(expected['fg_loss'], rel=1e-5)
    assert background.item() == pytest.approx(expected['bg_loss'], rel=1e-5)
    assert attention.item() == pytest.approx(expected['mask_loss'], rel=1e-5)
    assert relation.item() == pytest.approx(expected['rela_loss'], rel=1e-5)


def test_fbkd():
    record = records()['fbkd_loss_1']
    inputs = inputs_of(record)
    compare(record, inputs, fbkd_of_outputs(record, inputs))
    record = records()['fbkd_full_1']
    inputs = inputs_of(record)
    loss = fill(FBKD(4, 4, pool=2), record, FBKD_NAMES)
    compare(record, inputs, loss(*inputs.values()))
    lengths = [length.item() for length in loss.lengths(*inputs.values())]
    assert lengths == pytest.approx(list(record['components'].values()), rel=1e-5)


def test_what_public_code_does_otherwise():
    """Values that are not matched, and by what they differ."""
    # CWD as a cross entropy: its gradient is the divergence's, its value larger by the teacher's entropy.
    record = records()['cwd_ppp_ce']
    student, teacher = inputs_of(record).values()
    value = 5 * cwd(student, teacher, temperature=1.0)
    log_q = teacher.flatten(2).log_softmax(dim=2)
    entropy = -(log_q.exp() * log_q).sum(dim=2).mean()
    compare(record, {'student': student}, value + 5 * entropy)
    # … and divided by the student's number of channels, 4, although 8 are compared.
    record = records()['cwd_ppp_align']
    student, teacher = inputs_of(record).values()
    align = fill(nn.Sequential(nn.Conv2d(4, 8, 1)), record, {'align': '0'})
    log_q = (teacher / 2).flatten(2).log_softmax(dim=2)
    entropy = -(log_q.exp() * log_q).sum(dim=2).mean()
    compare(record, {'student': student}, 2 * 5 * (cwd(align(student), teacher, 2.0) + 4 * entropy))
    # mmrazor's DKD is a sum over 16 rows whatever its reduction is called, its DIST does not flatten maps.
    record = records()['dkd_rz_mean']
    student, teacher = inputs_of(record).values()
    compare(record, {'student': student}, 16 * dkd(student, teacher, LABELS, beta=0.25, temperature=1.0))
    record = records()['dist_rz_4d_trap']
    student, teacher = inputs_of(record).values()
    assert abs(pixel_dist(student, teacher).item() - record['value']) > 0.05


def test_every_record_is_looked_at():
    looked_at = {*CASES, *NAMED_CASES, 'fgd_1', 'fgd_2', 'fgd_3', 'fbkd_loss_1', 'fbkd_full_1'}
    assert set(records()) - looked_at == {'cwd_ppp_ce', 'cwd_ppp_align', 'dkd_rz_mean', 'dist_rz_4d_trap'}
