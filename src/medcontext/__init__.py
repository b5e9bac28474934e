"""MedContext: better 3D medical image segmentation when labelled scans are few."""
