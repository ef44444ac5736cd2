"""For training jobs: data sets of labels with their sequences as they were.

``TrainingReader`` reads a data set in batches, ``training_set`` makes one in a notebook. The
adapters are ``sequence_platform.training.torch`` and ``sequence_platform.training.jax``.
"""

from sequence_platform.training.batch import Batch
from sequence_platform.training.dataset import Dataset
from sequence_platform.training.making import training_set
from sequence_platform.training.reader import TrainingReader

__all__ = ["Batch", "Dataset", "TrainingReader", "training_set"]
