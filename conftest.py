"""Real nnU-Net, where `make nnunet` has put it, is the last place that tests look for packages in."""

import sys
import types
from pathlib import Path

NNUNET = Path(__file__).parent / ".nnunet"
PRIMUS = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"  # needs timm, and so torchvision

if NNUNET.is_dir():
    sys.path.append(str(NNUNET))
    sys.modules[PRIMUS] = types.ModuleType(PRIMUS)
else:
    collect_ignore_glob = ["src/medcontext/integrations/nnunet/*"]
