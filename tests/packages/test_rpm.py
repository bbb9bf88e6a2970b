"""The rpm, installed by rpm in a machine whose services are disabled by default, as Fedora's are. Its scripts run as there;
its dependencies are not resolved, because the machine is a Debian."""

import shutil
import subprocess
import unittest
from pathlib import Path

from machine import ROOT, MachineTest, find_package

INSTALL = "rpm --force-debian --nodeps"


class RpmTest(MachineTest):
    @staticmethod
    def find_package():
        return find_package("*.rpm", "rpm")

    def later(self):
        """The same files as a later release."""
        if not shutil.which("cargo-generate-rpm"):
            self.skipTest("cargo-generate-rpm is missing")
        subprocess.run(
            ["cargo-generate-rpm", "generate-rpm", "--auto-req", "disabled", "--output", self.folder, "--set-metadata", 'release = "99"'],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        return next(Path(self.folder).glob("*.rpm"))

    def install(self, package, option):
        shutil.copy(package, self.machine.path("/tmp/moongate.rpm"))
        return self.machine.output(f"{INSTALL} {option} /tmp/moongate.rpm")

    def test_it_is_enabled_by_hand_upgrades_the_running_gateway_and_is_removed(self):
        run = self.machine.run
        self.machine.path("/etc/systemd/system-preset").mkdir(parents=True)
        self.machine.path("/etc/systemd/system-preset/00-default.preset").write_text("disable *\n")
        later = self.later()
        self.install(self.package, "-i")
        self.assertEqual((self.state(), self.is_enabled()), ("inactive", "disabled"))
        self.assertEqual(self.machine.output("getent passwd moongate | cut -d: -f6,7"), "/var/lib/moongate:/sbin/nologin")
        run("rpm --force-debian --verify --nodeps moongate")
        run("systemctl enable --now moongate")
        self.edit(self.configured() + "# edited\n")

        sockets, old = self.open_websockets(), self.main_pid()
        self.assertIn("5 WebSockets moved", self.install(later, "-U"))
        self.assertNotEqual(self.main_pid(), old)
        for client in sockets:
            client.echo("after the upgrade")
        self.assertTrue(self.configured().endswith("# edited\n"))
        self.assertEqual((self.state(), self.is_enabled()), ("active", "enabled"))

        run("rpm --force-debian -e moongate")
        self.assertEqual(self.state(), "inactive")
        self.assertFalse(self.machine.path("/usr/bin/moongate").exists())
        # The edited file and the user stay.
        self.assertIn("# edited", self.machine.path(self.config + ".rpmsave").read_text())
        run("getent passwd moongate")


if __name__ == "__main__":
    unittest.main()
