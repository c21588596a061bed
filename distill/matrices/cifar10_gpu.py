"""As `cifar10`, on all 50,000 training images and until the models converge, for one large GPU.

python tools/transfer_matrix.py distill/matrices/cifar10_gpu.py --jobs 8 --threads 2

Beside students that teach one another there is a teacher that saw broader data: a larger DeiT-like model that is
trained on mixtures by AugMix and PRIME and on kinds of corruptions that no benchmark holds. All of it is done once more
with students that see mixtures by AugMix while their teachers see clean images. Caches make the teachers free.

A run that is stopped goes on from its last epoch, so several calls of ten minutes with one ``--work-dir`` add up.
Hardware: one GPU, 16 CPU cores. Cost: not measured on a card; a student of 20,000 images takes 10 to 20 minutes of one
CPU core (docs/transfer.md).
"""

_base_ = './cifar10.py'

teachers = dict(broad=dict(config='distill/configs/cifar10/deit-mini_broad_cifar10.py'))
corruptions = dict(augmix=dict(kinds=('augmix',)))
epochs = dict(deit=40, robust=20, resnet=20, broad=40)
# Images stay in memory and are augmented a batch at a time; larger batches are what a card needs.
common = dict(
    train_dataloader=dict(batch_size=256, num_workers=2, dataset=dict(type='MemoryViews')),
    val_dataloader=dict(num_workers=1),
    train_cfg=dict(val_interval=10),
)
# Jobs share the card, so that the times of their steps say nothing.
equal_time = False
# Four commands, one for each kind of model, run at the same time: their workers draw random numbers, the card corrupts.
robustness = ('--corruption-limit', '1000', '--workers', '4', '--corrupt-on', 'device')
