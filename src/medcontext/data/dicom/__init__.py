"""DICOM series: found, chosen, read into an array and an affine. Nothing is imported for it unless DICOM is met.

The patient's data are never read on this way: of every file only the tags in `heads.py` and `voxels.py`.
"""
