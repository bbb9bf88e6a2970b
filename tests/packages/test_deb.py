"""The Debian package, in a clean Debian with systemd: installed, used, upgraded while WebSockets are open, purged."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
import urllib.request
from pathlib import Path

import machine
from machine import PACKAGES, ROOT, Machine, eventually
from websocket import Backend, Client

# What a purge must restore. The archive of the package is in /tmp, another file system.
FILES = "find / -xdev -name '*moongate*' -not -path '/var/lib/systemd/*'; getent passwd | sort"
WEB = ("127.0.0.1", 8080)
CONFIG = "/etc/moongate/moongate.yaml"


def repack(package, version, folder):
    """The same files as another version of the package."""
    tree = Path(folder, version)
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub("(?m)^Version: .*$", f"Version: {version}", control.read_text()))
    made = Path(folder, f"moongate_{version}.deb")
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", tree, made], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return made


class DebTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        packages = sorted(PACKAGES.glob("*.deb"))
        if not packages:
            raise unittest.SkipTest("there is no package: make deb")
        if reason := machine.missing() or machine.create_archive():
            raise unittest.SkipTest(reason)
        cls.package = packages[-1]

        cls.folder = tempfile.mkdtemp(prefix="machine-", dir=PACKAGES)
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        root = Path(cls.folder, "root")
        root.mkdir()
        cls.machine = Machine(root)
        cls.addClassCleanup(cls.machine.close)
        # The parent is in the network of the host.
        cls.addClassCleanup(machine.set_network, f"/proc/{os.getppid()}/ns/net")
        cls.machine.enter_network()
        for port in (8081, 8082):
            cls.addClassCleanup(Backend(("127.0.0.1", port)).close)
        cls.later = repack(cls.package, "99", cls.folder)

    def setUp(self):
        # Each test begins without the package.
        self.addCleanup(self.machine.run, "dpkg --purge moongate")

    def install(self, package=None):
        shutil.copy(package or self.package, self.machine.path("/tmp/moongate.deb"))
        return self.machine.output("dpkg --force-confold -i /tmp/moongate.deb")

    def install_next(self):
        """Installs the package as a later version."""
        return self.install(self.later)

    def main_pid(self):
        return int(self.machine.output("systemctl show --property=MainPID --value moongate"))

    def state(self):
        return self.machine.run("systemctl is-active moongate", check=False).stdout.strip()

    def edit(self, text):
        self.machine.path(CONFIG).write_text(text)

    def config(self):
        return self.machine.path(CONFIG).read_text()

    def open_websockets(self):
        eventually("an endpoint is healthy", lambda: "101" in self.try_open())
        clients = [Client(WEB, "/ws") for _ in range(5)]
        for client in clients:
            self.addCleanup(client.close)
        return clients

    def try_open(self):
        try:
            client = Client(WEB, "/ws")
        except (AssertionError, OSError, EOFError) as error:
            return str(error)
        client.close()
        return client.head

    def test_an_installation_serves_and_a_purge_leaves_nothing(self):
        run = self.machine.run
        before = self.machine.output(FILES)
        self.install()
        self.assertEqual(self.state(), "active")
        self.assertEqual(self.machine.output("systemctl is-enabled moongate"), "enabled")
        run("moongate check --live -c /etc/moongate/moongate.yaml")
        run("systemd-analyze verify moongate.service")
        self.assertEqual(self.machine.output(f"stat -c %U /proc/{self.main_pid()}"), "moongate")
        self.assertEqual(
            self.machine.output("dpkg-query -W -f '${Conffiles}' moongate | awk '{print $1}'").split(),
            ["/etc/moongate/moongate.yaml", "/etc/logrotate.d/moongate"],
        )
        for name in (
            "/usr/share/man/man1/moongate.1.gz",
            "/usr/share/bash-completion/completions/moongate",
            "/usr/share/zsh/vendor-completions/_moongate",
            "/usr/share/fish/vendor_completions.d/moongate.fish",
            "/usr/share/doc/moongate/copyright",
        ):
            self.assertGreater(self.machine.path(name).stat().st_size, 0, name)
        self.assertNotIn("/usr/local", self.machine.path("/usr/lib/systemd/system/moongate.service").read_text())
        run("dpkg --verify moongate")
        run("dpkg --remove moongate")
        self.assertEqual(self.state(), "inactive")
        self.assertTrue(self.machine.path(CONFIG).exists())
        run("dpkg --purge moongate")
        self.assertEqual(self.machine.output(FILES), before)
        for name in ("/var/lib/moongate", "/var/log/moongate", "/etc/moongate", "/run/moongate"):
            self.assertFalse(self.machine.path(name).exists(), name)

    def test_an_upgrade_of_the_package_keeps_websockets_and_the_edited_file(self):
        self.install()
        self.edit(self.config() + "# edited\n")
        sockets, old = self.open_websockets(), self.main_pid()
        said = self.install_next()
        self.assertIn("5 WebSockets moved", said)
        self.assertNotEqual(self.main_pid(), old)
        for number, client in enumerate(sockets):
            client.echo(f"after the upgrade {number}")
        self.assertEqual(self.state(), "active")
        self.assertEqual(self.machine.output("systemctl show --property=NRestarts --value moongate"), "0")
        self.assertTrue(self.config().endswith("# edited\n"))

    def test_an_upgrade_without_an_admin_address_moves_websockets_too(self):
        self.install()
        self.edit(re.sub("(?m)^admin:\n  address: .*\n", "", self.config()))
        self.machine.run("systemctl restart moongate")
        sockets, old = self.open_websockets(), self.main_pid()
        self.assertIn(f"asked process {old} to upgrade", self.install_next())
        eventually("the new process serves", lambda: self.main_pid() not in (0, old))
        for client in sockets:
            client.echo("after the upgrade")

    def test_a_file_that_the_new_version_rejects_leaves_the_old_process(self):
        self.install()
        good = self.config()
        sockets, old = self.open_websockets(), self.main_pid()
        self.edit(good.replace("upstream: site", "upstream: sit"))
        said = self.install_next()
        self.assertIn("did you mean `site`?", said)
        self.assertIn("the previous version still runs", said)
        self.assertEqual((self.state(), self.main_pid()), ("active", old))
        self.edit(good)
        self.machine.run("systemctl reload moongate")
        self.assertNotEqual(self.main_pid(), old)
        for client in sockets:
            client.echo("after the correction")

    def test_a_stopped_and_disabled_service_stays_so(self):
        self.install()
        self.machine.run("systemctl disable --now moongate")
        self.install_next()
        self.assertEqual(self.state(), "inactive")
        self.assertEqual(self.machine.run("systemctl is-enabled moongate", check=False).stdout.strip(), "disabled")

    def test_logs_are_rotated_and_filters_and_scripts_run_in_the_unit(self):
        self.install()
        shutil.copy(ROOT / "conf/plugins/tag.wasm", self.machine.path("/etc/moongate/tag.wasm"))
        log = "/var/log/moongate/access.log"
        self.edit(
            f"admin: {{ address: 127.0.0.1:9901 }}\naccess_log: {{ path: {log} }}\n"
            "listeners: [{ name: web, address: 127.0.0.1:8080 }]\n"
            "routes:\n  - upstream: [127.0.0.1:8081]\n    plugins:\n"
            "      - { kind: wasm, module: /etc/moongate/tag.wasm, config: blue }\n"
            "      - { kind: luau, source: \"function response_headers(req, res) res:set_header('x-luau', 'yes') end\" }\n"
        )
        self.machine.run("systemctl reload moongate")

        def fields():
            with urllib.request.urlopen("http://127.0.0.1:8080/", timeout=30) as response:
                return response.headers

        with_plugins = fields()
        self.assertEqual((with_plugins["x-tag"], with_plugins["x-luau"]), ("blue", "yes"))
        eventually("a line", lambda: self.machine.path(log).stat().st_size)
        self.machine.run("logrotate -f /etc/logrotate.d/moongate")
        self.assertTrue(self.machine.path(log + ".1").exists())
        eventually("a line in the new file", lambda: fields() and self.machine.path(log).exists() and self.machine.path(log).stat().st_size)


if __name__ == "__main__":
    unittest.main()
