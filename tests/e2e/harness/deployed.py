"""What deploy/ holds, as a test reads it; and the tools that judge it, without which its tests cannot run."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import yaml

from .needs import need
from .server import ROOT

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "heddle"
# The oldest Kubernetes that the chart takes, of which the validator has the schema, and the newest.
KUBERNETES = ("1.30.0", "1.34.0")
_CACHE = pathlib.Path(os.environ.get("HEDDLE_CACHE") or pathlib.Path.home() / ".cache" / "heddle")


def tool(name, installed_by):
    """The path of a tool."""
    places = [str(_CACHE / "bin"), str(pathlib.Path(os.environ.get("HEDDLE_VENV", "/nowhere")) / "bin")]
    places += [str(ROOT / "tests" / "e2e" / "node" / "node_modules" / ".bin"), os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(places))
    need(found, f"{name} is not here: deploy/setup.sh test installs {installed_by} where it can")
    return found


def run(*words, **more):
    """What a tool said; it must end with 0."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=120, **more)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def compose():
    """The compose file with its merges done and its variables filled in."""
    text = (DEPLOY / "compose.yaml").read_text()
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: "x" * 40 + match[1], text)
    assert "${" not in text, "every variable that is asked for says what it is for"
    return yaml.safe_load(text)


def rendered(*flags, kubernetes=KUBERNETES[0]):
    """The objects of the chart."""
    helm = tool("helm", "Helm (helm.sh/helm/v3, built by Go)")
    text = run(helm, "template", "trial", CHART, "--kube-version", kubernetes, *flags)
    return [thing for thing in yaml.safe_load_all(text) if thing]


def of_kind(things, kind):
    """The only one of its kind."""
    found = [thing for thing in things if thing["kind"] == kind]
    assert len(found) == 1, f"{len(found)} of kind {kind}"
    return found[0]


def chart_variables(things):
    """What the container of a rendered chart gets: the map's variables, the pod's, and those from secrets, made up here."""
    variables = dict(of_kind(things, "ConfigMap")["data"])
    container = of_kind(things, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    made_up = {"HEDDLE_STORE__URL": "postgres://u:p@db:5432/heddle", "HEDDLE_REGISTRY__URL": "redis://redis:6379"}
    for entry in container["env"]:
        variables[entry["name"]] = made_up.get(entry["name"], "made-up-by-the-test-" + "x" * 32)
    return variables


def image():
    """The instructions of the Containerfile: pairs of name and arguments, lines joined, comments gone."""
    text = (DEPLOY / "Containerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def image_variables():
    """What the image sets."""
    pairs = [pair for name, rest in image() if name == "ENV" for pair in rest.split()]
    return dict(pair.split("=", 1) for pair in pairs)


def health_command():
    """The words of HEALTHCHECK."""
    (check,) = [rest for name, rest in image() if name == "HEALTHCHECK"]
    return json.loads(check[check.index("["):])


def expressions():
    """Every expression of the alerts and of the dashboard: (where, expression)."""
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((DEPLOY / "grafana" / "heddle.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


def metrics_in_the_source():
    """The names of metrics in the host, and how each is kept: counter, gauge or histogram."""
    kinds = {}
    for path in (ROOT / "host").rglob("*.rs"):
        text = path.read_text()
        for kind, name in re.findall(r'(counter|gauge|histogram)!\(\s*"(heddle_\w+)"', text):
            kinds[name] = kind
        # Those of plugins are not kept by the recorder, but written beside it.
        for name, kind in re.findall(r'family\(\s*"(heddle_\w+)",\s*"(\w+)"', text):
            kinds[name] = kind
    return kinds
