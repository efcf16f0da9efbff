"""Checks of an annotated data set that go on after the first fault, and the cleaned copy.

`document` what records say, `labels` masks and points, `crossing` polygons that cross themselves, `pictures`
the image files, `coverage` what the data as a whole lacks, `run` all of them, `mend` the cleaned copy.
"""
