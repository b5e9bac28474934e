"""Generated scans of an abdomen, or as ACDC of a heart, for the demo and the tests.

Structures share their intensity and texture, and only where they lie tells them apart: the left from the right kidney,
the spleen from the liver, the aorta from the vena cava, the pancreas from the bowel. Unlabelled bowel and lumps have
the intensities of the organs too, and unlabelled vessels, atria and muscles those of the heart.
"""

from medcontext.phantom.parts import STRUCTURES
from medcontext.phantom.render import draw
from medcontext.phantom.settings import Phantom
from medcontext.phantom.write import write_phantom

__all__ = ["STRUCTURES", "Phantom", "draw", "write_phantom"]
