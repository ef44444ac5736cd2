"""The training runtime: labels to pointers, pointers to sequences."""
