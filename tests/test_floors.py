"""The house has floors: a room imports only from floors below its own, and no two files import in a circle."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import medcontext

SOURCE = Path(medcontext.__file__).parent

# From the ground up. Names are modules or packages ("rooms") directly inside medcontext.
FLOORS = [
    {"errors", "console"},
    {"files", "options", "extras", "typed_json"},
    {"method", "data", "pictures"},
    {"networks", "evaluation", "configuration", "phantom", "method_settings"},
    {"comparison", "pretraining"},
    {"settings"},
    {"pretrain_settings"},
    {"run", "listing"},
    {"inference"},
    {"reporting"},
    {"training"},
    {"integrations"},
    {"commands"},
    {"demo", "experiments"},
    {"cli"},
]


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMED = r"medcontext\.([\w.]*\w)\.?"  # a module in a string, or what an f-string's begins with
MODULES = {module_name(path): path for path in SOURCE.rglob("*.py") if module_name(path)}


def imports(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports, at its top or inside functions, or names in a string."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medcontext":
            base = (node.module or "").removeprefix("medcontext").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(".")
                if inner in MODULES or base:
                    yield inner if inner in MODULES else base
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix("medcontext.") for a in node.names if a.name.startswith("medcontext."))
        if isinstance(node, ast.Constant) and (named := re.fullmatch(NAMED, str(node.value))):
            yield named[1]


def floor(module: str) -> int:
    room = module.split(".")[0]
    return next(level for level, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor() -> None:
    rooms = {module.split(".")[0] for module in MODULES}
    assert rooms == set().union(*FLOORS)


def test_every_module_that_is_named_is_there() -> None:
    """In strings, too, which no other tool sees."""
    known = set(MODULES) | {path.relative_to(SOURCE).as_posix().replace("/", ".") for path in SOURCE.iterdir()}
    wrong = [
        f"{module} names {other}" for module, path in MODULES.items() for other in imports(path) if other not in known
    ]
    assert wrong == []


def test_no_room_imports_from_its_own_floor_or_above() -> None:
    wrong = [
        f"{module} (floor {floor(module)}) imports {other} (floor {floor(other)})"
        for module, path in MODULES.items()
        for other in imports(path)
        if other.split(".")[0] != module.split(".")[0] and floor(other) >= floor(module)
    ]
    assert wrong == []


def test_no_two_files_import_each_other_in_a_circle() -> None:
    graph = {module: {other for other in imports(path) if other != module} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for other in graph[module]:
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_method_needs_only_torch_and_monais_losses() -> None:
    allowed = {"torch", "monai.losses", "medcontext", "typing_extensions"}  # the last comes with torch
    for path in (SOURCE / "method").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                standard = name.split(".")[0] in sys.stdlib_module_names
                assert standard or any(name == known or name.startswith(f"{known}.") for known in allowed), name


def test_pretraining_is_usable_alone() -> None:
    known = {"errors", "method.masking", "networks.pcrlv2"}
    others = {
        other
        for path in (SOURCE / "pretraining").rglob("*.py")
        for other in imports(path)
        if other.split(".")[0] != "pretraining"
    }
    assert others <= known
