"""The system calls that code in a sandbox may make; everything else fails with EPERM (docs/SECURITY.md says what and why).

Calls without conditions are answered by the kernel from a bitmap (5.11 and later), so that the length of the list costs nothing
per call; building the filter costs about a millisecond per start.
"""

from __future__ import annotations

import functools
import platform
from typing import Any

import msgspec

EPERM, ENOSYS = 1, 38
ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
"""Only the machine's own: 32-bit and x32 calls are a second, less tested way into the kernel."""

LOW_HALF = 0xFFFF_FFFF
"""The kernel looks at 32 bits of what is compared with this; a filter on all 64 could be dodged by setting a high one."""

NAMESPACE_FLAGS = 0x7E02_0000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""

FILES = """
    access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
    fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr
    fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat
    mkdir mkdirat mknod mknodat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
    readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat statfs
    statx symlink symlinkat sync_file_range tee truncate umask unlink unlinkat utime utimensat utimes write writev
"""
WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 pause pipe pipe2 poll
    ppoll pselect6 select signalfd signalfd4 timerfd_create timerfd_gettime timerfd_settime
"""
MEMORY = """
    brk madvise membarrier memfd_create mincore mlock mlock2 mmap mprotect mremap msync munlock munmap pkey_alloc
    pkey_free pkey_mprotect
"""
PROCESSES = """
    arch_prctl capget execve execveat exit exit_group fork futex get_robust_list getcpu getegid geteuid getgid getgroups
    getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid getuid ioprio_get
    kill pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield set_robust_list set_tid_address setgid
    setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setuid sigaltstack sysinfo tgkill times
    tkill uname vfork wait4 waitid
"""
TIME = """
    alarm clock_getres clock_gettime clock_nanosleep getitimer getrandom gettimeofday nanosleep setitimer time
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime
"""
SOCKETS = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg
    sendto setsockopt shutdown socketpair
"""
IOCTLS = (
    (0xFFFF_FFF0, 0x5400),  # TCGETS and its like, TIOCSCTTY
    (0xFFFF_FFFE, 0x5410),  # TIOCSPGRP, TIOCOUTQ; 0x5412 is TIOCSTI, which types into a terminal
    (0xFFFF_FFFF, 0x5413),  # TIOCGWINSZ
    (0xFFFF_FFFC, 0x5414),  # TIOCSWINSZ
    (0xFFFF_FFFC, 0x5418),  # FIONREAD; 0x541C is TIOCLINUX
    (0xFFFF_FFF0, 0x5420),  # FIONBIO, TIOCNOTTY, TIOCGSID
    (0xFFFF_FFF0, 0x5450),  # FIOCLEX, FIONCLEX, FIOASYNC
    (0xFFFF_FFFF, 0x5441),  # TIOCGPTPEER
    (0xFFFF_FFFF, 0x8004_5430),  # TIOCGPTN
    (0xFFFF_FFFF, 0x4004_5431),  # TIOCSPTLCK
    (0xFFFF_FF00, 0x8900),  # SIOC...: reading the addresses of interfaces; changing them needs a capability
)
FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6."""

NETLINK = 16
"""With protocol 0 only (routes): os.networkInterfaces() and getifaddrs need it."""

PERSONALITIES = (0, LOW_HALF)
"""Linux as it is, and the question which it is; none that switches address randomisation off."""


@functools.cache
def encode_seccomp() -> bytes:
    """``linux.seccomp`` of a bundle as JSON text."""
    names = sorted({name for group in (FILES, WAITING, MEMORY, PROCESSES, TIME, SOCKETS) for name in group.split()})
    filters: dict[str, Any] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": [ARCHITECTURES[platform.machine()]],
        "syscalls": [
            {"names": names, "action": "SCMP_ACT_ALLOW"},
            {
                "names": ["clone3"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": ENOSYS,
            },  # its flags are in memory, out of a filter's sight
            _rule("clone", (0, NAMESPACE_FLAGS, 0)),
            *(_rule("ioctl", (1, mask, value)) for mask, value in IOCTLS),
            *(_rule("socket", (0, LOW_HALF, family)) for family in FAMILIES),
            _rule("socket", (0, LOW_HALF, NETLINK), (2, LOW_HALF, 0)),
            *(_rule("personality", (0, LOW_HALF, value)) for value in PERSONALITIES),
        ],
    }
    return msgspec.json.encode(filters)


def _rule(name: str, *conditions: tuple[int, int, int]) -> dict[str, Any]:
    """``conditions`` are (index of the argument, mask, value); all of them must hold."""
    return {
        "names": [name],
        "action": "SCMP_ACT_ALLOW",
        "args": [
            {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"} for index, mask, value in conditions
        ],
    }
