"""How many threads are worth running, on recorded machines; one test looks at the real one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from pathlib import Path

import pytest

from playground.machine.cpus import Processors, SystemProcessors, Throttling, read_processors, read_throttling
from tests.support.machine_layouts import (
    DOCKER_V1,
    DOCKER_V2,
    HYBRID,
    KUBERNETES_V1_BURSTABLE,
    KUBERNETES_V2,
    LAPTOP,
    LXC_NESTED,
    MAC,
    SHARED_SERVER,
    SPACE,
)

Plant = Callable[[str], Path]
ON_SPACE = {"SPACE_ID": "someone/playground", "MEMORY": "15Gi", "CPU_CORES": "2"}

# Eight cores with two hardware threads each: 0 and 8, 1 and 9, ...
EIGHT_CORES = "".join(
    f"""
== sys/devices/system/cpu/cpu{number}/topology/core_id
{number % 8}
== sys/devices/system/cpu/cpu{number}/topology/physical_package_id
0
== sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list
{number % 8},{number % 8 + 8}
"""
    for number in range(16)
)
# Two packages of two cores, in each of which the cores count from 0; no list of siblings.
TWO_PACKAGES = "".join(
    f"""
== sys/devices/system/cpu/cpu{number}/topology/core_id
{number % 2}
== sys/devices/system/cpu/cpu{number}/topology/physical_package_id
{number // 2}
"""
    for number in range(4)
)


def read(
    root: Path,
    environ: Mapping[str, str] | None = None,
    physical: int | None = 8,
    logical: int = 16,
    allowed: Set[int] | None = None,
    fast: int | None = None,
) -> Processors:
    return read_processors(root, environ or {}, lambda: SystemProcessors(physical, logical, allowed, fast))


@pytest.mark.parametrize("tree", [LAPTOP + EIGHT_CORES, LAPTOP, MAC], ids=["laptop", "laptop without /sys", "mac"])
def test_without_limits_each_physical_core_gets_one_thread(plant: Plant, tree: str) -> None:
    assert read(plant(tree)) == Processors(8, 8, 16, 16, None, "this computer's cores")


@pytest.mark.parametrize(
    ("tree", "quota", "usable", "limited_by"),
    [
        pytest.param(DOCKER_V2, 3.5, 3, "the container's processor quota", id="docker v2, half a core is left over"),
        pytest.param(DOCKER_V1, 2.0, 2, "the container's processor quota", id="docker v1"),
        pytest.param(KUBERNETES_V1_BURSTABLE, None, 8, "this computer's cores", id="kubernetes v1, shares only"),
        pytest.param(KUBERNETES_V2, 0.5, 1, "the container's processor quota", id="kubernetes v2, half a core"),
        pytest.param(LXC_NESTED, 3.0, 3, "the container's processor quota", id="docker in lxc, the outer is tighter"),
        pytest.param(HYBRID, 2.0, 2, "the container's processor quota", id="hybrid, the quota is the parent's"),
        pytest.param(SHARED_SERVER, 2.0, 2, "the processor quota set for user-1000.slice", id="a person's slice"),
    ],
)
def test_a_quota_holds_wherever_it_is_set(
    plant: Plant, tree: str, quota: float | None, usable: int, limited_by: str
) -> None:
    processors = read(plant(tree + EIGHT_CORES))
    assert (processors.quota, processors.usable, processors.limited_by) == (quota, usable, limited_by)


def test_a_quota_above_the_cores_limits_nothing(plant: Plant) -> None:
    processors = read(plant(DOCKER_V2 + TWO_PACKAGES), physical=2, logical=2)
    assert (processors.usable, processors.limited_by) == (2, "this computer's cores")


def test_two_hardware_threads_of_one_core_are_one_core(plant: Plant) -> None:
    processors = read(plant(LAPTOP + EIGHT_CORES), allowed={0, 8, 3})
    assert processors == Processors(2, 8, 16, 3, None, "the processors assigned to this process")


def test_affinity_to_one_thread_of_each_core_costs_nothing(plant: Plant) -> None:
    processors = read(plant(LAPTOP + EIGHT_CORES), allowed=set(range(8)))
    assert (processors.usable, processors.affinity, processors.limited_by) == (8, 8, "this computer's cores")


def test_cores_of_two_packages_with_the_same_number_are_two(plant: Plant) -> None:
    assert read(plant(TWO_PACKAGES), physical=None, logical=4).usable == 4


def test_a_list_of_siblings_without_the_thread_itself_is_not_believed(plant: Plant) -> None:
    root = plant(EIGHT_CORES)
    for file in root.rglob("thread_siblings_list"):
        file.write_text("0\n")
    assert read(root).usable == 8


def test_where_nobody_tells_the_physical_cores_the_allowed_threads_count(plant: Plant) -> None:
    assert read(plant(MAC), physical=None, allowed={1, 2, 3}).usable == 3


def test_of_fast_and_slow_cores_only_the_fast_ones_are_used(plant: Plant) -> None:
    # threads 0-11 are six fast cores by two; 12-15 are four slow ones without a second thread
    cores = [f"{n & ~1}-{n | 1}" if n < 12 else str(n) for n in range(16)]
    topology = "".join(
        f"\n== sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list\n{core}\n" for n, core in enumerate(cores)
    )
    root = plant(LAPTOP + topology + "\n== sys/devices/cpu_core/cpus\n0-11\n")
    assert read(root, physical=10) == Processors(6, 10, 16, 16, None, "this computer's fast cores")
    assert read(root, physical=10, allowed={0, 1, 2, 13}).usable == 2
    assert read(root, physical=10, allowed={12, 13, 14}).usable == 3  # pinned to slow cores, those are all there is


def test_a_mac_uses_its_fast_cores(plant: Plant) -> None:
    processors = read(plant(MAC), physical=8, logical=8, fast=4)
    assert (processors.usable, processors.limited_by) == (4, "this computer's fast cores")


def test_a_space_says_its_cores_in_a_variable(plant: Plant) -> None:
    processors = read(plant(SPACE + EIGHT_CORES), ON_SPACE)
    assert (processors.usable, processors.quota, processors.limited_by) == (2, 2.0, "the Space's cores")


def test_outside_a_space_a_variable_named_cpu_cores_means_nothing(plant: Plant) -> None:
    assert read(plant(LAPTOP), {"CPU_CORES": "1"}).quota is None


@pytest.mark.parametrize("cores", ["", "many", "0", "-2", "nan", "inf", "1e999"])
def test_a_spoilt_cpu_cores_is_ignored(plant: Plant, cores: str) -> None:
    assert read(plant(SPACE), ON_SPACE | {"CPU_CORES": cores}).usable == 8


@pytest.mark.parametrize(
    "content", ["", "max", "max max", "-1", "200000", "200000 0", "0 100000", "x y", "1 2 3", "\x00"]
)
@pytest.mark.parametrize("tree", [DOCKER_V2, DOCKER_V1], ids=["v2", "v1"])
def test_spoilt_files_leave_at_least_one_thread(plant: Plant, tree: str, content: str) -> None:
    root = plant(tree + EIGHT_CORES)
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        file.write_text(content)
        processors = read(root)
        assert 1 <= processors.usable <= 8
        assert processors.quota is None or math.isfinite(processors.quota)
    assert read_throttling(root) is None


@pytest.mark.parametrize(
    ("tree", "throttling"),
    [
        pytest.param(DOCKER_V2, Throttling(4000, 250, 12.5), id="v2 counts microseconds"),
        pytest.param(DOCKER_V1, Throttling(1000, 40, 3.0), id="v1 counts nanoseconds"),
        pytest.param(LXC_NESTED, Throttling(30, 3, 0.75), id="two groups that stop it add up"),
        pytest.param(LAPTOP, None, id="no quota"),
        pytest.param(MAC, None, id="not linux"),
    ],
)
def test_throttling_is_read_where_a_quota_counts(plant: Plant, tree: str, throttling: Throttling | None) -> None:
    assert read_throttling(plant(tree)) == throttling


def test_throttling_during_a_measurement_is_the_difference() -> None:
    assert Throttling(110, 7, 2.5).since(Throttling(100, 4, 1.0)) == Throttling(10, 3, 1.5)


def test_this_computer_has_at_least_one_core() -> None:
    processors = read_processors()
    assert 1 <= processors.usable <= processors.affinity <= processors.logical


def capacities(*values: object) -> str:
    return "".join(
        f"\n== sys/devices/system/cpu/cpu{number}/cpu_capacity\n{value}\n" for number, value in enumerate(values)
    )


@pytest.mark.parametrize(
    ("values", "usable"),
    [
        pytest.param((414,) * 4 + (1024,) * 4, 4, id="four slow, four fast"),
        pytest.param((1024,) * 4 + (414,) * 4, 4, id="the fast ones first"),
        pytest.param((485,) * 4 + (1024,) * 2, 2, id="two fast"),
        pytest.param((250,) * 2 + (870,) * 5 + (1024,), 6, id="three kinds, only one of them slow"),
        pytest.param((1024,) * 8, 8, id="all alike"),
        pytest.param((414,) * 4, 4, id="slow cores are all there is"),
        pytest.param(("414",) * 4 + ("",) * 4, 8, id="half of them do not tell"),
        pytest.param((414, 1024, "x", "-1", 1024, 1024, 1024, 1024), 8, id="spoilt"),
    ],
)
def test_only_the_fast_kind_of_arm_cores_counts(plant: Plant, values: tuple[object, ...], usable: int) -> None:
    count = len(values)
    processors = read(plant(LAPTOP + capacities(*values)), physical=count, logical=count)
    assert processors.usable == usable
    assert processors.limited_by == ("this computer's fast cores" if usable < count else "this computer's cores")


def test_a_process_pinned_to_slow_arm_cores_uses_them_all(plant: Plant) -> None:
    root = plant(LAPTOP + capacities(414, 414, 414, 414, 1024, 1024, 1024, 1024))
    assert read(root, physical=8, logical=8, allowed={0, 1, 2}).usable == 3
    assert read(root, physical=8, logical=8, allowed={0, 1, 4, 5}).usable == 2
