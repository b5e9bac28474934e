"""NiiVue, the viewer in the page, out of the package that distributes it."""

import importlib.metadata
import importlib.util
import re
from pathlib import Path
from urllib.parse import unquote

from medcontext.errors import InputError

PACKAGE = "ipyniivue"
ENCODED = re.compile(r'"([^"\s]{1000000,})"')  # nothing else in the widget is as long
EXPORTED = ("Niivue", "NVImage", "SLICE_TYPE", "SHOW_RENDER")


def has_niivue() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec(PACKAGE) is not None


def niivue_script() -> str:
    """NiiVue as a JavaScript module that leaves its classes in `window.niivue`.

    `ipyniivue` is NiiVue's widget for notebooks. Its script holds, percent-encoded, the whole of NiiVue, with which it
    saves pages that stand alone; that is what is taken.

    Raises:
        InputError: if the package is not installed, or is a version that is made otherwise.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError("NiiVue is not installed: pip install medcontext[report], or --cases 0 for a page without it.")
    widget = Path(spec.submodule_search_locations[0]) / "static" / "widget.js"
    found = ENCODED.search(widget.read_text(encoding="utf-8")) if widget.is_file() else None
    script = unquote(found[1]) if found else ""
    exported = script.rpartition("export{")[2]
    if not all(re.search(rf"\b{name}\b", exported) for name in EXPORTED):
        raise InputError(
            f"{PACKAGE} {importlib.metadata.version(PACKAGE)} does not hold NiiVue in the form that is known here: "
            "pip install 'ipyniivue==2.4.4', or --cases 0 for a page without the viewer."
        )
    # A page ends a script at the first closing tag, also inside a string.
    return script.replace("</script", "<\\/script") + f"\nwindow.niivue = {{{', '.join(EXPORTED)}}};\n"
