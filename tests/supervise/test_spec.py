from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from xoscar_sc import PoolSpec
from xoscar_sc.supervise.spec import (
    check_callable,
    check_cpus,
    check_env,
    check_name,
    check_seconds,
    pool_specs,
)

CPU = min(os.sched_getaffinity(0))
NO_CPU = 10**6


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (partial(PoolSpec, name=5), TypeError, "name= is 5; it is a text"),
        (partial(PoolSpec, name=b"pool"), TypeError, "name= is b'pool'; it is a text"),
        (partial(PoolSpec, name=""), ValueError, "name= is ''; it has 1 to 200 characters, all printable"),
        (partial(PoolSpec, name="x" * 201), ValueError, "1 to 200 characters"),
        (partial(PoolSpec, name="two\nlines"), ValueError, r"name= is 'two\nlines'"),
        (partial(PoolSpec, name="\0"), ValueError, "all printable"),
        (partial(PoolSpec, label=["gpu", 5]), TypeError, "label= is ['gpu', 5]; it is a text, or a sequence of them"),
        (partial(PoolSpec, label=b"gpu"), TypeError, "label= is b'gpu'"),
        (partial(PoolSpec, label=5), TypeError, "label= is 5; it is a text, or a sequence of them"),
        (partial(PoolSpec, cpus=[]), ValueError, "cpus= is []; this process may run on"),
        (partial(PoolSpec, cpus=[CPU, NO_CPU]), ValueError, f"cpus= is [{CPU}, {NO_CPU}]; this process may run on"),
        (partial(PoolSpec, cpus=[-1]), ValueError, "cpus= is [-1]"),
        (partial(PoolSpec, env=["A=1"]), TypeError, "env= is list; it is a mapping of texts to texts"),
        (partial(PoolSpec, env={"A": 1}), TypeError, "env= has 'A': 1; both are texts"),
        (partial(PoolSpec, env={1: "A"}), TypeError, "env= has 1: 'A'; both are texts"),
        (partial(PoolSpec, env={"": "x"}), ValueError, "env= has '', which cannot be an environment variable"),
        (partial(PoolSpec, env={"A=B": "x"}), ValueError, "env= has 'A=B'"),
        (partial(PoolSpec, env={"A\0": "x"}), ValueError, r"env= has 'A\x00'"),
        (partial(PoolSpec, env={"A": "x\0"}), ValueError, "env= has 'A'"),
        (partial(check_name, None, "uid"), TypeError, "uid= is None; it is a text"),
        (partial(check_name, "", "uid"), ValueError, "uid= is ''"),
        (partial(check_seconds, "1", "grace"), TypeError, "grace= is '1'; it is a number of seconds"),
        (partial(check_seconds, None, "grace"), TypeError, "grace= is None"),
        (partial(check_seconds, True, "grace"), TypeError, "grace= is True"),
        (partial(check_seconds, -1, "grace"), ValueError, "grace= is -1; it is 0 or more"),
        (partial(check_seconds, float("nan"), "grace"), ValueError, "grace= is nan"),
        (partial(check_callable, 5), TypeError, "5 is int, which cannot be called"),
        (partial(pool_specs, "2", None), TypeError, "pools is '2'; it is a number, a sequence of PoolSpec, or None"),
        (partial(pool_specs, 2.0, None), TypeError, "pools is 2.0"),
        (partial(pool_specs, True, None), TypeError, "pools is True"),
        (partial(pool_specs, -1, None), ValueError, "pools is -1; it is 0 or more"),
        (partial(pool_specs, ["a"], None), TypeError, "pools has 'a', which is no PoolSpec"),
        (partial(pool_specs, [PoolSpec], None), TypeError, "which is no PoolSpec"),
        (
            partial(pool_specs, [PoolSpec("a"), PoolSpec(), PoolSpec("a")], None),
            ValueError,
            "pools has two pools of one name: ['a', 'a']",
        ),
        (partial(pool_specs, None, ["gpu"]), ValueError, "labels= goes with a number of pools"),
        (partial(pool_specs, [PoolSpec()], ["gpu"]), ValueError, "labels= goes with a number of pools; a PoolSpec"),
        (partial(pool_specs, 2, ["gpu"]), ValueError, "labels= is ['gpu']; it has one for each of the 2 pools"),
        (partial(pool_specs, 3, "gpu"), ValueError, "labels= is 'gpu'; it has one for each of the 3 pools"),
        (partial(pool_specs, 1, [5]), TypeError, "label="),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(make: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as found:
        make()
    assert type(found.value) is error
    assert text in str(found.value)


@pytest.mark.parametrize(
    ("label", "labels"),
    [(None, ()), ("gpu", ("gpu",)), (["gpu", "big"], ("gpu", "big")), ((), ()), ("", ("",))],
)
def test_a_label_is_one_or_several(label: Any, labels: tuple[str, ...]) -> None:
    assert PoolSpec(label=label).labels == labels


def test_what_is_right_is_taken() -> None:
    spec = PoolSpec("a pool", "gpu", cpus=[CPU], env={"A": "", "B": "x=y"})
    assert (spec.name, spec.cpus, spec.env) == ("a pool", [CPU], {"A": "", "B": "x=y"})
    assert PoolSpec() == PoolSpec()
    check_name("x" * 200, "name")
    check_name("Bücher 書", "name")
    check_env(None)
    check_env(os.environ)
    check_cpus(sorted(os.sched_getaffinity(0)))
    for seconds in (0, 0.5, 3, float("inf")):
        check_seconds(seconds, "grace")
    assert check_callable(len) is len


@pytest.mark.parametrize(
    ("pools", "labels", "specs"),
    [
        (None, None, None),
        (0, None, []),
        (2, None, [PoolSpec(), PoolSpec()]),
        (2, ["gpu", "cpu"], [PoolSpec(label="gpu"), PoolSpec(label="cpu")]),
        (0, [], []),
        ([], None, []),
        ((PoolSpec("a"), PoolSpec(), PoolSpec()), None, [PoolSpec("a"), PoolSpec(), PoolSpec()]),
    ],
)
def test_pools_are_a_number_or_what_each_is_like(pools: Any, labels: Any, specs: Any) -> None:
    assert pool_specs(pools, labels) == specs
