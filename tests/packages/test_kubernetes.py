"""The manifests of kubernetes/: each matches the schema of Kubernetes, and their times and versions fit together."""

import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from machine import ROOT

try:
    import kubernetes_validate
    import yaml
except ImportError:
    kubernetes_validate = None

# A setting that this version does not have is an error.
VERSION = "1.37"
BINARIES = ["target/portable/*/release/moongate", "target/release/moongate", "target/debug/moongate"]


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


@unittest.skipUnless(kubernetes_validate, "kubernetes-validate is missing")
class KubernetesTest(unittest.TestCase):
    def setUp(self):
        self.objects = {}
        for file in sorted(ROOT.glob("kubernetes/*.yaml")):
            for document in yaml.safe_load_all(file.read_text()):
                self.objects[document["kind"], document["metadata"]["name"]] = document

    def test_every_object_matches_the_schema(self):
        self.assertEqual(len(self.objects), 9)
        for name, document in self.objects.items():
            with self.subTest(name):
                kubernetes_validate.validate(document, VERSION, strict=True)

    def test_the_schema_rejects_a_wrong_name(self):
        document = self.objects["Deployment", "moongate"]
        document["spec"]["replica"] = 2
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(document, VERSION, strict=True)

    def config(self):
        return self.objects["ConfigMap", "moongate"]["data"]["moongate.yaml"]

    def test_the_configuration_checks(self):
        binaries = [path for pattern in BINARIES for path in ROOT.glob(pattern)]
        if not binaries:
            self.skipTest("there is no binary")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "moongate.yaml")
            file.write_text(self.config())
            check = subprocess.run(
                [binaries[0], "check", "-c", file], capture_output=True, text=True, check=False, env={"MOONGATE_ADMIN_TOKEN": "secret"}
            )
        self.assertEqual(check.returncode, 0, check.stderr)

    def test_the_pod_waits_for_its_drain(self):
        pod = self.objects["Deployment", "moongate"]["spec"]["template"]["spec"]
        server = yaml.safe_load(self.config())["server"]
        sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = sleep + seconds(server["drain_delay"]) + seconds(server["grace_period"])
        self.assertGreaterEqual(pod["terminationGracePeriodSeconds"], drain + 5)
        for route in yaml.safe_load(self.config())["routes"]:
            self.assertLess(seconds(route["websocket"]["drain_window"]), seconds(server["grace_period"]))

    def test_names_lead_to_the_backends_and_the_version_is_that_of_the_sources(self):
        service = self.objects["Service", "chat"]
        endpoint = yaml.safe_load(self.config())["upstreams"]["chat"]["endpoints"][0]
        self.assertEqual(endpoint, f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}")
        self.assertEqual(service["spec"]["clusterIP"], "None")
        self.assertEqual(self.objects["StatefulSet", "chat"]["spec"]["serviceName"], service["metadata"]["name"])
        version = re.search(r'(?m)^version = "(.*)"', (ROOT / "Cargo.toml").read_text())[1]
        image = self.objects["Deployment", "moongate"]["spec"]["template"]["spec"]["containers"][0]["image"]
        self.assertEqual(image.rsplit(":", 1)[1], version)
        metric = self.objects["HorizontalPodAutoscaler", "moongate"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
        self.assertIn(f"| `{metric}` |", (ROOT / "docs/reference/metrics.md").read_text())

    def blocks(self):
        """The YAML blocks of the README, by their first key."""
        readme = (ROOT / "kubernetes/README.md").read_text()
        parsed = [yaml.safe_load(text) for text in re.findall(r"(?ms)^```text\n(\w+:.*?)^```$", readme)]
        return {key: block[key] for block in parsed for key in block}

    def test_the_scrape_job_selects_the_admin_port_with_the_token_and_the_labels_of_the_adapter(self):
        job = self.blocks()["scrape_configs"][0]
        pod = self.objects["Deployment", "moongate"]["spec"]["template"]
        # Prometheus would scrape by annotations without the token, and get 401.
        self.assertNotIn("annotations", pod["metadata"])
        kept = {rule["source_labels"][0]: rule["regex"] for rule in job["relabel_configs"] if rule.get("action") == "keep"}
        self.assertEqual(kept["__meta_kubernetes_pod_label_app_kubernetes_io_name"], pod["metadata"]["labels"]["app.kubernetes.io/name"])
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        admin = yaml.safe_load(self.config())["admin"]["address"]
        self.assertEqual(ports[kept["__meta_kubernetes_pod_container_port_name"]], int(admin.rsplit(":", 1)[1]))
        key = Path(job["authorization"]["credentials_file"]).name
        self.assertIn(key, self.objects["Secret", "moongate"]["stringData"])
        rule = self.blocks()["rules"][0]
        metric = self.objects["HorizontalPodAutoscaler", "moongate"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
        self.assertTrue(rule["seriesQuery"].startswith(metric + "{"))
        labels = {rule["target_label"] for rule in job["relabel_configs"] if "target_label" in rule}
        self.assertEqual(labels, set(rule["resources"]["overrides"]))

    @unittest.skipUnless(shutil.which("promtool"), "promtool is missing")
    def test_prometheus_accepts_the_scrape_job(self):
        job = self.blocks()["scrape_configs"][0]
        # Debian's build has no discovery for Kubernetes.
        self.assertEqual(job.pop("kubernetes_sd_configs"), [{"role": "pod"}])
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            yaml.safe_dump({"scrape_configs": [job]}, file)
            file.flush()
            check = subprocess.run(["promtool", "check", "config", "--syntax-only", file.name], capture_output=True, text=True, check=False)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)


if __name__ == "__main__":
    unittest.main()
