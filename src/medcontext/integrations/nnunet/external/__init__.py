"""The folder for `nnUNet_extTrainer`, in which nnU-Net looks for trainers by name."""
