"""Lints and renders a Helm chart, and holds what it renders against the schemas of Kubernetes and against itself.

Usage: check_chart.py CHART [BINARY CERTIFICATE]

With a binary it is also started as the chart's container starts it, in a temporary directory and with the `tls.crt`
and `tls.key` of the directory CERTIFICATE.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

try:
    import helm_python as helm
    import kubernetes_validate
    import yaml
except ImportError as missing:
    sys.exit(f"{missing}. The tests' Python tools are installed by `make test`.")

KUBERNETES = "1.37"
TLS = {"existingSecret": "omnimesh-tls"}
# The chart's own may be taken; still beyond the loopback, where nothing is served without TLS.
ANY_PORTS = ["--listen=0.0.0.0:0", "--admin=127.0.0.1:0"]
ACCEPTED = {
    "least": {"tls": TLS},
    "postgresql": {"tls": TLS, "database": {"existingSecret": "omnimesh-database"}},
    "own claim": {"tls": TLS, "persistence": {"existingClaim": "lake"}},
    "scheduled": {
        "tls": TLS,
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "service": {"type": "LoadBalancer", "port": 8443},
    },
    "configured": {
        "tls": TLS,
        "config": "[edge.cors]\nallowed_origins = [\"https://shop.example\"]\n\n[mesh.limits]\nconcurrent_calls = 64\n",
        "logFilter": "info",
    },
}
REFUSED = {
    "no certificate": {},
    "empty certificate": {"tls": {"existingSecret": ""}},
    "unknown key": {"tls": TLS, "replicas": 2},
    "unknown nested key": {"tls": TLS, "image": {"repo": "omnimesh"}},
    "no image": {"tls": TLS, "image": {"repository": ""}},
    "tag with a space": {"tls": TLS, "image": {"tag": "0.1 beta"}},
    "unknown pull policy": {"tls": TLS, "image": {"pullPolicy": "Sometimes"}},
    "port as text": {"tls": TLS, "service": {"port": "https"}},
    "port out of range": {"tls": TLS, "service": {"port": 70000}},
    "unknown service type": {"tls": TLS, "service": {"type": "Ingress"}},
    "size without unit": {"tls": TLS, "persistence": {"size": "many"}},
    "key outside a table": {"tls": TLS, "config": "data_dir = '/tmp'"},
    "no log filter": {"tls": TLS, "logFilter": ""},
}


def lint(path: str, values: dict) -> list[str]:
    """What Helm would refuse of the chart with these values."""
    report = helm.lint(path, values, strict=True)
    return [message["error"] for message in report["messages"] if message["severity"] > 1]


def render(chart: helm.Chart, values: dict) -> list[dict]:
    templates = chart.render(values, name="release", namespace="retail")
    texts = [text for template, text in templates.items() if not template.endswith(".txt")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


def validate(manifests: list[dict]) -> list[str]:
    """What Kubernetes would refuse."""
    faults = []
    for manifest in manifests:
        try:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            faults.append(f"{manifest['kind']}: {error.message}")
    return faults


class Pod:
    """The deployment's pod, with what the chart's own secrets put into it."""

    def __init__(self, manifests: list[dict]):
        [deployment] = [manifest for manifest in manifests if manifest["kind"] == "Deployment"]
        spec = deployment["spec"]["template"]["spec"]
        [self.container] = spec["containers"]
        self.services = [manifest["spec"] for manifest in manifests if manifest["kind"] == "Service"]
        own = {
            manifest["metadata"]["name"]: manifest["stringData"]
            for manifest in manifests
            if manifest["kind"] == "Secret"
        }
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        self.files, self.volumes = {}, {}
        for mount in self.container["volumeMounts"]:
            directory, volume = mount["mountPath"], volumes[mount["name"]]
            self.volumes[directory] = volume
            secret = volume.get("secret", {}).get("secretName")
            self.files |= {f"{directory}/{name}": text for name, text in own.get(secret, {}).items()}
            if secret == TLS["existingSecret"]:
                self.certificate = directory

    def config(self) -> dict:
        """What the file named by --config says."""
        [path] = [flag.removeprefix("--config=") for flag in self.container["args"] if flag.startswith("--config=")]
        return tomllib.loads(self.files[path])

    def faults(self) -> list[str]:
        """What Kubernetes accepts and cannot work, or should not."""
        faults = []
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        config = self.config()
        served = int(config["edge"]["listen"].rpartition(":")[2])
        if ports != {"grpc": served}:
            faults.append(f"the container's ports are {ports}, and the edge listens on {served}")
        if "admin" in config["edge"]:
            faults.append("the operators' address is set, which must stay the loopback's")
        for name in ["startupProbe", "readinessProbe", "livenessProbe"]:
            if self.container[name].get("tcpSocket") != {"port": "grpc"}:
                faults.append(f"{name} asks elsewhere than where clients connect")
        for port in (port for service in self.services for port in service["ports"]):
            if port["targetPort"] not in ports:
                faults.append(f"the service's port {port['port']} leads nowhere: {port['targetPort']}")
        if "persistentVolumeClaim" not in self.volumes.get(config["data_dir"], {}):
            faults.append(f"no volume keeps {config['data_dir']}")
        if any("$(" in argument for argument in self.container["args"]):
            faults.append("an argument shows a variable to whoever lists processes")
        return faults

    def start(self, binary: str, certificate: str) -> list[str]:
        """Why the container would not start. Its paths are moved below a temporary directory."""
        with tempfile.TemporaryDirectory() as root:
            mounts = "|".join(map(re.escape, self.volumes))

            def moved(text: str) -> str:
                return re.sub(mounts, lambda mount: root + mount[0], text)

            shutil.copytree(certificate, root + self.certificate)
            for path, text in self.files.items():
                file = Path(root + path)
                file.parent.mkdir(parents=True)
                file.write_text(moved(text))
            database = Path(root, "database")
            variables = self.container["env"]
            ended = subprocess.run(
                [binary, *map(moved, self.container["args"]), *ANY_PORTS, "--exit-when-ready"],
                env={variable["name"]: variable.get("value", f"sqlite:{database}") for variable in variables},
                capture_output=True,
                text=True,
            )
            if ended.returncode != 0:
                return [f"the container ends with {ended.returncode}: {ended.stderr.strip()}"]
            if any("valueFrom" in variable for variable in variables) and not database.exists():
                return ["the database's URL is not read from where the chart puts it"]
            return []


def is_refused(chart: helm.Chart, values: dict) -> bool:
    try:
        chart.validate_schema(values)
    except helm.HelmError:
        return True
    return False


def main(path: str, *start: str) -> int:
    faults = []
    with helm.Chart.load(path) as chart:
        for name, values in ACCEPTED.items():
            manifests = render(chart, values)
            pod = Pod(manifests)
            found = lint(path, values) + validate(manifests) + pod.faults()
            if start:
                found += pod.start(*start)
            faults += [f"{name}: {fault}" for fault in found]
        for name, values in REFUSED.items():
            if not is_refused(chart, values):
                faults.append(f"values.schema.json accepts {name}: {values}")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
