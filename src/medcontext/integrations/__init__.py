"""MedContext where people already train: nnU-Net, MONAI, Lightning."""
