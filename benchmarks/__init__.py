"""Measurements for docs/results.md, no part of the pipeline; run in the project's root after `dvc repro`."""
