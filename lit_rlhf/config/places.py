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
    bare = name.removesuffix(".yaml") + ".yaml"
    return next((folder / bare for folder in folders() if not Path(name).is_absolute() and (folder / bare).is_file()), None)


def missing(name: str) -> str:
    """What to say of a name that no file has."""
    known = dict.fromkeys(
        path.relative_to(folder).with_suffix("").as_posix() for folder in folders() for path in sorted(folder.rglob("*.yaml"))
    )
    beside = [str(path) for path in sorted(Path(name).parent.glob("*.y*ml"))] if Path(name).parent.is_dir() else []
    wanted = name.removesuffix(".yaml").removeprefix("configs/")
    near = nearest(wanted, known, 3) or [known_name for known_name in known if known_name.rpartition("/")[2] == Path(wanted).stem]
    offered = list(dict.fromkeys(nearest(name, beside, 2) + near))[:3]
    hint = f"; near are {', '.join(offered)}" if offered else f"; there is {', '.join(list(known)[:12])}" if known else ""
    return f"there is no such file, and configs/ has no {wanted}.yaml{hint}"
