"""Lints and renders a Helm chart, and holds what it renders against the schemas of Kubernetes.

Usage: check_chart.py CHART
"""

import sys

try:
    import helm_python as helm
    import kubernetes_validate
    import yaml
except ImportError as missing:
    sys.exit(f"{missing}. The tests' Python tools are installed by `make test`.")

KUBERNETES = "1.37"
TLS = {"existingSecret": "omnimesh-tls"}
ACCEPTED = {
    "least": {"tls": TLS},
    "postgresql": {"tls": TLS, "database": {"existingSecret": "omnimesh-database"}},
    "own claim": {"tls": TLS, "persistence": {"existingClaim": "lake"}},
    "scheduled": {
        "tls": TLS,
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "extraArgs": ["--demo", "--demo-size=small"],
        "service": {"type": "LoadBalancer", "port": 8443},
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
    "argument that is no flag": {"tls": TLS, "extraArgs": ["demo"]},
}


def faults_of(path: str, chart: helm.Chart, values: dict) -> list[str]:
    """What Helm or Kubernetes would refuse of the chart with these values."""
    report = helm.lint(path, values, strict=True)
    faults = [message["error"] for message in report["messages"] if message["severity"] > 1]
    for template, text in chart.render(values, name="release", namespace="retail").items():
        if template.endswith(".txt"):
            continue
        for manifest in filter(None, yaml.safe_load_all(text)):
            try:
                kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
            except kubernetes_validate.ValidationError as error:
                faults.append(f"{template}: {error.message}")
    return faults


def is_refused(chart: helm.Chart, values: dict) -> bool:
    try:
        chart.validate_schema(values)
    except helm.HelmError:
        return True
    return False


def main(path: str) -> int:
    faults = []
    with helm.Chart.load(path) as chart:
        for name, values in ACCEPTED.items():
            faults += [f"{name}: {fault}" for fault in faults_of(path, chart, values)]
        for name, values in REFUSED.items():
            if not is_refused(chart, values):
                faults.append(f"values.schema.json accepts {name}: {values}")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
