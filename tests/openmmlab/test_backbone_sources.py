"""A backbone of a detector takes the same sources as everything else."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from backbones.openmmlab import TimmBackbone

KWARGS = {'channels': [4, 8, 8, 8], 'num_classes': 3}


def test_a_backbone_is_a_folder_a_file_or_a_name_with_a_file(tmp_path):
    network = timm.create_model('resnet18', **KWARGS)
    save_file(network.state_dict(), tmp_path / 'model.safetensors')
    torch.save(network.state_dict(), tmp_path / 'x.pth')
    (tmp_path / 'config.json').write_text(
        json.dumps({'architecture': 'resnet18', 'num_classes': 3, 'model_args': KWARGS})
    )
    for source in (
        dict(checkpoint=str(tmp_path)),
        dict(checkpoint=str(tmp_path / 'model.safetensors')),
        dict(checkpoint=f'resnet18,channels=(4,8,8,8)@{tmp_path / "x.pth"}'),
        dict(model='resnet18', checkpoint=str(tmp_path / 'x.pth'), channels=(4, 8, 8, 8)),
        dict(model=f'local-dir:{tmp_path}', pretrained=True),
    ):
        backbone = TimmBackbone(**source)
        assert backbone.channels == (4, 8, 8, 8)
        assert torch.equal(backbone.net.conv1.weight, network.conv1.weight)
    random = TimmBackbone(model=f'local-dir:{tmp_path}')
    assert not torch.equal(random.net.conv1.weight, network.conv1.weight)
    (tmp_path / 'model.safetensors').unlink()
    (tmp_path / 'x.pth').unlink()
    with pytest.raises(ValueError, match='has no file of weights'):
        TimmBackbone(checkpoint=str(tmp_path))
