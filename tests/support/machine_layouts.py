"""File trees of real machines as text, in which "== path" starts a file. No tests here."""

from __future__ import annotations

MiB = 1 << 20
GiB = 1 << 30

_LAPTOP_MOUNTS = """
== proc/self/mountinfo
24 30 0:22 / /proc rw shared:12 - proc proc rw
28 24 0:25 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
30 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
"""

LAPTOP = (
    _LAPTOP_MOUNTS
    + """
== proc/self/cgroup
0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.kde.konsole-4242.scope
== sys/fs/cgroup/memory.stat
anon 6107951104
file 9814077440
== sys/fs/cgroup/cpu.stat
usage_usec 90211001234
user_usec 60211001234
system_usec 30000000000
== sys/fs/cgroup/user.slice/memory.max
max
== sys/fs/cgroup/user.slice/memory.current
14221475840
== sys/fs/cgroup/user.slice/cpu.max
max 100000
== sys/fs/cgroup/user.slice/user-1000.slice/memory.max
max
== sys/fs/cgroup/user.slice/user-1000.slice/memory.high
max
== sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.kde.konsole-4242.scope/memory.max
max
== sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.kde.konsole-4242.scope/cpu.max
max 100000
== sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.kde.konsole-4242.scope/cpu.stat
usage_usec 1412345
user_usec 1200000
system_usec 212345
nr_periods 0
nr_throttled 0
throttled_usec 0
"""
)

# A university server: each person's slice may hold 8 GiB, and is slowed down from 6 GiB on; half of four processors.
SHARED_SERVER = (
    _LAPTOP_MOUNTS
    + """
== proc/self/cgroup
0::/user.slice/user-1000.slice/session-3.scope
== sys/fs/cgroup/user.slice/memory.max
max
== sys/fs/cgroup/user.slice/user-1000.slice/memory.max
8589934592
== sys/fs/cgroup/user.slice/user-1000.slice/memory.high
6442450944
== sys/fs/cgroup/user.slice/user-1000.slice/memory.current
3221225472
== sys/fs/cgroup/user.slice/user-1000.slice/memory.stat
anon 1073741824
file 2147483648
inactive_anon 1073741824
active_anon 0
inactive_file 1610612736
active_file 536870912
slab_reclaimable 0
== sys/fs/cgroup/user.slice/user-1000.slice/cpu.max
200000 100000
== sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope/memory.max
max
== sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope/memory.current
2147483648
== sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope/cpu.max
max 100000
"""
)

DOCKER_V2 = """
== proc/self/cgroup
0::/
== proc/self/mountinfo
612 611 0:97 / / rw,relatime master:303 - overlay overlay rw
618 617 0:29 / /sys/fs/cgroup ro - cgroup2 cgroup rw,nsdelegate,memory_recursiveprot
== sys/fs/cgroup/memory.max
4294967296
== sys/fs/cgroup/memory.high
max
== sys/fs/cgroup/memory.current
3221225472
== sys/fs/cgroup/memory.stat
anon 1073741824
file 2093796556
kernel_stack 1998848
shmem 104857600
inactive_anon 1073741824
active_anon 104857600
inactive_file 1048576000
active_file 943718400
unevictable 0
slab_reclaimable 52428800
slab_unreclaimable 8388608
slab 60817408
== sys/fs/cgroup/cpu.max
350000 100000
== sys/fs/cgroup/cpu.stat
usage_usec 52342123
user_usec 42342123
system_usec 10000000
nr_periods 4000
nr_throttled 250
throttled_usec 12500000
nr_bursts 0
burst_usec 0
"""

# Version 1 keeps the host's path in /proc/self/cgroup, while the container sees its own group mounted at the top.
DOCKER_V1 = """
== proc/self/cgroup
12:pids:/docker/4f1c9a77e1d0
8:memory:/docker/4f1c9a77e1d0
4:cpu,cpuacct:/docker/4f1c9a77e1d0
1:name=systemd:/docker/4f1c9a77e1d0
0::/system.slice/containerd.service
== proc/self/mountinfo
1201 1200 0:28 /docker/4f1c9a77e1d0 /sys/fs/cgroup/systemd ro - cgroup cgroup rw,name=systemd
1205 1200 0:33 /docker/4f1c9a77e1d0 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
1207 1200 0:35 /docker/4f1c9a77e1d0 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct
== sys/fs/cgroup/memory/memory.limit_in_bytes
2147483648
== sys/fs/cgroup/memory/memory.soft_limit_in_bytes
9223372036854771712
== sys/fs/cgroup/memory/memory.usage_in_bytes
1610612736
== sys/fs/cgroup/memory/memory.stat
cache 1073741824
rss 536870912
inactive_file 0
active_file 0
hierarchical_memory_limit 2147483648
hierarchical_memsw_limit 4294967296
total_cache 1073741824
total_rss 536870912
total_inactive_file 805306368
total_active_file 268435456
== sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us
200000
== sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us
100000
== sys/fs/cgroup/cpu,cpuacct/cpu.stat
nr_periods 1000
nr_throttled 40
throttled_time 3000000000
"""

# The container has no limit of its own, its pod has one, which shows only as the hierarchical limit.
KUBERNETES_V1_BURSTABLE = """
== proc/self/cgroup
11:memory:/kubepods/burstable/pod2d1f/9be1c0ffee
5:cpu,cpuacct:/kubepods/burstable/pod2d1f/9be1c0ffee
== proc/self/mountinfo
2101 2100 0:33 /kubepods/burstable/pod2d1f/9be1c0ffee /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
2103 2100 0:35 /kubepods/burstable/pod2d1f/9be1c0ffee /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct
== sys/fs/cgroup/memory/memory.limit_in_bytes
9223372036854771712
== sys/fs/cgroup/memory/memory.usage_in_bytes
1073741824
== sys/fs/cgroup/memory/memory.stat
hierarchical_memory_limit 3221225472
total_inactive_file 268435456
total_active_file 268435456
== sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us
-1
== sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us
100000
== sys/fs/cgroup/cpu,cpuacct/cpu.shares
512
"""

# Started by `kubectl exec` through another namespace: the kernel tells a path outside of what is mounted.
KUBERNETES_V2 = """
== proc/self/cgroup
0::/../cri-containerd-77aa.scope
== proc/self/mountinfo
3102 3101 0:29 / /sys/fs/cgroup ro - cgroup2 cgroup rw
== sys/fs/cgroup/memory.max
6442450944
== sys/fs/cgroup/memory.high
5368709120
== sys/fs/cgroup/memory.current
1073741824
== sys/fs/cgroup/memory.stat
inactive_file 0
active_file 0
slab_reclaimable 0
== sys/fs/cgroup/cpu.max
50000 100000
"""

# Docker inside an LXC container inside a host: each level shows, the outer one is the tighter.
LXC_NESTED = """
== proc/self/cgroup
0::/system.slice/docker-88bb.scope
== proc/self/mountinfo
702 701 0:29 / /sys/fs/cgroup rw - cgroup2 none rw
== sys/fs/cgroup/memory.max
2147483648
== sys/fs/cgroup/memory.current
1073741824
== sys/fs/cgroup/memory.stat
inactive_file 134217728
active_file 134217728
slab_reclaimable 0
== sys/fs/cgroup/cpu.max
300000 100000
== sys/fs/cgroup/cpu.stat
nr_periods 10
nr_throttled 1
throttled_usec 500000
== sys/fs/cgroup/system.slice/memory.max
max
== sys/fs/cgroup/system.slice/docker-88bb.scope/memory.max
3221225472
== sys/fs/cgroup/system.slice/docker-88bb.scope/memory.current
536870912
== sys/fs/cgroup/system.slice/docker-88bb.scope/cpu.max
400000 100000
== sys/fs/cgroup/system.slice/docker-88bb.scope/cpu.stat
nr_periods 20
nr_throttled 2
throttled_usec 250000
"""

# systemd's older layout: controllers in version 1, an empty version 2 beside them.
HYBRID = """
== proc/self/cgroup
4:memory:/batch/job-17
2:cpuacct:/
1:cpu:/batch/job-17
0::/
== proc/self/mountinfo
31 30 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
36 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:36 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
== sys/fs/cgroup/unified/cgroup.procs
1
== sys/fs/cgroup/memory/memory.limit_in_bytes
9223372036854771712
== sys/fs/cgroup/memory/memory.usage_in_bytes
8589934592
== sys/fs/cgroup/memory/batch/memory.limit_in_bytes
5368709120
== sys/fs/cgroup/memory/batch/memory.usage_in_bytes
4294967296
== sys/fs/cgroup/memory/batch/memory.stat
total_inactive_file 1073741824
total_active_file 0
== sys/fs/cgroup/memory/batch/job-17/memory.limit_in_bytes
9223372036854771712
== sys/fs/cgroup/memory/batch/job-17/memory.usage_in_bytes
1073741824
== sys/fs/cgroup/cpu/batch/cpu.cfs_quota_us
100000
== sys/fs/cgroup/cpu/batch/cpu.cfs_period_us
50000
== sys/fs/cgroup/cpu/batch/job-17/cpu.cfs_quota_us
-1
== sys/fs/cgroup/cpu/batch/job-17/cpu.cfs_period_us
50000
"""

# Nothing of the groups is mounted; the environment is all that tells. Two processes of the Space hold memory, and a
# third that is in a group of its own.
SPACE = """
== proc/self/cgroup
0::/
== proc/1/cgroup
0::/
== proc/1/status
Name:	python
State:	S (sleeping)
VmRSS:	  614400 kB
RssAnon:	  524288 kB
RssFile:	   90112 kB
RssShmem:	       0 kB
== proc/77/cgroup
0::/
== proc/77/status
Name:	python
State:	R (running)
VmRSS:	 1638400 kB
RssAnon:	  524288 kB
RssFile:	 1114112 kB
RssShmem:	       0 kB
== proc/88/cgroup
0::/another
== proc/88/status
Name:	chromium
RssAnon:	 8388608 kB
"""

MAC = ""  # no /proc, no /sys
