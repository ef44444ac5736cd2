"""What people do in git repositories: commits, and the files they change.

Input is real. ``sequence-platform export-git CHECKOUT`` writes the history of any checkout below
``data/git`` of the source root; files of the same columns from elsewhere go there too, named
``commits*.ndjson.gz`` and ``file_changes*.ndjson.gz``. They are not split by day; the platform does
that, once.
"""
