"""The trainers that `nnUNetv2_train -tr NAME` finds, named as nnU-Net names its own."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from medcontext.integrations.nnunet import MedContextMixin
from medcontext.method import Unlabelled
from medcontext.method_settings import MethodSettings


class nnUNetTrainerMedContext(MedContextMixin, nnUNetTrainer):
    """The default method: half of a batch has tubes of other crops, of imagesUn's where there are any."""


class nnUNetTrainerMedContextLabelled(MedContextMixin, nnUNetTrainer):
    """The same on labels alone, also where there are scans in imagesUn."""

    method = MethodSettings(unlabelled=Unlabelled(view="none"))


class nnUNetTrainerMedContextPaper(MedContextMixin, nnUNetTrainer):
    """The method exactly as the paper has it, which knows no scans without labels."""

    method = "paper"


class nnUNetTrainerMedContext_5epochs(nnUNetTrainerMedContext):
    """To see that everything works."""

    epochs = 5


class nnUNetTrainerMedContext_50epochs(nnUNetTrainerMedContext):
    epochs = 50


class nnUNetTrainerMedContext_100epochs(nnUNetTrainerMedContext):
    epochs = 100


class nnUNetTrainerMedContext_250epochs(nnUNetTrainerMedContext):
    epochs = 250


class nnUNetTrainerMedContext_500epochs(nnUNetTrainerMedContext):
    epochs = 500
