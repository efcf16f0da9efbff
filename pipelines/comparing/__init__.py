"""`wssis compare`: students on labels of different origin, side by side; compare/dvc.yaml runs it."""
