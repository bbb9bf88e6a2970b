"""The release: which C library its binary needs, the tarball, the bill of materials, checksums, and the rpm."""

import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path

from machine import PACKAGES, ROOT

# Debian 11 has glibc 2.31; Cargo.toml names the number as the dependency of the package.
OLDEST = (2, 31)
VERSION = re.search(r'(?m)^version = "(.*)"', (ROOT / "Cargo.toml").read_text())[1]


def only(pattern, target):
    found = sorted(PACKAGES.glob(pattern))
    if not found:
        raise unittest.SkipTest(f"there is no {pattern}: make {target}")
    return found[-1]


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class ReleaseTest(unittest.TestCase):
    def test_the_binary_needs_no_later_glibc_than_that_of_debian_11_and_no_other_library(self):
        binary = ROOT / "target/packages/root/usr/bin/moongate"
        if not binary.exists():
            self.skipTest("there is no staged binary: make deb")
        versions = re.findall(r"GLIBC_([0-9.]+)", output("objdump", "-T", binary))
        newest = max(tuple(map(int, version.split("."))) for version in versions)
        self.assertLessEqual(newest, OLDEST)
        # The rpm names the symbols that it needs.
        self.assertIn(f"(GLIBC_{'.'.join(map(str, newest))})", (ROOT / "Cargo.toml").read_text())
        needed = set(re.findall(r"NEEDED +(\S+)", output("objdump", "-p", binary)))
        parts_of_glibc = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"}
        loader = {name for name in needed if name.startswith("ld-linux")}
        self.assertEqual(needed - parts_of_glibc - loader, set())

    def test_the_binary_runs_with_the_libraries_of_debian_11(self):
        binary = ROOT / "target/packages/root/usr/bin/moongate"
        if not binary.exists():
            self.skipTest("there is no staged binary: make deb")
        if not shutil.which("mmdebstrap"):
            self.skipTest("mmdebstrap is missing")
        root = PACKAGES / "debian-11"
        if not root.exists():
            made = subprocess.run(
                ["mmdebstrap", "--quiet", "--variant=extract", "--include=libc6", "bullseye", root], capture_output=True, text=True, check=False
            )
            if made.returncode:
                shutil.rmtree(root, ignore_errors=True)
                self.skipTest(f"mmdebstrap failed: {made.stderr.strip()[-300:]}")
        (root / "usr/bin").mkdir(parents=True, exist_ok=True)
        shutil.copy(binary, root / "usr/bin/moongate")
        shutil.copy(ROOT / "conf/moongate.yaml", root / "moongate.yaml")
        self.assertEqual(output("chroot", root, "/usr/bin/moongate", "--version").strip(), f"moongate {VERSION}")
        self.assertIn("valid", output("chroot", root, "/usr/bin/moongate", "check", "-c", "/moongate.yaml"))

    def test_the_tarball_has_what_a_machine_needs(self):
        name = only("*.tar.gz", "tarball")
        with tarfile.open(name) as archive:
            names = archive.getnames()
            folder = name.name.removesuffix(".tar.gz")
            for path in (
                "bin/moongate",
                "conf/moongate.yaml",
                "systemd/moongate.service",
                "systemd/moongate.logrotate",
                "share/man/man1/moongate.1.gz",
                "share/bash-completion/completions/moongate",
                "LICENSE",
                "README.md",
                "CHANGELOG.md",
            ):
                self.assertIn(f"{folder}/{path}", names)
            unit = archive.extractfile(f"{folder}/systemd/moongate.service").read().decode()
            self.assertIn("ExecStart=/usr/local/bin/moongate ", unit)
            self.assertIn("DynamicUser=yes", unit)
            self.assertEqual({member.uname or member.uid for member in archive}, {0})
        self.assertIn(f"moongate-{VERSION}-", name.name)

    def test_the_bill_of_materials_names_every_crate_and_no_path_of_the_build(self):
        text = only("*.cdx.json", "tarball").read_text()
        bill = json.loads(text)
        self.assertEqual(bill["metadata"]["component"]["version"], VERSION)
        names = {component["name"] for component in bill["components"]}
        self.assertLessEqual({"pingora-proxy", "rustls", "wasmtime", "ring"}, names)
        self.assertNotIn("proptest", names)
        self.assertNotIn(str(ROOT), text)

    def test_checksums_are_those_of_the_files(self):
        sums = only("SHA256SUMS", "dist")
        subprocess.run(["sha256sum", "--quiet", "--strict", "-c", sums.name], cwd=PACKAGES, check=True)
        kinds = {line.split(".", 3)[-1] for line in sums.read_text().splitlines()}
        for ending in (".deb", ".rpm", ".tar", ".tar.gz", ".cdx.json", ".md"):
            self.assertTrue(any(ending in f".{kind}" for kind in kinds), f"{ending}: {kinds}")

    def test_the_section_of_the_changelog_ends_before_the_next(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, mode in (("packaging", 0o755),):
                Path(folder, name).mkdir(mode)
            script = Path(folder, "packaging/changelog-section")
            shutil.copy(ROOT / "packaging/changelog-section", script)
            Path(folder, "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\nnew\n\n## [1.0.0] - 2026-01-01\n\nfirst\n\n## [0.9.0]\n\nold\n")
            cut = {version: output(script, version).split() for version in ("1.0.0", "0.9.0", "2.0.0")}
        self.assertEqual(cut, {"1.0.0": ["first"], "0.9.0": ["old"], "2.0.0": ["new"]})

    def test_the_rpm_has_the_files_of_the_debian_package(self):
        rpm = only("*.rpm", "rpm")
        if not shutil.which("rpm"):
            self.skipTest("rpm is missing")
        files = set(output("rpm", "-qpl", rpm).split())
        configuration = set(output("rpm", "-qpc", rpm).split())
        deb = {
            line.split(maxsplit=5)[5].removeprefix(".")
            for line in output("dpkg-deb", "-c", only("*.deb", "deb")).splitlines()
            if not line.startswith("d")
        }
        moved = {
            "/usr/share/zsh/vendor-completions/_moongate": "/usr/share/zsh/site-functions/_moongate",
            "/usr/share/doc/moongate/copyright": "/usr/share/licenses/moongate/LICENSE",
        }
        self.assertEqual(files, {moved.get(name, name) for name in deb})
        self.assertEqual(configuration, {"/etc/moongate/moongate.yaml", "/etc/logrotate.d/moongate"})
        self.assertEqual(output("rpm", "-qp", "--queryformat", "%{VERSION}", rpm), VERSION)
        for script in ("pre", "post", "preun", "postun"):
            subprocess.run(["sh", "-n", ROOT / "packaging/rpm" / script], check=True)


if __name__ == "__main__":
    unittest.main()
