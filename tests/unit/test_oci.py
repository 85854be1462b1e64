"""The parts of the oci driver that can be tried without a sandbox."""

from __future__ import annotations

import ipaddress
import json
import os
from pathlib import Path

import pytest

from spinney.drivers.oci import bundle
from spinney.drivers.oci.bundle import Person, Placement, Template, encode_config
from spinney.drivers.oci.cgroups import common_resources
from spinney.drivers.oci.cgroups_v2 import SERVER_GROUP, CgroupsV2, choose_base
from spinney.drivers.oci.egress import choose_block, parse_allowed, write_rules
from spinney.drivers.oci.examine import has_fixes
from spinney.drivers.oci.identity import Ids, RangeIdentities
from spinney.drivers.oci.machine import (
    counts_processes_by_namespace,
    find_nameservers,
    find_own_group,
    find_runtime,
    find_v1_trees,
)
from spinney.drivers.oci.rootfs import add_mount_points, make_rootfs
from spinney.drivers.oci.seccomp import encode_seccomp
from spinney.errors import StartFailed, Unsupported
from spinney.ports import Launch, Limits, Mount, SandboxSpec

# -- control groups version 2, on a directory that looks like one --------------------------------------------------------


class Tree:
    """Files as the kernel shows them; what it would do by itself (moving processes, refusing) is done by the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.make("")

    def make(self, group: str, controllers: str = "cpuset cpu io memory pids") -> Path:
        directory = self.path / group
        directory.mkdir(parents=True, exist_ok=True)
        for name in (
            "cgroup.procs",
            "cgroup.subtree_control",
            "memory.max",
            "memory.swap.max",
            "pids.max",
            "cpu.weight",
            "cpu.max",
        ):
            (directory / name).touch()
        (directory / "cgroup.controllers").write_text(controllers)
        return directory

    def read(self, file: str) -> str:
        return (self.path / file).read_text()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "cgroup")


def test_v2_the_parent_gets_the_budget_and_lets_its_children_be_limited(tree: Tree) -> None:
    tree.make("spinney-x")
    CgroupsV2(tree.path, "/", "spinney-x").prepare(1 << 30, 5000)
    assert tree.read("cgroup.subtree_control") == "+cpu +memory +pids"
    assert tree.read("spinney-x/cgroup.subtree_control") == "+cpu +memory +pids"
    assert tree.read("spinney-x/memory.max") == str(1 << 30)
    assert tree.read("spinney-x/memory.swap.max") == "0"
    assert (tree.read("spinney-x/pids.max"), tree.read("spinney-x/cpu.weight")) == ("5000", "50")


def test_v2_without_a_budget_there_is_no_limit(tree: Tree) -> None:
    tree.make("spinney-x")
    CgroupsV2(tree.path, "/", "spinney-x").prepare(0, 0)
    assert (tree.read("spinney-x/memory.max"), tree.read("spinney-x/pids.max")) == ("max", "max")


def test_v2_what_is_enabled_already_is_left_alone(tree: Tree) -> None:
    tree.make("spinney-x")
    (tree.path / "cgroup.subtree_control").write_text("cpuset cpu memory pids")
    CgroupsV2(tree.path, "/", "spinney-x").prepare(0, 0)
    assert tree.read("cgroup.subtree_control") == "cpuset cpu memory pids"


def test_v2_processes_move_aside_where_the_kernel_wants_an_inner_group_empty(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tree.make("system.slice/spinney.service")
    tree.make("system.slice/spinney.service/spinney-x")
    tree.make(f"system.slice/spinney.service/{SERVER_GROUP}")
    (base / "cgroup.procs").write_text("4242\n")
    from spinney.drivers.oci import cgroups_v2

    plain = cgroups_v2.write_text

    def write_text(path: Path, value: str | int) -> None:
        if path == base / SERVER_GROUP / "cgroup.procs":
            (base / "cgroup.procs").write_text("")
        elif path == base / "cgroup.subtree_control" and (base / "cgroup.procs").read_text():
            raise OSError(16, "Device or resource busy")
        plain(path, value)

    monkeypatch.setattr(cgroups_v2, "write_text", write_text)
    groups = CgroupsV2(tree.path, "/system.slice/spinney.service", "spinney-x")
    groups.prepare(0, 0)
    assert (base / SERVER_GROUP / "cgroup.procs").read_text() == "4242"
    assert (base / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert groups.location("abc") == "/system.slice/spinney.service/spinney-x/abc"


def test_v2_missing_controllers_are_named(tree: Tree) -> None:
    tree.make("", controllers="cpuset pids")
    with pytest.raises(Unsupported, match="cpu, memory"):
        CgroupsV2(tree.path, "/", "spinney-x")


def test_v2_limits_usage_and_kills(tree: Tree) -> None:
    group = tree.make("spinney-x/abc")
    groups = CgroupsV2(tree.path, "/", "spinney-x")
    groups.change("abc", Limits(), Limits(memory_mb=512, cpus=0.5, pids=9))
    assert [(group / name).read_text() for name in ("memory.max", "cpu.max", "pids.max")] == [str(512 << 20), "50000 100000", "9"]
    groups.hasten("abc")
    assert (group / "cpu.max").read_text() == "max 100000"
    (group / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (group / "memory.current").write_text("4096\n")
    (group / "memory.peak").write_text("8192\n")
    (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert groups.usage("abc")[:3] == (2.5, 4096, 8192)
    assert groups.oom_kills("abc") == 2
    assert groups.names() == {"abc"}
    (group / "cgroup.kill").touch()
    assert groups.kill("abc") == []
    assert (group / "cgroup.kill").read_text() == "1"


def test_v2_a_group_that_is_gone_counts_nothing(tree: Tree) -> None:
    groups = CgroupsV2(tree.path, "/", "spinney-x")
    assert (sum(groups.usage("gone")), groups.oom_kills("gone"), groups.kill("gone"), groups.names()) == (0, 0, [], set())
    groups.hasten("gone")
    groups.remove("gone")
    groups.close()


def test_v2_file_contents_do_not_count_as_used(tree: Tree) -> None:
    group = tree.make("spinney-x")
    (group / "memory.current").write_text("1000000")
    (group / "memory.stat").write_text("anon 5\ninactive_file 300000\nactive_file 200000\n")
    assert CgroupsV2(tree.path, "/", "spinney-x").memory_bytes() == 500000


def test_v2_the_top_is_used_when_it_is_the_true_top(tree: Tree) -> None:
    assert choose_base(tree.path, "/user.slice/session.scope") == "/"
    (tree.path / "cgroup.type").write_text("domain")  # the root of a namespace: a container
    assert choose_base(tree.path, "/system.slice/spinney.service") == "/system.slice/spinney.service"
    assert choose_base(tree.path, f"/system.slice/spinney.service/{SERVER_GROUP}") == "/system.slice/spinney.service"
    assert choose_base(tree.path, f"/{SERVER_GROUP}") == "/"
    assert choose_base(tree.path, "/") == "/"


def test_own_group_is_read_from_proc() -> None:
    assert find_own_group("4:memory:/x\n0::/system.slice/a.service\n") == "/system.slice/a.service"
    assert find_own_group("4:memory:/x\n") == "/"


def test_v1_trees_are_found_by_controller() -> None:
    mounts = """25 20 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,release_agent=/lib/systemd,name=systemd
27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
29 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate"""
    trees = {name: str(path) for name, path in find_v1_trees(mounts).items()}
    assert trees == {
        "/sys/fs/cgroup/systemd": "/sys/fs/cgroup/systemd",
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/unified": "/sys/fs/cgroup/unified",
    }


# -- the egress policy ---------------------------------------------------------------------------------------------------


def test_egress_rules_never_let_the_host_be_reached() -> None:
    rules = write_rules("spinney_x", "spnabcd*", "10.213.8.0/21", ["10.0.0.53"], ["0.0.0.0/0"], "spn*")
    assert 'iifname "spnabcd*" drop' in rules
    arrive = rules[rules.index("chain arrive") : rules.index("chain input")]
    assert "fib daddr type != unicast drop" in arrive
    leave = rules[rules.index("chain leave") : rules.index("chain translate")]
    assert leave.index("@resolvers") < leave.index("@allowed") < leave.index("@refused") < leave.rindex("accept")


def test_egress_settings_are_checked() -> None:
    assert parse_allowed(["10.1.2.3/24", "fd00::/8"]) == ["10.1.2.0/24"]
    with pytest.raises(ValueError, match="does not appear"):
        parse_allowed(["example.com"])


def test_a_block_of_addresses_avoids_the_routes_of_the_host() -> None:
    first = choose_block("10.213.0.0/16", 0, ["0.0.0.0/0"])
    assert first == ipaddress.IPv4Network("10.213.0.0/21")
    assert choose_block("10.213.0.0/16", 0, ["10.213.1.4/31"]) == ipaddress.IPv4Network("10.213.8.0/21")
    assert choose_block("10.213.0.0/16", 31, ["10.213.248.0/24"]) == first
    assert choose_block("192.168.5.0/24", 7, []) == ipaddress.IPv4Network("192.168.5.0/24")
    with pytest.raises(ValueError, match="network_cidr"):
        choose_block("10.213.0.0/16", 3, ["10.0.0.0/8"])


def test_resolvers_on_the_loopback_are_no_use_in_a_sandbox() -> None:
    stub, upstream = "nameserver 127.0.0.53\noptions edns0\n", "# systemd\nnameserver 192.168.1.1\nnameserver fe80::1\n"
    assert find_nameservers(stub, upstream) == ["192.168.1.1"]
    assert find_nameservers("nameserver 9.9.9.9\n", upstream) == ["9.9.9.9"]
    assert find_nameservers("", "") == []


# -- the rest ------------------------------------------------------------------------------------------------------------


def test_ids_are_nobody_elses_and_come_back_last() -> None:
    identities = RangeIdentities(1000, 6)
    taken = [identities.take() for _ in range(3)]
    assert taken == [Ids(1000, 1001), Ids(1002, 1003), Ids(1004, 1005)]
    with pytest.raises(StartFailed):
        identities.take()
    identities.give(taken[1])
    identities.give(taken[0])
    assert [identities.take(), identities.take()] == [taken[1], taken[0]]


def test_the_bundle_has_every_wall() -> None:
    limits = Limits(memory_mb=100, tmp_mb=5)
    spec = SandboxSpec(id="a", launch=Launch(key="k", argv=("/usr/bin/x",), environment=(("A", "b"),)), limits=limits)
    template = Template(rootfs="/r", mounts=(Mount("/usr", "/usr"),), init="/usr/bin/tini", seccomp=encode_seccomp())
    place = Placement(ids=Ids(5, 6), task="/t", cgroup="/c/a", resources={}, person=Person(1000, 6, limits, counted=False))
    config = json.loads(encode_config(template, spec, place))
    assert config["root"] == {"path": "/r", "readonly": True}
    namespaces = {entry["type"] for entry in config["linux"]["namespaces"]}
    assert namespaces == {"pid", "network", "ipc", "uts", "mount", "user", "cgroup"}
    process = config["process"]
    assert (process["capabilities"], process["noNewPrivileges"], process["user"]) == ({}, True, {"uid": 1000, "gid": 1000})
    assert process["args"] == ["/usr/bin/tini", "--", "/usr/bin/x"]
    assert process["env"] == ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "TMPDIR=/tmp", "LANG=C.UTF-8", "TZ=UTC", "A=b"]
    for mount in config["mounts"]:
        assert "nosuid" in mount["options"]
        assert mount["source"] not in ("/usr", "/t") or "ro" in mount["options"]
    assert config["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"


def test_the_filter_lists_each_call_once_and_none_that_attacks() -> None:
    filters = json.loads(encode_seccomp())
    allowed = [name for rule in filters["syscalls"] if "args" not in rule for name in rule["names"]]
    assert len(allowed) == len(set(allowed))
    assert not {"mount", "ptrace", "bpf", "keyctl", "unshare", "setns", "io_uring_setup", "clone", "socket", "ioctl"} & set(
        allowed
    )


def test_the_root_shows_links_and_a_small_etc(tmp_path: Path) -> None:
    root = tmp_path / "root"
    mounts = make_rootfs(root)
    assert mounts[0] == Mount("/usr", "/usr")
    assert (root / "bin").is_symlink() == Path("/bin").is_symlink()
    assert not (root / "etc/resolv.conf").exists()
    assert not (root / "etc/shadow").exists()
    add_mount_points(root, [Mount(str(tmp_path), "/opt/a/b"), Mount(__file__, "/opt/a/c.py"), Mount("/x", "/usr/x")])
    assert (root / "opt/a/b").is_dir()
    assert (root / "opt/a/c.py").is_file()
    assert os.listdir(root / "usr") == []
    with_network = tmp_path / "with-network"
    make_rootfs(with_network, ["9.9.9.9"])
    assert (with_network / "etc/resolv.conf").read_text() == "nameserver 9.9.9.9\n"


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ("1.1.5+ds1", False),
        ("1.2.7", False),
        ("1.2.8", True),
        ("1.3.2", False),
        ("1.3.3", True),
        ("1.4.0-rc.2", False),
        ("1.4.0-rc.3", True),
        ("1.4.0", True),
        ("1.10.0", True),
        ("2.0.0", True),
    ],
)
def test_runcs_with_the_fixes_are_known(version: str, fixed: bool) -> None:
    assert has_fixes(f"runc version {version}\ncommit: x\n", "") is fixed


def test_a_distribution_may_have_fixed_an_old_runc() -> None:
    changelog = "runc (1.1.5+ds1-1+deb12u2) bookworm-security\n * CVE-2025-31133 CVE-2025-52565 CVE-2025-52881\n"
    assert has_fixes("runc version 1.1.5+ds1\n", changelog)
    assert not has_fixes("nonsense", "")


def test_only_runtimes_that_pass_a_descriptor_are_taken() -> None:
    with pytest.raises(Unsupported, match="use runc or crun"):
        find_runtime("/usr/bin/runsc")


def test_process_limits_by_user_need_a_kernel_that_counts_by_namespace() -> None:
    assert counts_processes_by_namespace("6.1.0-13-amd64")
    assert counts_processes_by_namespace("5.14.0")
    assert not counts_processes_by_namespace("5.10.0-28-amd64")
    assert not counts_processes_by_namespace("strange")


def test_work_in_the_background_weighs_little_and_spares_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 6})
    quiet, usual = Limits(background=True), Limits()
    assert common_resources(quiet)["cpu"]["shares"] * 10 < common_resources(usual)["cpu"]["shares"]
    assert bundle._spare_a_processor(quiet) == ("/usr/bin/taskset", "--cpu-list", "5,6")
    assert bundle._spare_a_processor(usual) == ()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4})
    assert bundle._spare_a_processor(quiet) == ()
