"""The rules of CONTRIBUTING that a program can check, over every file of the package and tools."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "siamtrack").rglob("*.py"))
TOOLS = sorted((ROOT / "tools").glob("*.py"))

# The parts of numpy.random that do not draw from the one hidden generator of the process.
EXPLICIT_RANDOM = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64"}
GUI_CALLS = {
    "destroyAllWindows", "destroyWindow", "getWindowProperty", "imshow", "namedWindow", "pollKey",
    "selectROI", "selectROIs", "setMouseCallback", "setWindowTitle", "waitKey", "waitKeyEx",
}  # fmt: skip


def dotted(node: ast.AST) -> str:
    """`a.b.c` for nested attributes of a name, else the empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def asserts(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert)


def prints(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and dotted(node.func) == "print"


def catches_everything(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    swallowed = node.type is None or dotted(node.type) in {"Exception", "BaseException"}
    return swallowed and not any(isinstance(child, ast.Raise) for child in ast.walk(node))


def raises_vaguely(node: ast.AST) -> bool:
    if not isinstance(node, ast.Raise) or node.exc is None:
        return False
    if isinstance(node.exc, ast.Call):
        empty = not node.exc.args and not node.exc.keywords
        return dotted(node.exc.func) == "Exception" or (empty and is_error(node.exc.func))
    return is_error(node.exc)


def is_error(node: ast.AST) -> bool:
    """A class named like an error; raised as it is, it has no message."""
    name = dotted(node).rpartition(".")[2]
    return name == "Exception" or (name.endswith("Error") and name != "NotImplementedError")


def unpickles(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = dotted(node.func)
    if name in {"pickle.load", "pickle.loads"}:
        return True
    safe = any(
        keyword.arg == "weights_only" and getattr(keyword.value, "value", None) is True
        for keyword in node.keywords
    )
    return name == "torch.load" and not safe


def draws_from_global_rng(node: ast.AST) -> bool:
    head, _, tail = dotted(node).rpartition(".")
    return head in {"np.random", "numpy.random"} and tail not in EXPLICIT_RANDOM


def rebinds_globals(node: ast.AST) -> bool:
    return isinstance(node, ast.Global)


def assumes_cuda(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "cuda"
    )


def parses_bool_from_text(node: ast.AST) -> bool:
    """`type=bool` makes every non-empty string true, "False" included."""
    return isinstance(node, ast.keyword) and node.arg == "type" and dotted(node.value) == "bool"


def imports_pyplot(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return any(name.startswith("matplotlib.pyplot") for name in names)
    return isinstance(node, ast.Import) and any(
        alias.name == "matplotlib.pyplot" for alias in node.names
    )


def opens_window(node: ast.AST) -> bool:
    head, _, tail = dotted(node).rpartition(".")
    return head == "cv2" and tail in GUI_CALLS


def sets_ffmpegs_log_level(node: ast.AST) -> bool:
    """It installs a callback into Python: freeing a decoder with threads then waits for ever."""
    return isinstance(node, ast.Call) and dotted(node.func).endswith("logging.set_level")


RULES: dict[str, Callable[[ast.AST], bool]] = {
    rule.__name__: rule
    for rule in (
        asserts, prints, catches_everything, raises_vaguely, unpickles, draws_from_global_rng,
        rebinds_globals, assumes_cuda, parses_bool_from_text, imports_pyplot, opens_window,
        sets_ffmpegs_log_level,
    )
}  # fmt: skip

ALLOWED = {
    ("opens_window", "siamtrack/video/window.py"),
}


def findings(source: str) -> Iterator[tuple[str, int]]:
    """Name of the rule and line of every place in `source` that breaks one."""
    for node in ast.walk(ast.parse(source)):
        for name, breaks in RULES.items():
            if breaks(node):
                yield name, getattr(node, "lineno", 0)


@pytest.mark.parametrize("path", [*PACKAGE, *TOOLS], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_file_keeps_the_rules(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    source = path.read_text(encoding="utf-8")
    broken = [
        f"{name}:{line} {rule}" for rule, line in findings(source) if (rule, name) not in ALLOWED
    ]
    assert not broken, "\n".join(broken)


def test_the_package_was_found() -> None:
    assert ROOT / "siamtrack" / "geometry.py" in PACKAGE


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("assert box", "asserts"),
        ("print('done')", "prints"),
        ("try:\n    f()\nexcept:\n    pass", "catches_everything"),
        ("try:\n    f()\nexcept Exception as e:\n    log(e)", "catches_everything"),
        ("raise Exception('corrupted')", "raises_vaguely"),
        ("raise ValueError", "raises_vaguely"),
        ("raise FileNotFoundError()", "raises_vaguely"),
        ("torch.load(path)", "unpickles"),
        ("torch.load(path, weights_only=False)", "unpickles"),
        ("pickle.load(file)", "unpickles"),
        ("np.random.seed(0)", "draws_from_global_rng"),
        ("numpy.random.rand(3)", "draws_from_global_rng"),
        ("def f():\n    global model", "rebinds_globals"),
        ("model.cuda()", "assumes_cuda"),
        ("parser.add_argument('--fast', type=bool)", "parses_bool_from_text"),
        ("import matplotlib.pyplot as plt", "imports_pyplot"),
        ("from matplotlib import pyplot", "imports_pyplot"),
        ("cv2.imshow('frame', image)", "opens_window"),
        ("av.logging.set_level(av.logging.ERROR)", "sets_ffmpegs_log_level"),
    ],
)
def test_rule_sees_what_it_forbids(source: str, rule: str) -> None:
    assert [name for name, _ in findings(source)] == [rule]


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "rng = np.random.default_rng(0)\nrng.random(3)",
        "def f(rng: np.random.Generator): ...",
        "try:\n    f()\nexcept Exception as e:\n    raise WeightsError(f'{path}: {e}') from e",
        "try:\n    f()\nexcept OSError:\n    raise",
        "raise NotImplementedError",
        "raise error from None",
        "cv2.resize(image, (8, 8))",
        "if torch.cuda.is_available(): pass",
    ],
)
def test_rule_lets_good_code_pass(source: str) -> None:
    assert list(findings(source)) == []


def classes_by_name(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Files that define a class, by its name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(path)
    return found


def test_no_class_name_has_two_meanings() -> None:
    sources = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in PACKAGE}
    twice = {name: paths for name, paths in classes_by_name(sources).items() if len(paths) > 1}
    assert not twice


def test_a_class_name_that_is_used_twice_is_seen() -> None:
    sources = {"a.py": "class Box: ...", "b.py": "def f():\n    class Box: ..."}
    assert classes_by_name(sources) == {"Box": ["a.py", "b.py"]}


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in PACKAGE
        if path.relative_to(ROOT / "siamtrack").parts[0]
        in {"models", "engines", "tracking", "video", "geometry.py", "crops.py"}
    ],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_the_runtime_does_not_import_training(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [f"{node.module}.{alias.name}" for alias in node.names]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    forbidden = ("siamtrack.training", "siamtrack.losses", "siamtrack.data", "siamtrack.cli")
    assert not [name for name in names if name.startswith(forbidden)]
