"""What Linux offers to hold a process, by system calls that Python has no names for: Landlock, seccomp, namespaces.

Each function does one of them to the calling process and all it will start, for good, and raises `OSError` where the
kernel refuses. Numbers are from the kernel's own headers (`uapi/linux`). For `maos_bot.execution.jail` alone: it is the
program that becomes the process to be held.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)

# From prctl.h.
_SET_PDEATHSIG: Final = 1
_SET_SECCOMP: Final = 22
_CAPBSET_DROP: Final = 24
_SET_CHILD_SUBREAPER: Final = 36
_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2

# landlock.h; the numbers of the calls are the same on every machine
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH: Final = 1
_READ_FILE, _READ_DIR, _EXECUTE = 1 << 2, 1 << 3, 1 << 0
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many access rights a version knows
_TCP: Final = 0b11  # bind, connect
_SCOPES: Final = 0b11  # abstract Unix sockets, signals

# sched.h, mount.h
NAMESPACES: Final[Mapping[str, int]] = {
    "user": 0x10000000,
    "mount": 0x00020000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "ipc": 0x08000000,
}
_MOUNT_SETATTR: Final = 442
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_AT_RECURSIVE: Final = 0x8000
_AT_FDCWD: Final = -100
_ATTR_RDONLY: Final = 1

# seccomp.h, filter.h
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_X32: Final = 0x40000000
_EPERM, _EACCES = 1, 13
# For each machine: its name for audits, `socket`, and the calls that reach into other processes or around the filter:
# ptrace, process_vm_readv, process_vm_writev, io_uring_setup, pidfd_getfd, add_key, request_key, keyctl, bpf,
# perf_event_open, userfaultfd.
_CALLS: Final[Mapping[str, tuple[int, int, tuple[int, ...]]]] = {
    "x86_64": (0xC000003E, 41, (101, 310, 311, 425, 438, 248, 249, 250, 321, 298, 323)),
    "aarch64": (0xC00000B7, 198, (117, 270, 271, 425, 438, 217, 218, 219, 280, 241, 282)),
}
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16


def landlock_version() -> int:
    """The version of Landlock's interface; 0 where the kernel has none or it is switched off."""
    return max(0, int(_LIBC.syscall(_CREATE_RULESET, None, 0, 1)))


def hold_files(*, readable: Collection[str], writable: Collection[str], tcp: bool) -> None:
    """From now on only what is in or below `readable` can be read or executed, and only `writable` changed.

    Paths that don't exist are left out. Without `tcp`, and where the kernel knows how, no TCP port either; and no
    signal, abstract socket or `ptrace` reaches a process that isn't held likewise.
    """
    version = landlock_version()
    if not version:
        raise OSError("this kernel has no Landlock")
    handled = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    handled_tcp = _TCP if version >= 4 and not tcp else 0
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("=QQQ", handled, handled_tcp, _SCOPES if version >= 6 else 0)[:size]
    ruleset = _call(_CREATE_RULESET, ctypes.c_char_p(attributes), size, 0)
    reading = _READ_FILE | _READ_DIR | _EXECUTE
    changing = handled & ~(_MAKE_CHAR | _MAKE_BLOCK)
    try:
        for paths, rights in ((readable, reading), (writable, changing)):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        no_new_privileges()
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not os.path.isdir(path):  # noqa: PTH112 - paths are texts here
            rights &= _OF_FILES
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.c_char_p(struct.pack("=Qi", rights, place)), 0)
    finally:
        os.close(place)


def can_filter_calls() -> bool:
    """Whether `filter_calls` knows this machine."""
    return platform.machine() in _CALLS


def filter_calls(*, loopback: bool) -> None:
    """No sockets any more but pairs and, with `loopback`, those of the internet family, for a network of one's own.

    Refused besides: looking into other processes, kernel keys, and io_uring, which opens sockets unseen.
    """
    audit, socket, refused = _CALLS[platform.machine()]
    families = (_INET, _INET6, _NETLINK) if loopback else ()
    tail = [_op(_RETURN, _RET_ERRNO | _EPERM), _op(_RETURN, _RET_ERRNO | _EACCES), _op(_RETURN, _RET_ALLOW)]
    # Jumps count instructions from the next one; the tail's three are reached by their distance from the end.
    checks = [
        *((_JUMP_EQUAL, number, "refuse", "next") for number in refused),
        (_JUMP_EQUAL, socket, "next", "allow"),
        (_LOAD, 16, "", ""),  # the socket's family: low half of the first argument
        *((_JUMP_EQUAL, family, "allow", "next") for family in families),
    ]
    program = [_op(_LOAD, 4), _op(_JUMP_EQUAL, audit, 1, 0), tail[0], _op(_LOAD, 0)]
    after_x32 = len(checks)
    program.append(_op(_JUMP_AT_LEAST, _X32, after_x32 + 1, 0))
    for place, (code, value, yes, no) in enumerate(checks):
        left = len(checks) - place - 1
        where = {"": 0, "next": 0, "refuse": left + 1, "deny": left, "allow": left + 2}
        program.append(_op(code, value, where[yes], where[no]))
    # After the checks: a socket of another family is denied; then the refusal, then what is allowed.
    program += [tail[1], tail[0], tail[2]]
    instructions = b"".join(program)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    no_new_privileges()
    _prctl(_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(header))


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def leave(namespaces: Collection[str]) -> None:
    """Go on in new namespaces; with `user` the ids stay what they are."""
    uid, gid = os.getuid(), os.getgid()
    flags = 0
    for name in namespaces:
        flags |= NAMESPACES[name]
    _checked(_LIBC.unshare(flags))
    if "user" in namespaces:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")


def only_writable(folders: Collection[str]) -> None:
    """In a mount namespace of one's own: everything is mounted read-only but what is below `folders`."""
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    for folder in folders:
        _mount(folder, folder, "", _MS_BIND | _MS_REC)
    _set_read_only("/", read_only=True)
    for folder in folders:
        _set_read_only(folder, read_only=False)


def cover(file: str) -> None:
    """In a mount namespace of one's own: `file` is empty, and can be neither changed nor moved."""
    _mount(os.devnull, file, "", _MS_BIND)


def mount_fresh(kind: str, place: str, options: str = "") -> None:
    """Mount a file system of `kind` (proc, tmpfs) at `place`."""
    _mount(kind, place, kind, _MS_NOSUID | _MS_NODEV | (_MS_NOEXEC if kind == "proc" else 0), options)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    _checked(_LIBC.mount(os.fsencode(source), os.fsencode(target), kind.encode(), flags, options.encode() or None))


def _set_read_only(place: str, *, read_only: bool) -> None:
    change = (_ATTR_RDONLY, 0) if read_only else (0, _ATTR_RDONLY)
    attributes = struct.pack("=QQQQ", *change, 0, 0)
    _call(_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(place), _AT_RECURSIVE, ctypes.c_char_p(attributes), len(attributes))


def raise_loopback() -> None:
    """Set `lo` up, in a network namespace of one's own."""
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def drop_capabilities() -> None:
    """Give up every capability, also for what a user id of 0 would get back by executing."""
    for capability in range(64):
        if _LIBC.prctl(_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # the last one that this kernel knows was the one before; without the right to, nothing changes
    header = struct.pack("=Ii", 0x20080522, 0)
    _checked(_LIBC.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))))


def no_new_privileges() -> None:
    """No program executed from now on gains rights by its file (set-user-id, capabilities)."""
    _prctl(_SET_NO_NEW_PRIVS, 1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def end_with_parent(number: int) -> None:
    """Get signal `number` when the parent ends."""
    _prctl(_SET_PDEATHSIG, number)


def _prctl(option: int, value: int, third: object = 0) -> None:
    _checked(_LIBC.prctl(option, value, third, 0, 0))


def _call(number: int, *arguments: object) -> int:
    return _checked(_LIBC.syscall(number, *arguments))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
