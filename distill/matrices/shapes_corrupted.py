"""As `shapes`, and all of it on corrupted images too: mixtures by AugMix and PRIME, and kinds that no benchmark holds.

python tools/make_data.py data/shapes --sets imagenet --size 32 --train 6000
python tools/transfer_matrix.py distill/matrices/shapes_corrupted.py

A student alone is trained on the corrupted images as they are; a taught one sees them while its teacher sees the clean
ones. Hardware: two CPU cores. Cost: not measured.
"""

_base_ = './shapes.py'

corruptions = dict(
    augmix=dict(kinds=('augmix',)),
    # The source's parameters for images of 32 pixels.
    prime=dict(kinds=('prime',), prime=dict(colour_cut=100, colour_temperature=0.01, colour_band=None)),
    kinds=dict(severities=(1, 2, 3, 4, 5)),
)
