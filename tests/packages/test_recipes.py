"""The recipes of examples/ that need a machine: their files, and the commands of their READMEs, as root with the package."""

import re
import shutil
import unittest

from machine import ROOT, MachineTest


def commands(readme):
    """The commands of the console blocks, each with the output below it. As in tests/docs/page.rs."""
    for block in re.findall(r"(?ms)^```console\n(.*?)^```$", readme):
        for part in re.split(r"(?m)^\$ ", block)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def shows(expected, actual):
    """Whether the output is the expected one; `…` stands for anything."""
    pattern = ".*".join(map(re.escape, expected.strip().split("…")))
    return re.fullmatch(pattern, actual.strip(), re.DOTALL)


class RecipesTest(MachineTest):
    def run_commands(self, name):
        shutil.copy(self.package, self.machine.path("/tmp/moongate.deb"))
        self.machine.run("dpkg -i /tmp/moongate.deb")
        self.addCleanup(self.machine.run, "dpkg --purge moongate; rm -rf /examples /etc/moongate /etc/systemd/system/moongate.service.d")
        shutil.copytree(ROOT / "examples" / name, self.machine.path("/examples") / name)
        found = list(commands((ROOT / "examples" / name / "README.md").read_text()))
        self.assertGreater(len(found), 5)
        for command, output in found:
            printed = self.machine.output(f"cd / && {command}")
            self.assertTrue(not output or shows(output, printed), f"{command}:\n{printed}\ninstead of\n{output}")

    def test_the_service_of_systemd(self):
        self.run_commands("systemd")


if __name__ == "__main__":
    unittest.main()
