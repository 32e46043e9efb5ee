"""What a container's quota of processors is, and that it, the user's variables and --threads are obeyed."""

import os
import subprocess
import sys

import pytest

from influence_cli.process import cpu_quota

V1_GROUPS = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n2:cpuset:/\n"


def tree(root, files):
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        # the group above is the tighter one
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        # of a container the mounted tree begins at its own group
        ({"proc/self/cgroup": "0::/kube/pod\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "proc/self/cgroup": V1_GROUPS,
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": V1_GROUPS,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, None),
    ],
)
def test_the_quota_is_the_tightest_of_the_groups_around(tmp_path, files, expected):
    assert cpu_quota(tree(tmp_path, files)) == expected


SEEN = """
import os, sys
from influence_cli import process
if sys.argv[1] != "none":
    process.cpu_quota = lambda: float(sys.argv[1])
os.sched_getaffinity = lambda pid: set(range(4))
process.prepare()
from influence_cli.commands.options import limit_threads
from influence_cli.core.parallel import thread_count
with limit_threads(int(sys.argv[2]) if sys.argv[2] != "none" else None):
    print(thread_count())
"""


@pytest.mark.parametrize(
    ("quota", "variables", "threads", "expected"),
    [
        ("1.5", {}, "none", 2),
        ("0.3", {}, "none", 1),
        ("1", {"OMP_NUM_THREADS": "2"}, "none", 2),  # what the user has set stays
        ("1", {"OPENBLAS_NUM_THREADS": "2"}, "none", 2),
        ("none", {"OMP_NUM_THREADS": "1"}, "none", 1),
        ("none", {"OPENBLAS_NUM_THREADS": "1"}, "none", 1),
        ("1", {}, "2", 2),  # an option goes before all
        ("none", {"OPENBLAS_NUM_THREADS": "2"}, "1", 1),
    ],
)
def test_threads_obey_the_option_the_variables_and_the_quota(quota, variables, threads, expected):
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", SEEN, quota, threads],
        env=inherited | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == min(expected, os.cpu_count())
