"""The files in cluster/ against the schemas of those who read them."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import googleapiclient.discovery_cache
import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from moto import mock_aws
from ray._private.label_utils import validate_node_label_syntax
from ray.autoscaler._private.aws import config as aws_config
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import NODE_KIND_WORKER, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE
from support.places import REPOSITORY

CLUSTER = REPOSITORY / "cluster"
CLOUDS = ("aws", "gcp", "azure")
RAY = Path(ray.__file__).parent
TOKEN = "~/.ray/auth_token"
NODE_BYTES = {"g2-standard-16": 64 << 30, "n2-standard-64": 256 << 30, "Standard_NC24ads_A100_v4": 220 << 30,
              "Standard_D64s_v5": 256 << 30}  # fmt: skip
"""Memory of machines, as the clouds' documentation gives it."""


def cluster_file(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())


def prepared(name: str) -> dict[str, Any]:
    """The file as `ray up` completes it, after Ray's own validation."""
    config = prepare_config(cluster_file(name))
    validate_config(config)
    return config


@pytest.mark.parametrize("name", [*CLOUDS, "static"])
def test_ray_accepts(name: str) -> None:
    config = prepared(name)
    assert config["file_mounts"][TOKEN] == TOKEN
    (start,) = (line for line in config["head_start_ray_commands"] if "ray start" in line)
    assert "--dashboard-host" not in start  # loopback
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start


@pytest.mark.parametrize("name", [*CLOUDS, "static"])
def test_ray_refuses_a_field_that_it_does_not_know(name: str) -> None:
    config = prepare_config({**cluster_file(name), "idle_timeout": 5})
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(config)


@pytest.mark.parametrize("name", CLOUDS)
def test_pools_of_a_cloud(name: str) -> None:
    config = prepared(name)
    types = config["available_node_types"]
    head, gpu, cpu = (types[one] for one in ("head", "gpu", "cpu"))
    assert config["head_node_type"] == "head"
    assert head["resources"] == {"CPU": 0}
    assert gpu["resources"]["GPU"] == 1
    assert "GPU" not in cpu["resources"]
    for one in (gpu, cpu):
        assert (one["min_workers"], one["labels"]["pool"]) == (0, "gpu" if one is gpu else "cpu")
        assert validate_node_label_syntax(one["labels"]) is None
    assert config["max_workers"] == gpu["max_workers"] + cpu["max_workers"]
    assert config["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("name", ["gcp", "azure"])
def test_declared_memory_is_less_than_the_machine_has(name: str) -> None:
    """Ray knows the memory of machines on AWS alone; where it does not, it is declared."""
    for type_name, one in cluster_file(name)["available_node_types"].items():
        if type_name != "head":
            node = one["node_config"]
            size = NODE_BYTES[node["machineType"] if name == "gcp" else node["azure_arm_parameters"]["vmSize"]]
            assert 0.6 * size < one["resources"]["memory"] < 0.7 * size


@pytest.fixture
def aws_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """An account that moto plays, with the roles of docs/cluster.md; gives the completed file."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "testing")
    monkeypatch.setenv("HOME", str(tmp_path))  # for the key pair that Ray makes
    monkeypatch.setattr(aws_config.time, "sleep", lambda seconds: None)
    with mock_aws():
        config = prepared("aws")
        documents = policies()
        iam = boto3.client("iam", region_name=config["provider"]["region"])
        for role, names in {"pfit-ray-worker": ["bucket"], "pfit-ray-head": ["bucket", "nodes"]}.items():
            iam.create_role(RoleName=role, AssumeRolePolicyDocument=documents["trust"])
            for name in names:
                iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=documents[name])
            iam.create_instance_profile(InstanceProfileName=role)
            iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
        yield config


def policies() -> dict[str, str]:
    """The JSON documents of the roles on AWS by name."""
    return {path.stem: path.read_text() for path in (REPOSITORY / "cluster" / "aws").glob("*.json")}


@pytest.mark.slow
def test_ec2_starts_each_kind_of_node(aws_account: dict[str, Any]) -> None:
    """Ray's launcher prepares the account and starts a node of each kind; botocore checks every parameter."""
    config = aws_config.bootstrap_aws(aws_account)
    config = AWSNodeProvider.fillout_available_node_types_resources(config)
    types = config["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["gpu"]["resources"].keys() >= {"CPU", "GPU", "memory", "accelerator_type:L4"}
    assert 170e9 < types["cpu"]["resources"]["memory"] < 200e9
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name in ("head", "gpu", "cpu"):
        tags = {TAG_RAY_NODE_KIND: NODE_KIND_WORKER, TAG_RAY_USER_NODE_TYPE: name}
        provider.create_node(types[name]["node_config"], tags, 1)
    ec2 = boto3.client("ec2", region_name=config["provider"]["region"])
    instances = [one for group in ec2.describe_instances()["Reservations"] for one in group["Instances"]]
    found = {tag["Value"]: one for one in instances for tag in one["Tags"] if tag["Key"] == TAG_RAY_USER_NODE_TYPE}
    profiles = {name: one["IamInstanceProfile"]["Arn"].rpartition("/")[2] for name, one in found.items()}
    assert profiles == {"head": "pfit-ray-head", "gpu": "pfit-ray-worker", "cpu": "pfit-ray-worker"}
    assert {name for name, one in found.items() if one.get("InstanceLifecycle") == "spot"} == {"gpu", "cpu"}


def test_policies_are_narrow() -> None:
    found = {name: json.loads(text) for name, text in policies().items()}
    assert found.keys() == {"trust", "bucket", "nodes"}
    for statement in found["bucket"]["Statement"]:
        assert "*" not in "".join(statement["Action"])
        assert set(statement["Resource"]) != {"*"}
    everywhere = [one for one in found["nodes"]["Statement"] if one["Resource"] == "*" and "Condition" not in one]
    assert [one["Action"] for one in everywhere] == ["ec2:Describe*"]


def discovery_schema(name: str) -> dict[str, Any]:
    """A schema of Google's API as JSON schema that knows no other fields than the API's own."""
    file = Path(googleapiclient.discovery_cache.__file__).parent / "documents" / "compute.v1.json"
    schemas = json.loads(file.read_text())["schemas"]

    def strict(node: Any) -> Any:
        if isinstance(node, list):
            return [strict(one) for one in node]
        if not isinstance(node, dict):
            return node
        kept = {key: strict(value) for key, value in node.items() if key not in ("id", "format", "description")}
        if "$ref" in kept:
            return {"$ref": f"#/definitions/{node['$ref']}"}
        if kept.get("type") == "string" and node.get("format") in ("int64", "uint64"):
            kept["type"] = ["string", "integer"]
        if isinstance(kept.get("properties"), dict):
            kept.setdefault("additionalProperties", False)
        return kept

    return {"$ref": f"#/definitions/{name}", "definitions": {key: strict(value) for key, value in schemas.items()}}


def test_compute_engine_knows_every_field() -> None:
    validator = jsonschema.Draft7Validator(discovery_schema("Instance"))
    types = cluster_file("gcp")["available_node_types"]
    for one in types.values():
        validator.validate(one["node_config"])
    accounts = {
        name: one["node_config"]["serviceAccounts"][0]["email"].partition("@")[0] for name, one in types.items()
    }
    assert accounts == {"head": "pfit-ray-head", "gpu": "pfit-ray-worker", "cpu": "pfit-ray-worker"}
    assert {name for name, one in types.items() if "SPOT" in str(one["node_config"])} == {"gpu", "cpu"}
    wrong = copy.deepcopy(types["gpu"]["node_config"])
    wrong["scheduling"]["preemptable"] = True
    with pytest.raises(jsonschema.ValidationError, match="preemptable"):
        validator.validate(wrong)


def test_azure_template_has_every_parameter() -> None:
    """Ray hands `azure_arm_parameters` to its own template of a machine."""
    folder = RAY / "autoscaler" / "_private" / "_azure"
    parameters = json.loads((folder / "azure-vm-template.json").read_text())["parameters"]
    kinds = {"string": str, "int": int, "object": dict}
    types = cluster_file("azure")["available_node_types"]
    for one in types.values():
        for name, value in one["node_config"]["azure_arm_parameters"].items():
            assert isinstance(value, kinds[parameters[name]["type"]]), name
    spot = {name for name, one in types.items() if one["node_config"]["azure_arm_parameters"].get("priority") == "Spot"}
    assert spot == {"gpu", "cpu"}
    source = "".join((folder / name).read_text() for name in ("config.py", "node_provider.py"))
    for name in cluster_file("azure")["provider"]:
        assert name == "type" or f'"{name}"' in source, name


RAY_JOB = {
    "entrypoint": str, "shutdownAfterJobFinishes": bool, "ttlSecondsAfterFinished": int, "backoffLimit": int,
    "activeDeadlineSeconds": int, "runtimeEnvYAML": str, "jobId": str, "submissionMode": str, "suspend": bool,
    "rayClusterSpec": dict, "submitterPodTemplate": dict, "submitterConfig": dict, "clusterSelector": dict,
    "entrypointNumCpus": float, "entrypointNumGpus": float, "entrypointResources": str, "managedBy": str,
}  # fmt: skip
RAY_CLUSTER = {
    "rayVersion": str, "authOptions": dict, "enableInTreeAutoscaling": bool, "autoscalerOptions": dict,
    "headGroupSpec": dict, "workerGroupSpecs": list, "gcsFaultToleranceOptions": dict, "suspend": bool,
    "managedBy": str, "headServiceAnnotations": dict,
}  # fmt: skip
AUTOSCALER = {
    "version": str, "idleTimeoutSeconds": int, "upscalingMode": str, "resources": dict, "image": str,
    "imagePullPolicy": str, "env": list, "envFrom": list, "volumeMounts": list, "securityContext": dict,
}  # fmt: skip
HEAD_GROUP = {
    "template": dict, "rayStartParams": dict, "serviceType": str, "headService": dict, "enableIngress": bool,
    "resources": dict, "labels": dict,
}  # fmt: skip
WORKER_GROUP = {
    "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int, "idleTimeoutSeconds": int,
    "numOfHosts": int, "rayStartParams": dict, "template": dict, "scaleStrategy": dict, "suspend": bool,
    "resources": dict, "labels": dict,
}  # fmt: skip
"""Fields of KubeRay's API reference (v1.6), by hand: its CRDs are in no package of an index."""


def of(fields: dict[str, type], document: dict[str, Any]) -> None:
    for name, value in document.items():
        assert name in fields, name
        assert isinstance(value, fields[name]), name


@pytest.fixture
def kuberay() -> tuple[dict[str, Any], dict[str, Any]]:
    account, job = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    return account, job


def test_kuberay_fields_and_pods(kuberay: tuple[dict[str, Any], dict[str, Any]]) -> None:
    account, job = kuberay
    newest = kubernetes_validate.latest_version()
    kubernetes_validate.validate(account, newest, strict=True)
    assert (job["apiVersion"], job["kind"], job["metadata"]) == ("ray.io/v1", "RayJob", {"name": "pfit-ray"})
    cluster = job["spec"]["rayClusterSpec"]
    of(RAY_JOB, job["spec"])
    of(RAY_CLUSTER, cluster)
    of(AUTOSCALER, cluster["autoscalerOptions"])
    of(HEAD_GROUP, cluster["headGroupSpec"])
    for group in cluster["workerGroupSpecs"]:
        of(WORKER_GROUP, group)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, newest, strict=True)
        assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
        wrong = copy.deepcopy(pod)
        wrong["spec"]["containers"][0]["volumeMount"] = []
        with pytest.raises(kubernetes_validate.ValidationError, match="volumeMount"):
            kubernetes_validate.validate(wrong, newest, strict=True)


def test_kuberay_pools_as_the_autoscaler_reads_them(kuberay: tuple[dict[str, Any], dict[str, Any]]) -> None:
    spec = kuberay[1]["spec"]["rayClusterSpec"]
    config = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "pfit-ray", "namespace": "default"}, "spec": spec}
    )
    head, gpu, cpu = (config["available_node_types"][name] for name in ("headgroup", "gpu", "cpu"))
    assert head["resources"]["CPU"] == 0
    assert gpu["resources"] == {"CPU": 14, "GPU": 1, "memory": 48 << 30}
    assert cpu["resources"] == {"CPU": 60, "memory": 230 << 30}
    assert [(one["min_workers"], one["labels"]) for one in (gpu, cpu)] == [(0, {"pool": "gpu"}), (0, {"pool": "cpu"})]


def tool(name: str) -> str:
    """A linter that a package of the extra dev brings."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    assert found, f"{name} is missing; install the extra dev"
    return found


def test_shell_linter() -> None:
    done = subprocess.run([tool("shellcheck"), CLUSTER / "slurm.sbatch"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_container_linter() -> None:
    done = subprocess.run([tool("hadolint"), CLUSTER / "Containerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_one_version_of_ray_and_one_image_everywhere() -> None:
    text = (CLUSTER / "Containerfile").read_text()
    (version,) = re.findall(r"^ARG RAY_VERSION=(.+)$", text, re.MULTILINE)
    assert f'rayVersion: "{version}"' in (CLUSTER / "kuberay.yaml").read_text()
    assert f'"ray[default]=={version}"' in (REPOSITORY / "docs" / "cluster.md").read_text()
    for line in re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", text, re.MULTILINE):
        for source in line.split():
            assert (REPOSITORY / source).exists(), source
