"""Put all that a distillation config names into mmengine's registries, by being imported.

Configs name this module in ``custom_imports``, so that mmengine's `Runner` can run them without a command of this
project. The models of `backbones` are then in timm's registry too.
"""

import backbones as backbones
from distill.data import memory as memory
from distill.data import preprocessor as preprocessor
from distill.data import sampler as sampler
from distill.data import stream_views as stream_views
from distill.data import views as views
from distill.training import atomic_backend as atomic_backend
from distill.training import average as average
from distill.training import distiller as distiller
from distill.training import feature_distiller as feature_distiller
from distill.training import metrics as metrics
from distill.training import optim as optim
from distill.training import schedules as schedules
from distill.training.hooks import check_cache as check_cache
from distill.training.hooks import check_classes as check_classes
from distill.training.hooks import exact_resume as exact_resume
from distill.training.hooks import knn_scores as knn_scores
from distill.training.hooks import plain_checkpoint as plain_checkpoint
from distill.training.hooks import save_student as save_student
from distill.training.hooks import seed_iteration as seed_iteration
from distill.training.hooks import stop_on_bad_loss as stop_on_bad_loss
