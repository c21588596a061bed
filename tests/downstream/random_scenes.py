"""Small detectors and segmenters of random weights that are sure of something, and pictures to show them."""

import copy

import numpy as np
import torch
from downstream_runs import CONFIGS, FOLDER
from mmengine.config import Config

from distill.downstream.complete import complete
from distill.downstream.inference import SceneModel
from distill.downstream.trained import build_network


def scene_of(config: Config) -> SceneModel:
    """A model of random weights that is sure of something, with statistics of batch norms that are not trivial."""
    config = copy.deepcopy(config)
    complete(config)
    torch.manual_seed(0)
    network = build_network(config).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, torch.nn.Linear) and module.out_features == 11:
            torch.nn.init.normal_(module.weight, std=0.3)
    return SceneModel(network, config, [str(k) for k in range(10)], 'none')


def config(task: str) -> Config:
    return Config.fromfile(FOLDER / CONFIGS.get(task, task), format_python_code=False)


def picture(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)
