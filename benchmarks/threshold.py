"""What the threshold that CAMs suggest by themselves costs, against the best one by ground truth.

    python benchmarks/threshold.py --root VOC2012 --classifier classifier.safetensors [--images 48] [--skip 48]
      [--split val] [--classes cat,cow,dog,horse,person,sheep] [--backbone efficientnet_lite0]

The photographs of the split are shuffled with seed 1; the first `--skip` are left out. Those that the rule was chosen
on are the first 48 of `train` and of `val`. Regret is the mIoU at the best threshold of a sweep by 0.01, minus that at
the suggested one; the other columns are single photographs' worth of sets drawn from these.
"""

import argparse
import random
from collections.abc import Iterator

import numpy as np
from skimage.transform import resize

from pfit_ray import storage
from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.config.load import validate
from pfit_ray.given_network import given_network
from pfit_ray.images import decode_image
from pfit_ray.nets.backbones import normalisation
from pfit_ray.ops.cam import resize_maps
from pfit_ray.ops.evaluation import scores, threshold_sweep
from pfit_ray.ops.suggest_threshold import ValueHistogram
from pfit_ray.sources import list_images, mask_lookup
from pfit_ray.tasks.score import read_truth

LEVELS = np.arange(0.02, 0.80, 0.01).round(2)
