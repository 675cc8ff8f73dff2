# SPDX-License-Identifier: Apache-2.0
"""What the embedded node (cluster/) promises, on a second node beside the one that a developer may have up.

Needs what `cluster/cluster up` needs. The only images are the node's own pause image and a busybox made here.
"""

import contextlib
import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.progress import deep_only

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / "cluster" / "cluster"
PLANE = REPOSITORY / "cluster" / "plane"
NAME, INDEX = "cluster-test", 9
NODE, NODE_IP, REGISTRY = f"{NAME}-node", f"10.99.{INDEX}.2", f"10.99.{INDEX}.1:5000"
BUSYBOX = "registry.local:5000/busybox:test"
Object = dict[str, Any]
T = TypeVar("T")


def until(what: str, condition: Callable[[], T], seconds: float = 60) -> T:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)
    return value


def output_of(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


class Cluster:
    environment = {**os.environ, "SANDBOX_CLUSTER_NAME": NAME, "SANDBOX_CLUSTER_INDEX": str(INDEX)}

    def __init__(self) -> None:
        self.environment.pop("GPUS", None)
        self.kubeconfig = Path(self.tool("kubeconfig").stdout.strip())
        self.state = self.kubeconfig.parents[1]
        exports = self.tool("env").stdout
        self.environment["PATH"] = output_of("bash", "-c", exports + 'echo "$PATH"')

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Begin a verb of the tool, in a process group of its own."""
        return subprocess.Popen(
            [TOOL, *arguments],
            env={**self.environment, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def tool(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments, **environment)
        stdout, stderr = process.communicate(timeout=1800)
        assert process.returncode == 0, f"cluster {' '.join(arguments)}: {stdout}{stderr}"
        return subprocess.CompletedProcess(arguments, 0, stdout, stderr)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, env=self.environment, input=stdin, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def apply(self, *objects: Object) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def phase(self, pod: str) -> str:
        return str(self.get("pod", pod)["status"]["phase"])

    def run(self, pod: Object) -> str:
        """The output of a pod that must succeed."""
        name = pod["metadata"]["name"]
        self.apply(pod)
        phase = until(f"{name} ends", lambda: self.phase(name) in ("Succeeded", "Failed") and self.phase(name))
        output = self.kubectl("logs", name)
        assert phase == "Succeeded", output
        self.kubectl("delete", "pod", name)
        return output

    def allocatable_gpus(self) -> str:
        return str(self.get("node", NODE)["status"]["allocatable"].get("nvidia.com/gpu", "0"))

    def processes(self) -> dict[int, str]:
        """The node's processes on the machine, by number: start time and name."""
        found = {}
        for procs in Path("/sys/fs/cgroup").glob(f"**/sandbox-cluster-{NAME}/**/cgroup.procs"):
            for pid in map(int, procs.read_text().split()):
                with contextlib.suppress(OSError):
                    text = Path(f"/proc/{pid}/stat").read_text()
                    name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
                    if rest[0] not in "ZX":
                        found[pid] = f"{rest[19]} {name}"
        return found

    def has(self, name: str) -> bool:
        return any(text.split(" ", 1)[1] == name[:15] for text in self.processes().values())

    def process(self, name: str) -> int:
        """The number of the one process of the node with this name."""
        (pid,) = (pid for pid, text in self.processes().items() if text.split(" ", 1)[1] == name[:15])
        return pid

    def traces(self) -> dict[str, list[str]]:
        """What a node has on the machine beside its files."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return {
            "processes": sorted(self.processes().values()),
            "mounts": [line for line in mounts if str(self.state) in line or "/run/netns" in line],
            "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/sandbox-cluster-{NAME}")],
            "links": [path.name for path in Path("/sys/class/net").glob(f"sbx{INDEX}")],
            "namespaces": sorted(path.name for path in Path("/run/netns").glob("*")),
            "folders": [path for path in ("/var/lib/kubelet", "/var/lib/cni", "/var/log/pods") if Path(path).exists()],
        }


@pytest.fixture(scope="module")
def untouched_machine() -> dict[str, list[str]]:
    """The node's traces before its first start; other nodes may have left theirs."""
    cluster = Cluster()
    cluster.tool("clean")
    return cluster.traces()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, untouched_machine: dict[str, list[str]]) -> Iterator[Cluster]:
    cluster = Cluster()
    cluster.tool("up")
    push_busybox(tmp_path_factory.mktemp("busybox"))
    yield cluster
    cluster.tool("clean")
    assert cluster.traces() == untouched_machine
    assert not cluster.state.exists()


def push_busybox(folder: Path) -> None:
    root = folder / "root"
    (root / "bin").mkdir(parents=True)
    busybox = Path("/bin/busybox").resolve()
    (root / "bin" / "busybox").write_bytes(busybox.read_bytes())
    (root / "bin" / "busybox").chmod(0o755)
    for applet in output_of(str(busybox), "--list").split():
        if applet != "busybox":  # Debian's lists itself
            (root / "bin" / applet).symlink_to("busybox")
    buildah = ["buildah", "--root", f"{folder}/storage", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
    container = output_of(*buildah, "from", "scratch")
    output_of(*buildah, "copy", container, str(root), "/")
    output_of(
        *buildah, "commit", "--quiet", "--tls-verify=false", "--rm", container, f"docker://{REGISTRY}/busybox:test"
    )


def a_pod(
    name: str, script: str, *, claim: str | None = None, gpus: int = 0, owner: int = 1000, restart: str = "Never"
) -> Object:
    """A pod under the restricted pod security standard that runs a shell script, with the claim on /data."""
    container: Object = {
        "name": "main",
        "image": BUSYBOX,
        "command": ["sh", "-c", script],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    spec: Object = {
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "securityContext": {
            "runAsUser": owner,
            "runAsGroup": owner,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
    if claim:
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        spec["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def a_claim(name: str, *modes: str, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": list(modes), "resources": {"requests": {"storage": "1Gi"}}, **spec},
    }


def is_bound(cluster: Cluster, claim: str) -> bool:
    return bool(cluster.get("pvc", claim)["status"]["phase"] == "Bound")


@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadWriteMany"])
def test_a_claim_binds_by_itself_and_its_data_outlives_pods(cluster: Cluster, mode: str) -> None:
    name = mode.lower()
    cluster.apply(a_claim(name, mode))
    until("the claim is bound, without a pod", lambda: is_bound(cluster, name))
    cluster.run(a_pod("writer", "echo from one user > /data/file", claim=name, owner=1000))
    reader = a_pod("reader", "cat /data/file && echo more > /data/other", claim=name, owner=2000)
    assert cluster.run(reader) == "from one user\n"


def test_a_deleted_claim_takes_its_folder_and_volume_along(cluster: Cluster) -> None:
    cluster.apply(a_claim("short-lived", "ReadWriteOnce"))
    until("the claim is bound", lambda: is_bound(cluster, "short-lived"))
    volume = cluster.get("pvc", "short-lived")["spec"]["volumeName"]
    folder = Path(cluster.get("pv", volume)["spec"]["hostPath"]["path"])
    assert folder.is_dir()
    cluster.kubectl("delete", "pvc", "short-lived")
    until("the volume is gone", lambda: volume not in [v["metadata"]["name"] for v in cluster.get("pv")["items"]])
    assert not folder.exists()


def test_a_claim_that_cannot_be_met_says_why(cluster: Cluster) -> None:
    cluster.apply(a_claim("block", "ReadWriteOnce", volumeMode="Block"))
    events = until(
        "an event on the claim",
        lambda: [e["message"] for e in cluster.get("events")["items"] if e["reason"] == "ProvisioningFailed"],
    )
    assert events == ["spec.volumeMode: Block is not offered here; use Filesystem"]
    cluster.kubectl("delete", "pvc", "block")


def test_a_forged_volume_deletes_nothing_outside_the_volumes_folder(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    forged = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "forged", "annotations": {"pv.kubernetes.io/provisioned-by": "sandbox.cluster/folder"}},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "standard",
            "hostPath": {"path": str(tmp_path)},
            "claimRef": {"namespace": "default", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"},
        },
    }
    cluster.apply(forged)
    until("the volume is gone", lambda: "forged" not in [v["metadata"]["name"] for v in cluster.get("pv")["items"]])
    assert (tmp_path / "precious").exists()


def test_pods_resolve_services_and_learn_at_once_that_other_names_do_not_exist(cluster: Cluster) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    cluster.apply(service)
    address = cluster.get("service", "web")["spec"]["clusterIP"]
    names = ("web.default.svc.cluster.local", "web", "example.org")
    output = cluster.run(a_pod("asks", "".join(f"nslookup {name}; " for name in names) + "true"))
    assert output.count(f"Address: {address}") == 2
    assert "can't find example.org: NXDOMAIN" in output


def test_a_pod_reaches_the_api_server_through_its_service_and_by_its_certificate(cluster: Cluster) -> None:
    """As the operator in its pod does: name, authority and address all come from the cluster."""
    cluster.apply(a_pod("client", "sleep 600"))
    until("it runs", lambda: cluster.phase("client") == "Running")
    token = cluster.kubectl("exec", "client", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
    authority = cluster.kubectl("exec", "client", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
    cluster.kubectl("exec", "client", "--", "nc", "-w", "5", "10.96.0.1", "443")
    (cluster.state / "tmp" / "ca.crt").write_text(authority)
    curl = ["curl", "-s", "--cacert", str(cluster.state / "tmp" / "ca.crt"), "-H", f"Authorization: Bearer {token}"]
    address = "https://kubernetes.default.svc/api/v1/namespaces/default/pods"
    resolve = ["--resolve", "kubernetes.default.svc:443:10.96.0.1"]
    answer = json.loads(cluster.tool("exec", *curl, *resolve, address).stdout)
    assert answer["message"].startswith('pods is forbidden: User "system:serviceaccount:default:default"')
    cluster.kubectl("delete", "pod", "client")  # before, it would have ended the token


def http_status(address: str) -> str:
    """Asked without a name or token; "000" where nothing answers."""
    command = ["curl", "-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", address]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout


@pytest.mark.usefixtures("cluster")
def test_nobody_is_let_in_without_a_name() -> None:
    assert http_status(f"https://{NODE_IP}:10250/pods") == "401"
    assert http_status(f"https://{NODE_IP}:6443/api") == "401"
    assert http_status(f"http://{NODE_IP}:10255/pods") == "000", "the kubelet has a read-only port"
    assert http_status(f"http://{NODE_IP}:2379/version") == "000", "etcd listens beyond loopback"


def test_nothing_of_the_node_listens_in_the_machines_own_network(cluster: Cluster) -> None:
    machine = Path("/proc/self/ns/net").readlink()
    inside = {pid: Path(f"/proc/{pid}/ns/net").readlink() for pid in cluster.processes()}
    assert len(inside) > 10
    assert [cluster.processes()[pid] for pid, network in inside.items() if network == machine] == []


def test_keys_and_tokens_are_the_owners_alone(cluster: Cluster) -> None:
    secrets = [*(cluster.state / "pki").iterdir(), *(cluster.state / "etc").glob("*.kubeconfig")]
    assert len(secrets) > 10
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in secrets if path.stat().st_mode & 0o077} == {}
    assert stat.S_IMODE(cluster.state.stat().st_mode) == 0o700
    tokens = [line.split(",")[0] for line in (cluster.state / "pki" / "tokens.csv").read_text().split()]
    assert len(set(tokens)) == len(tokens) >= 5


def test_a_second_up_changes_nothing(cluster: Cluster) -> None:
    before = cluster.processes()
    cluster.tool("up")
    assert cluster.processes() == before


def test_gpus_can_be_added_to_a_running_node(cluster: Cluster) -> None:
    node = cluster.process("kubelet")
    cluster.tool("up", GPUS="8")
    assert cluster.allocatable_gpus() == "8"
    assert cluster.process("kubelet") == node

    output = cluster.run(a_pod("two-gpus", "echo $NVIDIA_VISIBLE_DEVICES", gpus=2))
    ids = output.strip().split(",")
    assert len(set(ids)) == 2
    assert set(ids) <= {f"GPU-{i}" for i in range(8)}

    cluster.apply(a_pod("sixteen-gpus", "true", gpus=16))
    conditions = until("the scheduler's word", lambda: cluster.get("pod", "sixteen-gpus")["status"].get("conditions"))
    assert cluster.phase("sixteen-gpus") == "Pending"
    assert "Insufficient nvidia.com/gpu" in conditions[0]["message"]
    cluster.kubectl("delete", "pod", "sixteen-gpus")

    log = cluster.state / "log" / "gpu-plugin.log"
    registered = log.read_text().count("8 devices")
    os.kill(node, signal.SIGKILL)
    until("the plugin registers with the next kubelet", lambda: log.read_text().count("8 devices") > registered)
    cluster.run(a_pod("after-the-kubelets-restart", "test -n $NVIDIA_VISIBLE_DEVICES", gpus=8))
    cluster.tool("up", GPUS="0")
    assert cluster.allocatable_gpus() == "0"


@pytest.mark.parametrize(
    "process",
    ["containerd", pytest.param("etcd", marks=deep_only), "kube-apiserver", pytest.param("registry", marks=deep_only)],
)
def test_up_waits_for_a_process_that_was_killed(cluster: Cluster, process: str) -> None:
    first = cluster.process(process)
    os.kill(first, signal.SIGKILL)
    cluster.tool("up")
    assert cluster.process(process) != first
    assert cluster.tool("status").stdout
    cluster.run(a_pod("works", "true"))


def test_down_leaves_nothing_and_up_brings_everything_back(
    cluster: Cluster, untouched_machine: dict[str, list[str]]
) -> None:
    cluster.apply(a_claim("kept", "ReadWriteMany"))
    cluster.run(a_pod("writer", "echo kept > /data/file", claim="kept"))
    template = a_pod("", "sleep 600", restart="Always")
    deployment: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "server"},
        "spec": {
            "selector": {"matchLabels": {"app": "server"}},
            "template": {"metadata": {"labels": {"app": "server"}}, "spec": template["spec"]},
        },
    }
    work = a_pod("", "[ -e /data/done ] || sleep 600", claim="kept")["spec"]
    job: Object = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "work"},
        "spec": {"template": {"spec": work}, "backoffLimit": 3},
    }
    cluster.apply(deployment, job)
    until("both run", lambda: [p["status"]["phase"] for p in cluster.get("pods")["items"]] == ["Running", "Running"])

    cluster.tool("down")
    assert cluster.traces() == untouched_machine
    cluster.tool("down")

    for volume in (cluster.state / "volumes").glob("default_kept_*"):
        (volume / "done").touch()
    cluster.tool("up")
    assert cluster.run(a_pod("reader", "cat /data/file", claim="kept")) == "kept\n"
    until("the job's next pod completes it", lambda: cluster.get("job", "work")["status"].get("succeeded"), 120)
    assert cluster.get("job", "work")["status"]["failed"] == 1
    server = lambda: cluster.get("deployment", "server")["status"].get("availableReplicas")  # noqa: E731
    until("the server is available again", server, 120)
    cluster.kubectl("delete", "deployment/server", "job/work")


def test_two_ups_at_once_make_one_node(cluster: Cluster) -> None:
    cluster.tool("down")
    together = [cluster.start("up"), cluster.start("up")]
    outputs = [process.communicate(timeout=300)[1] for process in together]
    assert [process.returncode for process in together] == [0, 0], outputs
    assert sorted("starting the node" in output for output in outputs) == [False, True]


def link_is_there(_: Cluster) -> bool:
    return Path(f"/sys/class/net/sbx{INDEX}").exists()


def node_is_remembered(cluster: Cluster) -> bool:
    return (cluster.state / "run" / "node").exists()


def api_server_is_starting(cluster: Cluster) -> bool:
    return cluster.has("kube-apiserver")


def api_server_answers(_: Cluster) -> bool:
    return http_status(f"https://{NODE_IP}:6443/readyz") == "401"


@pytest.mark.parametrize(
    ("victim", "moment"),
    [
        pytest.param("up", node_is_remembered, marks=deep_only),
        pytest.param("up", link_is_there, marks=deep_only),
        ("up", api_server_is_starting),
        pytest.param("up", api_server_answers, marks=deep_only),
        ("node", link_is_there),
        pytest.param("node", api_server_is_starting, marks=deep_only),
    ],
)
def test_up_repairs_what_a_kill_in_the_middle_left(
    cluster: Cluster, victim: str, moment: Callable[[Cluster], bool]
) -> None:
    cluster.tool("down")
    process = cluster.start("up")
    until(moment.__name__, lambda: moment(cluster))
    if victim == "node":
        node = int((cluster.state / "run" / "node").read_text().split()[0])
        os.kill(node, signal.SIGKILL)
        process.communicate(timeout=300)
    else:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    cluster.tool("up")
    cluster.run(a_pod("works", "true"))


def test_up_repairs_after_the_nodes_end_and_keeps_the_objects(cluster: Cluster) -> None:
    cluster.tool("up")
    cluster.kubectl("create", "configmap", "witness")
    node = int((cluster.state / "run" / "node").read_text().split()[0])
    os.kill(node, signal.SIGKILL)
    until("the node is gone", lambda: not cluster.processes())
    (cluster.state / "run" / "node").write_text(f"{os.getpid()} 1\n")  # the number has a new owner meanwhile
    cluster.tool("up")
    cluster.kubectl("delete", "configmap", "witness")


def test_the_index_of_another_cluster_is_refused(cluster: Cluster) -> None:
    cluster.tool("up")
    process = cluster.start("up", SANDBOX_CLUSTER_NAME="cluster-test-late")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"SANDBOX_CLUSTER_INDEX: {INDEX} is taken by the cluster '{NAME}'" in stderr
    cluster.tool("clean", SANDBOX_CLUSTER_NAME="cluster-test-late")
    cluster.tool("status")


def test_a_machine_that_cannot_run_it_is_told_all_reasons_and_the_way_out(tmp_path: Path) -> None:
    """In a user namespace that maps nobody this process is not root, and this PATH has no Go."""
    tools = tmp_path / "bin"
    tools.mkdir()
    needed = "bash cat cut dirname grep id mkdir paste readlink sed sha256sum stat tr uname"
    for name in needed.split():
        (tools / name).symlink_to(next(p / name for p in map(Path, ("/bin", "/usr/bin")) if (p / name).exists()))
    environment = {"PATH": str(tools), "HOME": str(tmp_path), "SANDBOX_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        ["/usr/bin/unshare", "--user", TOOL, "up"], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 1
    *lines, last = done.stderr.splitlines()
    reasons = [line.removeprefix("  - ").split(":")[0] for line in lines if line.startswith("  - ")]
    assert reasons[:3] == ["not root", "no Go 1.24 or newer in PATH", "no apt-get to install what is missing"]
    assert last == "To use the cluster of your current kube context instead: CLUSTER=current make demo"


def test_a_control_plane_alone_counts_what_the_operator_asks(cluster: Cluster, tmp_path: Path) -> None:
    environment = {**cluster.environment, "W": str(tmp_path), "PORT": "27443"}
    subprocess.run([PLANE, "up"], env=environment, check=True, capture_output=True)
    try:
        kubectl = ["kubectl", "--kubeconfig", str(tmp_path / "etc" / "operator.kubeconfig")]
        subprocess.run([*kubectl, "create", "configmap", "one"], env=environment, check=True, capture_output=True)
        requests = [json.loads(line) for line in (tmp_path / "log" / "audit.log").read_text().splitlines()]
        assert {request["user"]["username"] for request in requests} == {"operator"}
        assert [r["objectRef"]["name"] for r in requests if r["verb"] == "create"] == ["one"]
    finally:
        subprocess.run([PLANE, "down"], env=environment, check=True)
    assert not list((tmp_path / "run").iterdir())
