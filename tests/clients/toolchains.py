"""Installs the libraries below target/clients, and runs their programs. A library that cannot be installed is skipped."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "target/clients"


class Missing(Exception):
    """Why a library cannot be installed."""


def run(command, log, **options):
    """Runs the command with its output in a log file. Raises Missing if it fails."""
    path = WORK / f"install-{log}.log"
    with path.open("w") as output:
        try:
            done = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False, **options
            )
        except OSError as error:
            raise Missing(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise Missing(f"`{Path(command[0]).name}` failed, see {path.relative_to(ROOT)}")


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def debian(packages, log):
    """Installs Debian's packages, unless they are there."""
    if not shutil.which("dpkg-query"):
        return
    installed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages], capture_output=True, text=True, check=False
    ).stdout
    absent = [name for name in packages if f"{name} installed" not in installed]
    if not absent:
        return
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    command = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends", *absent]
    print("==> installing", *absent, flush=True)
    try:
        run(command, log)
    except Missing:
        run([*prefix, "apt-get", "update"], log)
        run(command, log)


def tool(name, *packages):
    """The path of a program, which Debian's packages have."""
    if not shutil.which(name) and packages:
        debian(packages, name)
    path = shutil.which(name)
    if not path:
        raise Missing(f"{name} is missing")
    return path


class Toolchain:
    """The libraries of a language."""

    def __init__(self):
        self.prepared = None

    def prepare(self):
        """Installs all at once, the first time."""
        if self.prepared is None:
            try:
                self.install()
                self.prepared = ""
            except Missing as missing:
                self.prepared = str(missing)
        if self.prepared:
            raise Missing(self.prepared)

    def install(self):
        raise NotImplementedError

    def program(self, library):
        """The command of a library's program."""
        raise NotImplementedError

    def version(self, library):
        raise NotImplementedError


class Python(Toolchain):
    """Each library has an environment of its own: urllib3.future takes the place of urllib3."""

    def environment(self, library):
        folder = WORK / "python" / (library.package or "standard")
        requirements = HERE / f"python/requirements/{library.package}.txt"
        wanted = requirements.read_text() if library.package else ""
        stamp = folder / "installed"
        if not stamp.exists() or stamp.read_text() != wanted:
            print(f"==> installing {library.name} for Python", flush=True)
            log = f"python-{folder.name}"
            run([tool("python3"), "-m", "venv", folder], log)
            if library.package:
                run([folder / "bin/python3", "-m", "pip", "install", "--quiet", "-r", requirements], log)
            stamp.write_text(wanted)
        return folder / "bin/python3"

    def install(self):
        (WORK / "python").mkdir(exist_ok=True)

    def program(self, library):
        return [self.environment(library), "-B", HERE / f"python/{library.program}.py"]

    def version(self, library):
        python = self.environment(library)
        if not library.package:
            return output(python, "--version").split()[1]
        return output(python, "-c", f"import importlib.metadata as m; print(m.version({library.package!r}))")


class Node(Toolchain):
    def install(self):
        self.node = tool("node", "nodejs")
        npm = tool("npm", "npm")
        if int(output(self.node, "--version").lstrip("v").split(".")[0]) < 20:
            raise Missing("Node.js 20 or later is needed")
        folder = WORK / "node"
        folder.mkdir(exist_ok=True)
        for program in (HERE / "node").iterdir():
            shutil.copy(program, folder)
        lock = (HERE / "node/package-lock.json").read_text()
        stamp = folder / "node_modules/installed"
        if not stamp.exists() or stamp.read_text() != lock:
            print("==> installing the packages of Node", flush=True)
            run([npm, "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], "node", cwd=folder)
            stamp.write_text(lock)

    def program(self, library):
        return [self.node, WORK / f"node/{library.program}.mjs"]

    def version(self, library):
        if not library.package:
            return output(self.node, "--version").lstrip("v")
        return json.loads((WORK / f"node/node_modules/{library.package}/package.json").read_text())["version"]


class Go(Toolchain):
    def install(self):
        os.environ["PATH"] += ":/usr/local/go/bin"
        self.go = tool("go", "golang-go")
        (WORK / "go").mkdir(exist_ok=True)
        print("==> building the programs of Go", flush=True)
        run([self.go, "build", "-o", WORK / "go/", "./..."], "go", cwd=HERE / "go")

    def program(self, library):
        return [WORK / f"go/{library.program}"]

    def version(self, library):
        if not library.package:
            return output(self.go, "env", "GOVERSION").removeprefix("go")
        return re.search(rf"^\s*(?:require )?{library.package} v(\S+)", (HERE / "go/go.mod").read_text(), re.MULTILINE)[1]


class Java(Toolchain):
    def install(self):
        self.java = tool("java", "default-jdk-headless")
        tool("javac", "default-jdk-headless")
        maven = tool("mvn", "maven")
        print("==> building the programs of Java", flush=True)
        command = [maven, "-q", "-B", "-f", HERE / "java/pom.xml", f"-DbuildDirectory={WORK / 'java'}", "package"]
        run(command, "java")

    def program(self, library):
        options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
        return [self.java, *options, "-cp", f"{WORK / 'java/classes'}:{WORK / 'java/dependency'}/*", library.program]

    def version(self, library):
        if not library.package:
            return output(self.java, "--version").split()[1]
        group, artifact = library.package.split(":")
        space = {"": "http://maven.apache.org/POM/4.0.0"}
        for dependency in ElementTree.parse(HERE / "java/pom.xml").iterfind(".//dependency", space):
            if (dependency.findtext("groupId", "", space), dependency.findtext("artifactId", "", space)) == (group, artifact):
                return dependency.findtext("version", "", space)
        raise KeyError(library.package)


class Rust(Toolchain):
    def install(self):
        print("==> building the programs of Rust", flush=True)
        manifest = HERE / "rust/Cargo.toml"
        run(
            [tool("cargo"), "build", "--quiet", "--locked", "--manifest-path", manifest, "--target-dir", WORK / "rust"],
            "rust",
        )

    def program(self, library):
        return [WORK / f"rust/debug/{library.program}"]

    def version(self, library):
        lock = (HERE / "rust/Cargo.lock").read_text()
        return re.search(rf'name = "{library.package}"\nversion = "([^"]+)"', lock)[1]


class Native(Toolchain):
    """C and C++: each program is compiled, and may be missing, alone."""

    def __init__(self, folder, suffix, *compiler):
        super().__init__()
        self.folder, self.suffix, self.compiler = folder, suffix, compiler

    def install(self):
        (WORK / self.folder).mkdir(exist_ok=True)

    def program(self, library):
        debian(library.debian, library.program)
        script = HERE / f"{self.folder}/{library.program}.py"
        if script.exists():
            return [tool("python3"), "-B", script]
        source = HERE / f"{self.folder}/{library.program}.{self.suffix}"
        binary = WORK / f"{self.folder}/{library.program}"
        newest = max(path.stat().st_mtime for path in source.parent.iterdir())
        if not binary.exists() or binary.stat().st_mtime < newest:
            print(f"==> compiling {source.name}", flush=True)
            command, *options = self.compiler
            run([tool(command, command), *options, "-o", binary, source, *library.options], library.program)
        return [binary]

    def version(self, library):
        if not shutil.which("dpkg-query"):
            return "of the system"
        # Without epoch and revision of Debian.
        found = output("dpkg-query", "-W", "-f", "${Version}", library.package)
        return re.sub(r"^\d+:|[-+].*$", "", found)


TOOLCHAINS = {
    "Python": Python(),
    "Node": Node(),
    "Go": Go(),
    "Java": Java(),
    "Rust": Rust(),
    "C": Native("c", "c", "gcc", "-O1", "-Wall"),
    "C++": Native("cpp", "cpp", "g++", "-O1", "-std=c++17", "-w"),
}


def command(library):
    """The command of a library's program, which is installed or built first."""
    toolchain = TOOLCHAINS[library.language]
    toolchain.prepare()
    return [str(part) for part in toolchain.program(library)]


def version(library):
    return TOOLCHAINS[library.language].version(library)
