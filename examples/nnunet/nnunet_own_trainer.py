"""nnU-Net with MedContext around a trainer that you like, here the one with the stronger augmentation.

    nnUNet_extTrainer=examples/nnunet nnUNetv2_train 4 3d_fullres 0 -tr nnUNetTrainerDA5MedContext
    nnUNetv2_predict -d 4 -c 3d_fullres -f 0 -tr nnUNetTrainerDA5MedContext -i IN -o OUT

nnU-Net imports every file of that folder: nothing else should lie there. Scans without labels, in imagesUn of the raw
data set, join once they are prepared: medcontext nnunet preprocess 4 -c 3d_fullres
"""

from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5

from medcontext import Unlabelled
from medcontext.integrations.nnunet import MedContextMixin
from medcontext.method_settings import MaskSettings, MethodSettings


class nnUNetTrainerDA5MedContext(MedContextMixin, nnUNetTrainerDA5):
    """Finer patches than the default's, and a tenth of nnU-Net's length."""

    method = MethodSettings(mask=MaskSettings(patch_size=8, ratio=0.4), unlabelled=Unlabelled(start=0.25))
    epochs = 100
