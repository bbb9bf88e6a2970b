"""The container image: unpacked by umoci, and run from its own files alone, read-only and unprivileged, as PID 1."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
import urllib.request
from pathlib import Path

import machine
from machine import PACKAGES, ROOT, eventually
from websocket import Backend, Client

# What a container runtime does: the files of the image, read-only; /proc; no capability and no new privilege. The bounding
# set keeps what chroot needs, and the change of the user clears the other sets.
RUN = """set -e
mount --make-rprivate /
ip link set lo up 2>/dev/null || true
root=$1 user=$2
shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
cd "$root"
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid --inh-caps=-all chroot --userspec="$user" . "$@"
"""

PATHS = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class ImageTest(unittest.TestCase):
    def setUp(self):
        archives = sorted(PACKAGES.glob("moongate-*-image.tar"))
        if not archives:
            self.skipTest("there is no image: make image")
        missing = [tool for tool in ("umoci", "unshare", "setpriv", "ip") if not shutil.which(tool)]
        if missing:
            self.skipTest(f"{missing[0]} is missing")
        if reason := machine.missing_namespaces():
            self.skipTest(reason)
        folder = Path(tempfile.mkdtemp(prefix="image-", dir=PACKAGES))
        self.addCleanup(shutil.rmtree, folder)
        (folder / "oci").mkdir()
        subprocess.run(["tar", "-xf", archives[-1], "-C", folder / "oci"], check=True)
        index = json.loads((folder / "oci/index.json").read_text())
        self.version = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
        subprocess.run(["umoci", "unpack", "--image", f"{folder}/oci:{self.version}", folder / "bundle"], check=True, capture_output=True)
        self.folder = folder
        self.root = folder / "bundle/rootfs"
        self.process = json.loads((folder / "bundle/config.json").read_text())["process"]

    def blob(self, descriptor):
        return json.loads((self.folder / "oci/blobs/sha256" / descriptor["digest"].split(":")[1]).read_text())

    def test_its_settings_are_those_of_the_dockerfile(self):
        index = json.loads((self.folder / "oci/index.json").read_text())
        config = self.blob(self.blob(index["manifests"][0])["config"])["config"]
        dockerfile = (ROOT / "packaging/image/Dockerfile").read_text()
        self.assertIn(f"\nUSER {config['User']}\n", dockerfile)
        self.assertIn(f"\nSTOPSIGNAL {config['StopSignal']}\n", dockerfile)
        self.assertIn(f"\nENTRYPOINT {json.dumps(config['Entrypoint'])}\n", dockerfile)
        self.assertIn(f"\nCMD {json.dumps(config['Cmd'])}\n", dockerfile)
        self.assertEqual(config["ExposedPorts"], {"8080/tcp": {}})
        self.assertEqual(config["Labels"]["org.opencontainers.image.version"], self.version)

    def test_it_has_one_program_and_nothing_that_anybody_can_write(self):
        programs = [path.name for folder in ("bin", "sbin", "usr/bin", "usr/sbin") for path in (self.root / folder).glob("*")]
        self.assertEqual(programs, ["moongate"])
        writable = [path for path in self.root.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022 and path.name != "tmp"]
        self.assertEqual(writable, [])

    def test_it_serves_read_only_and_unprivileged_until_its_stop_signal(self):
        user = self.process["user"]
        self.assertEqual((user["uid"], user["gid"]), (65532, 65532))
        flags = ["--mount", "--net", "--pid", "--ipc", "--uts"]
        outer = subprocess.Popen(
            ["unshare", *flags, "--fork", "--kill-child", "sh", "-c", RUN, "run", self.root, "65532:65532", *self.process["args"]],
            stdin=subprocess.DEVNULL,
            env=PATHS,
        )
        self.addCleanup(outer.kill)
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        init = int(eventually("the first process", lambda: children.read_text().split()[:1] or None)[0])
        eventually("the gateway", lambda: Path(f"/proc/{init}/comm").read_text() == "moongate\n")

        def check():
            health = ["/usr/bin/moongate", "check", "--live", "-c", "/etc/moongate/moongate.yaml"]
            enter = ["nsenter", "--target", str(init), *flags, "--root", "--wd"]
            return subprocess.run([*enter, *health], capture_output=True, text=True, check=False, env=PATHS)

        eventually("it is ready", lambda: check().returncode == 0)
        status = Path(f"/proc/{init}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        self.assertEqual(fields["Uid"].split(), ["65532"] * 4)
        self.assertEqual([int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")], [0, 0, 0])
        self.assertEqual(fields["NoNewPrivs"].strip(), "1")
        self.addCleanup(machine.enter, machine.open_network("/proc/self/ns/net"))
        machine.set_network(f"/proc/{init}/ns/net")
        backend = Backend(("127.0.0.1", 8081))
        self.addCleanup(backend.close)
        with urllib.request.urlopen("http://127.0.0.1:8080/", timeout=30) as response:
            self.assertEqual(response.read(), b"ok")
        client = Client(("127.0.0.1", 8080), "/")
        client.echo("in a container")
        client.close()
        os.kill(init, signal.SIGTERM)
        self.assertEqual(outer.wait(timeout=60), 0)


if __name__ == "__main__":
    unittest.main()
