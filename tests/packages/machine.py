"""A clean Debian with systemd as PID 1, in namespaces of its own: mounts, processes, network, cgroups."""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import zlib
from pathlib import Path

from websocket import Backend, Client

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "target/packages"
INCLUDED = "systemd,systemd-sysv,dbus,adduser,ca-certificates,logrotate,curl,rpm"
# Another list needs another archive.
ARCHIVE = PACKAGES / f"debian-12-{zlib.crc32(INCLUDED.encode()):08x}.tar"

# /proc/sys and /sys are read-only, and /dev has no device of the host: a boot must not change the host.
BOOT = """set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for place in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs $place; done
chmod 1777 tmp
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "dev/${device%:*}" c 1 "${device#*:}"
done
exec chroot . /usr/bin/env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"""
NAMESPACES = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
CLONE_NEWNET = 0x40000000
LIMIT = 120


def missing():
    """Why there can be no such machine here, or None."""
    if not ARCHIVE.exists() and not shutil.which("mmdebstrap"):
        return "mmdebstrap is missing"
    return missing_namespaces("mount -t cgroup2 cgroup2 /mnt")


def missing_namespaces(command="true"):
    """Why there are no namespaces here in which the command succeeds, or None."""
    if os.geteuid() != 0:
        return "it needs root for namespaces"
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        return "unshare or nsenter is missing"
    allowed = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "sh", "-ec", f"mount --make-rprivate /; {command}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"namespaces are not allowed: {allowed.stderr.strip()}" if allowed.returncode else None


def create_archive():
    """The root file system, once. Returns why it cannot be created, or None."""
    if ARCHIVE.exists():
        return None
    part = ARCHIVE.with_suffix(".part.tar")
    made = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDED}", "bookworm", str(part)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        return f"mmdebstrap failed: {made.stderr.strip()[-300:]}"
    part.rename(ARCHIVE)
    return None


def eventually(what, check):
    """Waits for a fact."""
    end = time.monotonic() + LIMIT
    while True:
        if found := check():
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {LIMIT} s: {what}")
        time.sleep(0.05)


class Machine:
    """A running system. `close` ends every process of it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        subprocess.run(["tar", "-xf", ARCHIVE, "-C", self.folder], check=True)
        self.log = open(self.folder.with_suffix(".log"), "wb")
        self.outer = subprocess.Popen(
            ["unshare", *NAMESPACES, "--fork", "--kill-child", "sh", "-c", BOOT, "boot", self.folder],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children")
        self.init = int(eventually("the first process", lambda: children.read_text().split()[:1] or None)[0])
        eventually("systemd", lambda: Path(f"/proc/{self.init}/comm").read_text() == "systemd\n")
        eventually("the bus", lambda: self.run("systemctl is-system-running", check=False).stdout.strip() in ("running", "degraded"))

    def run(self, command, check=True):
        """Runs a shell command in the machine."""
        flags = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        done = subprocess.run(
            ["nsenter", "--target", str(self.init), *flags, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if check and done.returncode:
            journal = self.run("journalctl --no-pager -n 30 -u moongate", check=False).stdout
            raise AssertionError(f"{command}: exit code {done.returncode}\n{done.stdout}\n{journal}")
        return done

    def output(self, command):
        return self.run(command).stdout.strip()

    def path(self, name):
        """A path of the machine, as the host sees it."""
        return Path(f"/proc/{self.init}/root{name}")

    def enter_network(self):
        """Moves this thread, and those that it starts, to the machine's network."""
        set_network(f"/proc/{self.init}/ns/net")

    def close(self):
        # systemd ignores SIGTERM of a parent; with it every process of the namespace ends.
        self.outer.send_signal(signal.SIGKILL)
        self.outer.wait()
        self.log.close()


class MachineTest(unittest.TestCase):
    """Tests of a package in one machine, whose network has two backends. `package` is set by a subclass."""

    web = ("127.0.0.1", 8080)
    config = "/etc/moongate/moongate.yaml"

    @classmethod
    def setUpClass(cls):
        cls.package = cls.find_package()
        if reason := missing() or create_archive():
            raise unittest.SkipTest(reason)
        cls.folder = tempfile.mkdtemp(prefix="machine-", dir=PACKAGES)
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        root = Path(cls.folder, "root")
        root.mkdir()
        cls.machine = Machine(root)
        cls.addClassCleanup(cls.machine.close)
        cls.addClassCleanup(enter, open_network("/proc/self/ns/net"))
        cls.machine.enter_network()
        for port in (8081, 8082):
            cls.addClassCleanup(Backend(("127.0.0.1", port)).close)

    @staticmethod
    def find_package():
        return find_package("*.deb", "deb")

    def state(self):
        return self.machine.run("systemctl is-active moongate", check=False).stdout.strip()

    def is_enabled(self):
        return self.machine.run("systemctl is-enabled moongate", check=False).stdout.strip()

    def main_pid(self):
        return int(self.machine.output("systemctl show --property=MainPID --value moongate"))

    def edit(self, text):
        self.machine.path(self.config).write_text(text)

    def configured(self):
        return self.machine.path(self.config).read_text()

    def drop_in(self, text):
        """Settings of the unit, until the end of the test."""
        folder = "/etc/systemd/system/moongate.service.d"
        self.machine.run(f"mkdir -p {folder}")
        self.machine.path(f"{folder}/test.conf").write_text(text)
        self.machine.run("systemctl daemon-reload")
        self.addCleanup(self.machine.run, f"rm -r {folder}; systemctl daemon-reload")

    def try_open(self, *address):
        try:
            client = Client(*(address or (self.web, "/ws")))
        except (AssertionError, OSError, EOFError) as error:
            return str(error)
        client.close()
        return client.head

    def open_websockets(self):
        eventually("an endpoint is healthy", lambda: "101" in self.try_open())
        clients = [Client(self.web, "/ws") for _ in range(5)]
        for client in clients:
            self.addCleanup(client.close)
        return clients


def find_package(pattern, target):
    packages = sorted(PACKAGES.glob(pattern))
    if not packages:
        raise unittest.SkipTest(f"there is no package: make {target}")
    return packages[-1]


def open_network(path):
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def set_network(path):
    enter(open_network(path))


def enter(network):
    """Moves this thread to that network, and closes its descriptor."""
    try:
        if ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(network)
