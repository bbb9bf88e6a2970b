"""The Debian package, in a clean Debian with systemd: installed, used, upgraded while WebSockets are open, purged."""

import json
import re
import shutil
import socket
import stat
import subprocess
import time
import unittest
import urllib.request
from pathlib import Path

from machine import ROOT, MachineTest, eventually
from websocket import Client

# What a purge must restore. The archive of the package is in /tmp, another file system.
FILES = "find / -xdev -name '*moongate*' -not -path '/var/lib/systemd/*'; getent passwd | sort"


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


class DebTest(MachineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
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

    def test_an_installation_serves_and_a_purge_leaves_nothing(self):
        run = self.machine.run
        before = self.machine.output(FILES)
        self.install()
        self.assertEqual(self.state(), "active")
        self.assertEqual(self.is_enabled(), "enabled")
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
        self.assertTrue(self.machine.path(self.config).exists())
        run("dpkg --purge moongate")
        self.assertEqual(self.machine.output(FILES), before)
        for name in ("/var/lib/moongate", "/var/log/moongate", "/etc/moongate", "/run/moongate"):
            self.assertFalse(self.machine.path(name).exists(), name)

    def test_an_upgrade_of_the_package_keeps_websockets_and_the_edited_file(self):
        self.install()
        self.edit(self.configured() + "# edited\n")
        sockets, old = self.open_websockets(), self.main_pid()
        said = self.install_next()
        self.assertIn("5 WebSockets moved", said)
        self.assertNotEqual(self.main_pid(), old)
        for number, client in enumerate(sockets):
            client.echo(f"after the upgrade {number}")
        self.assertEqual(self.state(), "active")
        self.assertEqual(self.machine.output("systemctl show --property=NRestarts --value moongate"), "0")
        self.assertTrue(self.configured().endswith("# edited\n"))

    def test_an_upgrade_without_an_admin_address_moves_websockets_too(self):
        self.install()
        self.edit(re.sub("(?m)^admin:\n  address: .*\n", "", self.configured()))
        self.machine.run("systemctl restart moongate")
        sockets, old = self.open_websockets(), self.main_pid()
        self.assertIn(f"sent SIGUSR2 to process {old}", self.install_next())
        eventually("the new process serves", lambda: self.main_pid() not in (0, old))
        for client in sockets:
            client.echo("after the upgrade")

    def test_a_file_that_the_new_version_rejects_leaves_the_old_process(self):
        self.install()
        good = self.configured()
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

    def test_an_upgrade_of_the_package_has_the_environment_of_the_unit(self):
        self.install()
        self.machine.path("/etc/moongate/environment").write_text("MOONGATE_ADMIN_TOKEN=of-the-unit\n")
        self.addCleanup(self.machine.run, "rm /etc/moongate/environment")
        # The process has another file than ExecReload=, in the long form of the option.
        self.addCleanup(self.machine.run, "rm /etc/moongate/other.yaml")
        with_token = self.configured().replace("admin:\n", 'admin:\n  token: "${MOONGATE_ADMIN_TOKEN}"\n')
        for name in (self.config, "/etc/moongate/other.yaml"):
            self.machine.path(name).write_text(with_token)
        self.drop_in(
            "[Service]\nEnvironmentFile=/etc/moongate/environment\nExecStart=\n"
            "ExecStart=/usr/bin/moongate run --config /etc/moongate/other.yaml\n"
        )
        self.machine.run("systemctl restart moongate")
        sockets, old = self.open_websockets(), self.main_pid()
        self.assertIn("5 WebSockets moved", self.install_next())
        self.assertNotEqual(self.main_pid(), old)
        for client in sockets:
            client.echo("after the upgrade")

    def test_an_upgrade_of_the_package_needs_no_command_of_the_unit(self):
        self.install()
        self.drop_in("[Service]\nExecReload=\nExecReload=/bin/kill -HUP $MAINPID\n")
        sockets, old = self.open_websockets(), self.main_pid()
        self.assertIn(f"sent SIGUSR2 to process {old}", self.install_next())
        eventually("the new process serves", lambda: self.main_pid() not in (0, old))
        for client in sockets:
            client.echo("after the upgrade")

    def test_an_installation_after_a_removal_starts_the_service(self):
        self.install()
        self.machine.run("dpkg --remove moongate")
        self.assertEqual(self.state(), "inactive")
        self.install()
        self.assertEqual((self.state(), self.is_enabled()), ("active", "enabled"))
        self.machine.run("systemctl disable --now moongate; dpkg --remove moongate")
        self.install()
        self.assertEqual((self.state(), self.is_enabled()), ("inactive", "disabled"))

    def test_a_unix_listener_has_its_owner_group_and_mode_in_the_unit(self):
        self.install()
        listener = "{ name: inside, address: 'unix:/run/moongate/inside.sock', OWNER group: moongate, mode: 0660 }"
        text = "admin: { address: 127.0.0.1:9901 }\nlisteners: [LISTENER]\nroutes: [{ upstream: [127.0.0.1:8081] }]\n"

        def with_owner(owner):
            self.edit(text.replace("LISTENER", listener.replace("OWNER", owner)))

        with_owner("owner: moongate,")
        self.machine.run("systemctl restart moongate")
        file = self.machine.path("/run/moongate/inside.sock")
        self.assertEqual(stat.filemode(file.lstat().st_mode), "srw-rw----")
        self.assertEqual(self.machine.output("stat -c %U:%G /run/moongate/inside.sock"), "moongate:moongate")
        # Without CAP_CHOWN no other owner is possible: the reload is rejected, and the process continues.
        old = self.main_pid()
        with_owner("owner: root,")
        rejected = self.machine.run("systemctl reload moongate", check=False)
        self.assertNotEqual(rejected.returncode, 0)
        self.assertEqual((self.state(), self.main_pid()), ("active", old))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(file))
            client.sendall(b"GET / HTTP/1.1\r\nHost: inside\r\nConnection: close\r\n\r\n")
            self.assertTrue(client.recv(64).startswith(b"HTTP/1.1 200 "))

    def test_a_restart_and_a_crash_refuse_no_connect(self):
        self.install()

        def status():
            with urllib.request.urlopen("http://127.0.0.1:8080/", timeout=30) as response:
                return response.status

        for command in ("systemctl restart --no-block moongate", "systemctl kill --signal=KILL moongate"):
            old = self.main_pid()
            self.machine.run(command)
            # A refused connect is an exception.
            eventually("a new process serves", lambda: status() == 200 and self.main_pid() not in (0, old))

    def test_another_process_serves_while_a_restart_drains_the_old_one(self):
        self.install()
        clients = self.open_websockets()
        old = self.main_pid()
        # The old process cannot end before this request.
        upload = socket.create_connection(self.web)
        self.addCleanup(upload.close)
        upload.settimeout(60)
        upload.sendall(b"POST /held HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\na")
        eventually("the request is in flight", lambda: self.requests_in_flight() == 1)
        self.machine.run("systemctl restart --no-block moongate")
        eventually("another process serves", lambda: len(self.gateways()) == 2)
        eventually("the old process is to stop", lambda: "stop-sigterm" in self.machine.output("systemctl show --property=SubState moongate"))
        for client in clients:
            client.echo("moved")
        with urllib.request.urlopen("http://127.0.0.1:8080/", timeout=30) as response:
            self.assertEqual(response.status, 200)
        self.assertEqual(self.main_pid(), old)
        upload.sendall(b"b")
        self.assertTrue(upload.recv(64).startswith(b"HTTP/1.1 200 "))
        eventually("the next process serves", lambda: self.state() == "active" and self.main_pid() not in (0, old))
        for client in clients:
            self.assertEqual(client.close_code(), 1012)
        eventually("it serves alone", lambda: self.gateways() == [self.main_pid()])
        self.open_websockets()

    def test_a_stop_starts_no_other_process(self):
        self.install()
        clients = self.open_websockets()
        mark = self.machine.output("journalctl -u moongate | wc -l")
        self.machine.run("systemctl stop moongate")
        for client in clients:
            self.assertEqual(client.close_code(), 1012)
        self.assertEqual(self.gateways(), [])
        journal = self.machine.output(f"journalctl -u moongate --output=cat | tail -n +{mark}")
        self.assertNotIn("upgrade started", journal)
        self.assertNotIn("new process", journal)

    def gateways(self):
        """The processes of the service."""
        listed = self.machine.run("cat /sys/fs/cgroup/system.slice/moongate.service/cgroup.procs", check=False).stdout
        names = ((pid, self.machine.run(f"cat /proc/{pid}/comm", check=False).stdout.strip()) for pid in listed.split() if pid.isdigit())
        return [int(pid) for pid, name in names if name == "moongate"]

    def requests_in_flight(self):
        return json.loads(self.machine.output("moongate status --json -c /etc/moongate/moongate.yaml"))["requests"]

    def test_a_stopped_and_disabled_service_stays_so(self):
        self.install()
        self.machine.run("systemctl disable --now moongate")
        self.install_next()
        self.assertEqual(self.state(), "inactive")
        self.assertEqual(self.is_enabled(), "disabled")

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

    def test_an_nginx_configuration_becomes_a_running_service(self):
        start = time.monotonic()
        self.install()
        self.addCleanup(self.machine.run, "rm -r /etc/nginx")
        self.machine.run("mkdir -p /etc/nginx/conf.d /etc/nginx/modules-enabled /etc/nginx/sites-available /etc/nginx/sites-enabled")
        nginx = self.machine.path("/etc/nginx")
        for name in ("nginx.conf", "mime.types"):
            shutil.copy(ROOT / "tests/packages/nginx" / name, nginx / name)
        shutil.copy(ROOT / "crates/import/fixtures/howto.conf", nginx / "sites-available/ws")
        (nginx / "sites-enabled/ws").symlink_to("/etc/nginx/sites-available/ws")

        command = f"moongate import nginx /etc/nginx/nginx.conf -o {self.config}"
        kept = self.machine.run(command, check=False)
        self.assertEqual(kept.returncode, 1, kept.stdout)
        imported = self.machine.run(f"{command} --force", check=False)
        self.assertIn(imported.returncode, (0, 3), imported.stdout)
        self.machine.run(f"moongate check -c {self.config}")
        self.machine.run("systemctl restart moongate")
        site = (("127.0.0.1", 80), "/acts_competition/3", "ws.52itstyle.com")
        eventually("an endpoint is healthy", lambda: "101" in self.try_open(*site))
        client = Client(*site)
        self.addCleanup(client.close)
        client.echo("behind the imported configuration")
        seconds = time.monotonic() - start
        print(f"{seconds:.1f} s from the package and nginx.conf to the first message", end=" ", flush=True)

        # What the service needs beyond nginx's file.
        self.machine.run("systemctl reload moongate")
        self.machine.run(f"moongate check --live -c {self.config}")
        log = self.machine.path("/var/log/moongate/access.log")
        eventually("a line", lambda: log.exists() and "/acts_competition/3" in log.read_text())
        client.echo("after a reload")


if __name__ == "__main__":
    unittest.main()
