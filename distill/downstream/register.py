"""Importing this module registers what this project adds to mmengine for detectors and segmenters.

Configs name it in ``custom_imports``, beside `backbones.openmmlab`.
"""

from distill.downstream import dense_distiller as dense_distiller
from distill.downstream import dense_hooks as dense_hooks
from distill.downstream import loading as loading
from distill.downstream import pictures as pictures
from distill.downstream import seeding as seeding
from distill.downstream import transforms as transforms
from distill.downstream.checks import hook as hook
from distill.training import atomic_backend as atomic_backend
from distill.training.hooks import plain_checkpoint as plain_checkpoint
from distill.training.hooks import seed_iteration as seed_iteration
from distill.training.hooks import stop_on_bad_loss as stop_on_bad_loss
