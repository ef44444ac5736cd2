"""Training stores and data sets in a folder: a file a column, mapped and read by ranges."""

from sequence_platform.stores.local_training.dataset import LocalDatasets
from sequence_platform.stores.local_training.store import LocalTrainingStore

__all__ = ["LocalDatasets", "LocalTrainingStore"]
