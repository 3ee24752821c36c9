"""Where configuration files lie: a path, or a bare name below ./configs and below the package's own."""

from __future__ import annotations

from pathlib import Path

import lit_rlhf
from lit_rlhf.config.names import nearest


def folders() -> list[Path]:
    """Where a bare name is looked up, in order."""
    package = Path(lit_rlhf.__file__).parent
    checkout = package.parent if (package.parent / "pyproject.toml").is_file() else package
    found = (Path("configs"), package / "configs", checkout / "configs")
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def find(name: str) -> Path | None:
    """The file of `--config NAME`, or None."""
    if Path(name).is_file():
        return Path(name)
    files = [folder / f"{_bare(name)}.yaml" for folder in folders()]
    return next((file for file in files if file.is_file()), None)


def missing(name: str) -> str:
    """What to say of a name that no file has: the nearest that there are."""
    found = [path.relative_to(folder) for folder in folders() for path in sorted(folder.rglob("*.yaml"))]
    known = list(dict.fromkeys(path.with_suffix("").as_posix() for path in found))
    beside = [str(path) for path in sorted(Path(name).parent.glob("*.y*ml"))]
    namesakes = [one for one in known if one.rpartition("/")[2] == Path(name).stem]
    near = dict.fromkeys(nearest(name, beside, 2) + nearest(_bare(name), known, 3) + namesakes)
    hint = f"near are {', '.join(list(near)[:3])}" if near else f"there is {', '.join(known[:12])}"
    return f"there is no such file, nor one of this name in configs/; {hint}"


def _bare(name: str) -> str:
    return name.removesuffix(".yaml").removeprefix("configs/")
