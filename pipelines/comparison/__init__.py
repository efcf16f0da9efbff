"""`wssis compare`: students on labels of different origin, side by side; compare/dvc.yaml runs it."""

from pipelines.runner.signals import leave_on_signals

leave_on_signals(__name__)
