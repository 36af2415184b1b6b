"""What memory can be used, on recorded machines; one test looks at the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from playground.machine.child_process import ChildProcess
from playground.machine.memory import (
    MachineMemory,
    SystemMemory,
    is_held_in_memory,
    parse_size,
    read_data_limit,
    read_memory,
    read_process_memory,
)
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
    GiB,
    MiB,
)

Plant = Callable[[str], Path]
StartChild = Callable[[str], ChildProcess]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory from mapped files")
ON_SPACE = {"SPACE_ID": "someone/playground", "MEMORY": "15Gi", "CPU_CORES": "2"}


def read(
    root: Path, environ: Mapping[str, str] | None = None, total: int = 32 * GiB, available: int = 20 * GiB
) -> MachineMemory:
    return read_memory(root, environ or {}, lambda: SystemMemory(total, available))


@pytest.mark.parametrize("tree", [LAPTOP, MAC], ids=["laptop", "mac"])
def test_without_limits_the_systems_own_figure_holds(plant: Plant, tree: str) -> None:
    assert read(plant(tree)) == MachineMemory(32 * GiB, 20 * GiB, None, "this computer's memory")


@pytest.mark.parametrize(
    ("tree", "limit", "usable"),
    [
        # 4 GiB less 3 GiB, of which the cache (1,000 + 900 MiB) and slabs (50 MiB) can be dropped
        pytest.param(DOCKER_V2, 4 * GiB, 1 * GiB + 1950 * MiB, id="docker v2"),
        pytest.param(DOCKER_V1, 2 * GiB, 512 * MiB + 1 * GiB, id="docker v1"),
        pytest.param(KUBERNETES_V1_BURSTABLE, 3 * GiB, 2 * GiB + 512 * MiB, id="kubernetes v1, limit on the pod"),
        pytest.param(KUBERNETES_V2, 5 * GiB, 4 * GiB, id="kubernetes v2, memory.high, another namespace's path"),
        pytest.param(LXC_NESTED, 2 * GiB, 1 * GiB + 256 * MiB, id="docker in lxc, the outer limit is the tighter"),
        pytest.param(HYBRID, 5 * GiB, 2 * GiB, id="hybrid, the limit is the parent's"),
    ],
)
def test_a_containers_limit_less_what_it_holds_is_usable(plant: Plant, tree: str, limit: int, usable: int) -> None:
    assert read(plant(tree)) == MachineMemory(limit, usable, limit, "the container's limit")


def test_a_limit_on_a_persons_slice_is_named(plant: Plant) -> None:
    memory = read(plant(SHARED_SERVER))
    # From memory.high (6 GiB) on, everything is stalled; 1 GiB is held beside cache.
    assert memory == MachineMemory(6 * GiB, 5 * GiB, 6 * GiB, "the limit set for user-1000.slice")


def test_the_computers_memory_decides_where_it_is_scarcer_than_the_limit(plant: Plant) -> None:
    memory = read(plant(DOCKER_V2), available=700 * MiB)
    assert memory == MachineMemory(4 * GiB, 700 * MiB, 4 * GiB, "this computer's memory")


def test_a_limit_above_the_computers_memory_is_none(plant: Plant) -> None:
    memory = read(plant(DOCKER_V2), total=2 * GiB, available=1 * GiB)
    assert memory == MachineMemory(2 * GiB, 1 * GiB, None, "this computer's memory")


def test_a_space_without_groups_goes_by_its_variable_and_its_processes(plant: Plant) -> None:
    memory = read(plant(SPACE), ON_SPACE, total=128 * GiB, available=100 * GiB)
    assert memory == MachineMemory(15 * GiB, 14 * GiB, 15 * GiB, "the Space's memory")


def test_a_space_with_a_tighter_group_goes_by_the_group(plant: Plant) -> None:
    memory = read(plant(DOCKER_V2), ON_SPACE)
    assert memory == MachineMemory(4 * GiB, 1 * GiB + 1950 * MiB, 4 * GiB, "the Space's memory")


def test_outside_a_space_a_variable_named_memory_means_nothing(plant: Plant) -> None:
    assert read(plant(LAPTOP), {"MEMORY": "1Gi"}).limit is None


def test_a_full_group_leaves_nothing_rather_than_less(plant: Plant) -> None:
    root = plant(DOCKER_V2)
    (root / "sys/fs/cgroup/memory.current").write_text(f"{9 * GiB}\n")
    assert read(root).usable == 0


def test_a_stat_larger_than_the_usage_leaves_no_more_than_the_limit(plant: Plant) -> None:
    root = plant(DOCKER_V2)
    (root / "sys/fs/cgroup/memory.current").write_text("4096\n")
    assert read(root).usable == 4 * GiB


def test_a_system_that_tells_nothing_is_known_by_its_container(plant: Plant) -> None:
    memory = read_memory(plant(DOCKER_V2), {}, lambda: None)
    assert (memory.total, memory.usable) == (4 * GiB, 1 * GiB + 1950 * MiB)


def test_a_system_that_tells_nothing_at_all_has_nothing_usable_and_says_why(plant: Plant) -> None:
    assert read_memory(plant(MAC), {}, lambda: None) == MachineMemory(
        0, 0, None, "a system that does not tell its memory"
    )


def test_a_version_1_group_without_a_limit_is_not_taken_for_a_huge_computer(plant: Plant) -> None:
    tree = KUBERNETES_V1_BURSTABLE.replace("hierarchical_memory_limit 3221225472", "")
    assert read_memory(plant(tree), {}, lambda: None).total == 0


def test_a_path_above_the_container_never_leads_out_of_it(plant: Plant) -> None:
    root = plant(KUBERNETES_V2 + "\n== sys/fs/cri-containerd-77aa.scope/memory.max\n1048576\n")
    assert read(root).limit == 5 * GiB


def test_where_mountinfo_is_hidden_the_usual_place_is_looked_at(plant: Plant) -> None:
    for number, tree in enumerate((DOCKER_V2, DOCKER_V1)):
        root = plant(tree).rename(plant("").parent / f"hidden-{number}")
        (root / "proc/self/mountinfo").unlink()
        assert read(root).limited_by == "the container's limit"


def test_a_mount_point_with_a_space_in_its_name_is_found(plant: Plant) -> None:
    tree = DOCKER_V2.replace("/ /sys/fs/cgroup ", r"/ /my\040groups ").replace("== sys/fs/cgroup/", "== my groups/")
    assert read(plant(tree)).limit == 4 * GiB


SPOILT = [
    "",
    "max",
    "-1",
    "abc",
    "1e9",
    "4 GiB",
    "\x00\x01",
    "²",
    "9" * 40,
    "9" * 5000,
    "0",
    "1\n2\n3",
    "\ud7ff" * 3,
    ":::",
    "- - -",
]


@pytest.mark.parametrize("content", SPOILT, ids=ascii)
@pytest.mark.parametrize("tree", [DOCKER_V2, DOCKER_V1], ids=["v2", "v1"])
def test_spoilt_files_are_ignored(plant: Plant, tree: str, content: str) -> None:
    root = plant(tree)
    files = [path for path in root.rglob("*") if path.is_file()]
    for file in files:  # one after the other, until nothing readable is left
        file.write_text(content, encoding="utf-8")
        memory = read(root)
        assert 0 <= memory.usable <= memory.total
    assert memory == MachineMemory(32 * GiB, 20 * GiB, None, "this computer's memory")


@pytest.mark.parametrize("tree", [DOCKER_V2, DOCKER_V1], ids=["v2", "v1"])
def test_missing_and_unreadable_files_are_ignored(plant: Plant, tree: str) -> None:
    root = plant(tree)
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.unlink()
        path.mkdir()  # a folder cannot be read, not even by root
        memory = read(root)
        assert 0 <= memory.usable <= memory.total
    assert memory.limit is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("15Gi", 15 * GiB),
        ("16GB", 16 * 10**9),
        ("16G", 16 * 10**9),
        ("1.5GiB", 3 * GiB // 2),
        ("512 Mi", 512 * MiB),
        ("2T", 2 * 10**12),
        ("128k", 128_000),
        ("1073741824", GiB),
        (" 8gi\n", 8 * GiB),
        ("i", None),
        ("10i", None),
        ("", None),
        ("0", None),
        ("-4Gi", None),
        ("lots", None),
        ("1e9", None),
        ("1Gi2", None),
        ("nan", None),
    ],
)
def test_sizes_are_read_as_kubernetes_writes_them(text: str, size: int | None) -> None:
    assert parse_size(text) == size


def test_this_computer_has_some_memory() -> None:
    memory = read_memory()
    assert 0 < memory.usable <= memory.total
    assert memory.limited_by


# --- limits of the shell, ZFS's cache, files in memory ---


def process_limits(data: object = "unlimited", address_space: object = "unlimited") -> str:
    return f"""
== proc/self/limits
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max data size             {data!s:20} unlimited            bytes     
Max resident set          1048576              unlimited            bytes     
Max address space         {address_space!s:20} unlimited            bytes     
"""


@pytest.mark.parametrize("tree", [LAPTOP, DOCKER_V1, DOCKER_V2])
def test_what_the_playgrounds_own_processes_give_back_counts_as_usable(plant: Plant, tree: str) -> None:
    root, system = plant(tree), SystemMemory(16 * GiB, 8 * GiB)
    alone = read_memory(root, {}, lambda: system)
    with_ours = read_memory(root, {}, lambda: system, returnable=GiB // 8)
    assert with_ours.usable == alone.usable + GiB // 8
    assert (with_ours.total, with_ours.limited_by) == (alone.total, alone.limited_by)


def test_a_limit_on_each_process_by_itself_counts_no_other_process(plant: Plant) -> None:
    root = plant(LAPTOP + process_limits(address_space=2 * GiB))
    system = SystemMemory(16 * GiB, 8 * GiB)
    assert read_memory(root, {}, lambda: system, returnable=GiB).usable == 2 * GiB - 256 * MiB


def test_a_limit_of_the_shell_on_a_process_counts(plant: Plant) -> None:
    memory = read(plant(LAPTOP + process_limits(address_space=4 * GiB)))
    assert (memory.total, memory.limit, memory.usable) == (4 * GiB, 4 * GiB, 4 * GiB - 256 * MiB)
    assert memory.limited_by == "what one process may take (ulimit -v)"


def test_a_limit_of_the_shell_on_data_leaves_mapped_weights_out(plant: Plant) -> None:
    root = plant(LAPTOP + process_limits(data=4 * GiB))
    assert read(root).limit is None
    assert read_data_limit(root) == 4 * GiB - 160 * MiB
    assert read_data_limit(plant(LAPTOP + process_limits(data="unlimited"))) is None


def test_the_tightest_of_several_limits_decides(plant: Plant) -> None:
    tree = DOCKER_V2 + process_limits(data=20 * GiB, address_space=GiB // 2)
    assert read(plant(tree)).limited_by == "what one process may take (ulimit -v)"


@pytest.mark.parametrize("value", ["unlimited", str(64 * GiB), "x", "-1", "0", ""])
def test_a_shell_without_a_limit_limits_nothing(plant: Plant, value: str) -> None:
    assert read(plant(LAPTOP + process_limits(value, value))).limit is None


@linux_only
@pytest.mark.parametrize(
    ("letter", "question", "answer"),
    [("v", "read_memory().limit", 600000 * 1024), ("d", "read_data_limit()", 600000 * 1024 - (160 << 20))],
)
def test_a_real_limit_of_the_shell_is_seen(letter: str, question: str, answer: int) -> None:
    source = f"from playground.machine.memory import read_data_limit, read_memory; print({question})"
    shown = subprocess.run(
        ["sh", "-c", f'ulimit -{letter} 600000; exec "$0" -c "$1"', sys.executable, source],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert shown.stdout == f"{answer}\n"


def zfs(size: object, minimum: object) -> str:
    return f"""
== proc/spl/kstat/zfs/arcstats
13 1 0x01 147 39984 4711 100
name                            type data
hits                            4    123456
c_min                           4    {minimum}
c_max                           4    {16 * GiB}
size                            4    {size}
"""


@pytest.mark.parametrize(
    ("tree", "usable"),
    [
        pytest.param(zfs(8 * GiB, GiB), 27 * GiB, id="all above the minimum"),
        pytest.param(zfs(GiB // 2, GiB), 20 * GiB, id="below the minimum"),
        pytest.param(zfs(GiB, 0), 21 * GiB, id="no minimum"),
        pytest.param(zfs(100 * GiB, GiB), 20 * GiB, id="a host's cache, larger than what is used here"),
        pytest.param(zfs("many", "x"), 20 * GiB, id="spoilt"),
        pytest.param(zfs("", ""), 20 * GiB, id="empty"),
    ],
)
def test_the_cache_of_zfs_above_its_minimum_is_usable(plant: Plant, tree: str, usable: int) -> None:
    assert read(plant(LAPTOP + tree)).usable == usable


def test_a_containers_limit_holds_beside_the_cache_of_zfs(plant: Plant) -> None:
    assert read(plant(DOCKER_V2 + zfs(8 * GiB, GiB))).usable == 1 * GiB + 1950 * MiB


def mounted(path: Path, kind: str) -> str:
    device = path.stat().st_dev
    return f"""
== proc/self/mountinfo
24 30 0:22 / /proc rw shared:12 - proc proc rw
31 30 {os.major(device)}:{os.minor(device)} / /models rw,relatime shared:1 - {kind} {kind} rw
"""


@pytest.mark.parametrize(("kind", "held"), [("tmpfs", True), ("ramfs", True), ("ext4", False), ("nfs4", False)])
def test_a_file_on_a_disk_in_memory_is_held_in_memory(plant: Plant, tmp_path: Path, kind: str, held: bool) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"x" * 100_000)
    assert is_held_in_memory(model, plant(mounted(model, kind))) is held
    link = tmp_path / "link.gguf"
    link.symlink_to(model)
    assert is_held_in_memory(link, plant(mounted(model, kind))) is held


def test_holes_and_missing_files_are_not_held_in_memory(plant: Plant, tmp_path: Path) -> None:
    sparse = tmp_path / "stand-in.gguf"
    with open(sparse, "wb") as file:
        file.truncate(1 << 20)
    assert not is_held_in_memory(sparse, plant(mounted(sparse, "tmpfs")))
    assert not is_held_in_memory(tmp_path / "missing.gguf", plant(MAC))
    assert not is_held_in_memory(sparse, plant(MAC))


# --- one process ---

# Takes a step whenever it reads a line, and says when it is done.
GROWING = """
import mmap, sys
kept = []
def step(number):
    if number == 1:
        kept.append(bytearray(b"x") * (64 << 20))
    if number == 2:
        with open({path!r}, "rb") as file:
            view = mmap.mmap(file.fileno(), 48 << 20, access=mmap.ACCESS_READ)
        sum(view[::4096])
        kept.append(view)
    if number == 3:
        shared = mmap.mmap(-1, 32 << 20)
        shared[::4096] = bytes(len(shared) // 4096)
        kept.append(shared)
for number, line in enumerate(iter(sys.stdin.readline, "")):
    step(number)
    print("ready", flush=True)
"""


def grow(child: ChildProcess) -> bytes:
    child.send_line(b"go")
    return child.read_line(30)


@linux_only
def test_memory_is_told_apart_by_whether_the_kernel_can_drop_it(start_child: StartChild, starter: Path) -> None:
    child = start_child(GROWING.format(path=str(starter)))
    seen = []
    for _ in range(4):
        assert grow(child) == b"ready"
        seen.append(read_process_memory(child.pid))
    growth = [(after.anonymous - before.anonymous, after.mapped - before.mapped) for before, after in pairwise(seen)]
    expected = [
        (64 * MiB, 0),  # its own
        (0, 48 * MiB),  # a mapped file
        (32 * MiB, 0),  # shared without a file
    ]
    assert all(memory.exact_split for memory in seen)
    for got, wanted in zip(growth, expected, strict=True):
        assert got == pytest.approx(wanted, abs=MiB)


@linux_only
def test_without_the_exact_file_the_kernels_counters_say_the_same(
    start_child: StartChild, starter: Path, tmp_path: Path
) -> None:
    child = start_child(GROWING.format(path=str(starter)))
    for _ in range(4):
        assert grow(child) == b"ready"
    (tmp_path / f"proc/{child.pid}").mkdir(parents=True)
    (tmp_path / f"proc/{child.pid}/status").symlink_to(f"/proc/{child.pid}/status")
    exact, counted = read_process_memory(child.pid), read_process_memory(child.pid, root=tmp_path)
    assert counted.exact_split
    assert counted.anonymous == pytest.approx(exact.anonymous, abs=2 * MiB)
    assert counted.mapped == pytest.approx(exact.mapped, abs=2 * MiB)


def test_where_nothing_tells_them_apart_all_memory_counts_as_anonymous(
    start_child: StartChild, starter: Path, tmp_path: Path
) -> None:
    child = start_child(GROWING.format(path=str(starter)))
    grow(child), grow(child)
    memory = read_process_memory(child.pid, root=tmp_path)  # no /proc there
    assert not memory.exact_split
    assert memory.mapped == 0
    assert memory.resident > 64 * MiB


def test_a_process_that_has_ended_is_not_found() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, but its number is still taken
    with pytest.raises(ProcessLookupError):
        read_process_memory(child.pid)
    child.wait()
    with pytest.raises(ProcessLookupError):
        read_process_memory(child.pid)


@pytest.mark.parametrize("pid", [0, -1])
def test_a_number_that_no_process_can_have_is_not_found(pid: int) -> None:
    with pytest.raises(ProcessLookupError):
        read_process_memory(pid)
