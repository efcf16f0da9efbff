"""The stages of dvc.yaml: each reads params and files, calls wssis and writes its outs."""
