"""What stands between a user's function and the run: arguments by name, retries, what becomes of a call that fails."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import torch
from torch import Tensor

from lit_rlhf.errors import InputError, RunFailed
from lit_rlhf.rewards.calling import Caller, caller
from lit_rlhf.rewards.naming import function_of, path_of
from lit_rlhf.rewards.parameters import Parameters
from lit_rlhf.rewards.pool import Failure, Job

OnError = Literal["raise", "skip", "default"]
Outcome = float | None | Failure
MakeJob = Callable[[Sequence[int]], Job]
"""Items to the call for them."""


@dataclass(frozen=True)
class Answers:
    """What a function said, item by item."""

    values: Tensor
    """[n] float32; NaN where it gave None or the item is skipped."""
    failed: Tensor
    """[n] float32: 1 where the policy had to decide."""


@dataclass(eq=False)
class Guarded:
    """A user's function with a policy for what goes wrong, and a file for each failing sample whatever the policy.

    A raise, a hang, a process that ends, a wrong number of results, and a result that is no finite number go wrong.

    Args:
        function: a dotted path, or an object that is called (class_path and init_args).
        arguments: given to every call by name; they come before columns of the same name.
        name: of its metrics; the function's own when None.
        timeout: seconds of one call; None is no limit. A function that is not async then runs in another process, which
            is killed when it is late.
        retries: times that a call that failed is made again.
        on_error: end the run, leave the sample out (NaN), or give it `default`.
        default: what a failing sample gets where `on_error` is default.
        failures: a file for failing samples, JSON lines; the run's own folder when None.
        workers: processes that share the calls; 0 is this one.
        batched: called with lists of everything, or once for each.
    """

    function: str | Callable[..., Any]
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    name: str | None = None
    timeout: float | None = None
    retries: int = 0
    on_error: OnError = "raise"
    default: float = 0.0
    failures: str | None = None
    workers: int = 0
    batched: bool = True

    classes: ClassVar[tuple[type, ...]] = ()
    """Of the arguments of a call."""
    positional: ClassVar[int] = 1
    """Arguments that are given by position where it is not batched."""

    def __post_init__(self) -> None:
        path = self.function if isinstance(self.function, str) else path_of(self.function)
        self.path, self.name = path, self.name or path.rpartition(".")[2]
        self.place = f"{type(self).__name__} {self.name}"
        self._call: Caller | None = None
        self._warned = False
        for name, value, least in (("retries", self.retries, 0), ("workers", self.workers, 0)):
            if value < least:
                raise InputError(f"{self.place}: {name} is {value}, expected {least} or more")
        if self.timeout is not None and not self.timeout > 0:
            raise InputError(f"{self.place}: timeout is {self.timeout}, expected seconds above 0, or none")
        if not math.isfinite(self.default):
            raise InputError(
                f"{self.place}: default is {self.default}, expected a number; on_error=skip leaves samples out"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Copies call by themselves."""
        return self.__dict__ | {"_call": None}

    def check(self) -> None:
        """Raises: InputError: no such function, arguments that it does not take, or it cannot be run as is asked."""
        function = function_of(self.function, self.place) if isinstance(self.function, str) else self.function
        self._takes = Parameters.of(function, 0 if self.batched else self.positional)
        self._takes.refuse_unknown(self.arguments, f"{self.place}: {self.path}")
        classes = () if self.batched else self.classes
        self._call = caller(function, self.workers, self.timeout, classes, self.place)

    def write_to(self, folder: Path) -> None:
        """The run's folder: failing samples go to `failures/<name>.jsonl` there, unless `failures` says where."""
        self.failures = self.failures or str(Path(folder) / "failures" / f"{self.name}.jsonl")

    def keywords(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """The columns and arguments that the function takes.

        Raises:
            InputError: it needs another.
        """
        return self._takes.chosen({**columns, **self.arguments}, f"{self.place}: {self.path}")

    def asked(self, calls: Sequence[Sequence[int]], job: MakeJob, sample: Callable[[int], dict[str, Any]]) -> Answers:
        """What the function says of each item.

        Args:
            calls: the items of each call, all n of them together.
            job: the call for some items.
            sample: row, prompt and completion of an item, for the file of failures.

        Raises:
            RunFailed: a call failed and `on_error` is raise.
        """
        found = self._tried(calls, job)
        failed = {place: found[place] for place in sorted(found) if isinstance(found[place], Failure)}
        if failed:
            self._write(failed, sample)
        if failed and self.on_error == "raise":
            self._raise(failed, sample)
        if failed and not self._warned:
            self._warned = True
            warnings.warn(f"{self._told(failed, sample)}; on_error={self.on_error} (said once)", stacklevel=2)
        instead = self.default if self.on_error == "default" else math.nan
        found |= dict.fromkeys(failed, instead)
        values = [math.nan if found[place] is None else found[place] for place in range(len(found))]
        marks = [float(place in failed) for place in range(len(found))]
        return Answers(torch.tensor(values, dtype=torch.float32), torch.tensor(marks))

    def _tried(self, calls: Sequence[Sequence[int]], job: MakeJob) -> dict[int, Outcome]:
        """What each item got; where a call for several raised every time, in the end one call for each."""
        found: dict[int, Outcome] = {}
        for _ in range(1 + self.retries):
            found |= self._once(calls, job)
            failed = [[place for place in call if isinstance(found[place], Failure)] for call in calls]
            calls = [call for call in failed if call]
        alone = [[place] for call in calls if len(call) > 1 for place in call if found[place].apart]
        return found | self._once(alone, job)

    def _once(self, calls: Sequence[Sequence[int]], job: MakeJob) -> dict[int, Outcome]:
        found: dict[int, Outcome] = {}
        for call, result in zip(calls, self._call([job(call) for call in calls]), strict=True):
            found |= zip(call, self._read(result, len(call)), strict=True)
        return found

    def _read(self, result: Any, count: int) -> list[Outcome]:
        """What each item of a call got."""
        if isinstance(result, Failure):
            return [result] * count
        if not self.batched:
            return [self.number(result)]
        if isinstance(result, str | bytes | Mapping) or not hasattr(result, "__len__"):
            return [wrong(f"returned {result!r:.100}, expected a list of {count} numbers")] * count
        if len(result) != count:
            return [wrong(f"returned {len(result)} results, expected {count}")] * count
        return [self.number(value) for value in result]

    def number(self, value: Any) -> Outcome:
        """A finite number, None, or why it is neither."""
        if value is None:
            return None
        value = value.item() if getattr(value, "shape", None) == () else value  # of torch or numpy
        if not isinstance(value, numbers.Real | Decimal):
            return wrong(f"returned {value!r:.100}, expected a number")
        return float(value) if math.isfinite(value) else wrong(f"returned {float(value)}")

    def _write(self, failed: Mapping[int, Failure], sample: Callable[[int], dict[str, Any]]) -> None:
        """One line each, at once, so that the lines of several ranks do not mix."""
        if self.failures is None:
            return
        path = Path(self.failures)
        lines = [
            {"function": self.path, **sample(place), "error": failure.what, "traceback": failure.told}
            for place, failure in failed.items()
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines))

    def _told(self, failed: Mapping[int, Failure], sample: Callable[[int], dict[str, Any]]) -> str:
        """What the first of them did, where, and how many others there are."""
        place, failure = next(iter(failed.items()))
        others = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        kept = "" if self.failures is None else f"; the samples are in {self.failures}"
        return f"{self.place}: {self.path} {failure.what}, at {sample(place)['row'] or 'a row'}{others}{kept}"

    def _raise(self, failed: Mapping[int, Failure], sample: Callable[[int], dict[str, Any]]) -> NoReturn:
        failure = next(iter(failed.values()))
        error = RunFailed(
            f"{self._told(failed, sample)}; set on_error to skip to leave such samples out, or to default"
            + _where(failure)
        )
        if failure.told and failure.cause is None:
            error.add_note(failure.told)
        raise error from failure.cause


def _where(failure: Failure) -> str:
    """The line of the user's that raised, where one did."""
    lines = re.findall(r'File "(.+)", line (\d+)', failure.told)
    return f" (it was raised in {lines[-1][0]}:{lines[-1][1]})" if lines else ""


def wrong(what: str) -> Failure:
    """A result that is of no use."""
    return Failure(what, apart=False)
