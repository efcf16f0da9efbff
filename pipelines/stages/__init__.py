"""The stages of dvc.yaml: each reads params and files, calls wssis and writes its outs."""

from pipelines.runner.signals import leave_on_signals

leave_on_signals(__name__)
