"""The cluster's nodes and resources, as Ray reports them and as the API shows them."""

import json

import pytest
from ray.autoscaler._private.util import parse_usage
from typer.testing import CliRunner

from services.cli.main import app
from services.embedded.cluster import Readiness
from services.jobs.cluster_view import ClusterView
from services.jobs.ray_jobs import RayJobs, RayUnreachableError
from services.jobs.ray_nodes import Amount
from tests.services.clients import Answer

GIB = 2**30
HEAD = {"CPU": (1.0, 4.0), "memory": (0.0, 8.0 * GIB), "object_store_memory": (0.0, GIB), "node:127.0.0.1": (0, 1.0)}
# A placement group holds two of four CPUs and half a GPU, and one of these CPUs is in use.
GROUP = "0123456789abcdef0123456789abcdef0123"
WORKER = {
    "CPU": (3.0, 4.0), f"CPU_group_{GROUP}": (1.0, 2.0), f"CPU_group_0_{GROUP}": (1.0, 2.0),
    "GPU": (0.5, 1.0), f"GPU_group_{GROUP}": (0.0, 0.5), f"GPU_group_0_{GROUP}": (0.0, 0.5),
    "memory": (0.5 * GIB, 2.0 * GIB),
}  # fmt: skip


def _summary(**more):
    def node(name, usage, state="ALIVE", head=False):
        total = {resource: amount for resource, (_, amount) in usage.items() if "group" not in resource}
        return {"cpu": 3.5, "raylet": {"nodeId": name, "state": state, "isHeadNode": head, "resourcesTotal": total}}

    nodes = [node("aa", WORKER), node("bb", HEAD, head=True), node("cc", HEAD, "DEAD")]
    used = {name: "\n".join(parse_usage(usage, verbose=True)) for name, usage in (("aa", WORKER), ("bb", HEAD))}
    return Answer(body=json.dumps({"data": {"summary": nodes, "nodeLogicalResources": used} | more}).encode())


def test_rays_own_texts_are_understood(script):
    server = script(_summary())
    with RayJobs(server.url, None) as ray:
        head, worker = ray.nodes()
    assert server.requests[0][1] == "/nodes?view=summary"
    assert (head.id, head.is_head, worker.id, worker.is_head) == ("bb", True, "aa", False)
    assert (head.cpus, head.gpus, head.memory) == (Amount(4, 3), Amount(0, 0), Amount(8 * GIB, 8 * GIB))
    assert (worker.cpus, worker.gpus) == (Amount(4, 1), Amount(1, 0.5))
    assert worker.memory == Amount(2 * GIB, 1.5 * GIB)


def test_what_ray_does_not_tell_is_not_known_and_what_is_no_summary_is_refused(script):
    with RayJobs(script(_summary(nodeLogicalResources={})).url, None) as ray:
        assert [node.cpus for node in ray.nodes()] == [Amount(4, None)] * 2
    for body in (b"{}", b'{"data": 1}', b'{"data": {"summary": [{"raylet": {}}]}}', b"<html>"):
        with RayJobs(script(Answer(body=body)).url, None) as ray, pytest.raises(RayUnreachableError):
            ray.nodes()


def test_ray_is_asked_once_for_many_callers_and_afresh_when_it_comes_back(script):
    server, here = script(_summary()), True
    with RayJobs(server.url, None) as ray:
        view = ClusterView(lambda: ray if here else None)
        assert [len(view.nodes()) for _ in range(5)] == [2] * 5
        assert len(server.requests) == 1
        here = False
        assert view.nodes() is None
        here = True
        assert len(view.nodes()) == 2
    assert len(server.requests) == 2


def test_the_api_shows_nodes_and_sums_and_says_so_where_ray_is_away(client, service, script, monkeypatch):
    away = client.cluster()
    assert (away.ray.state, away.nodes, away.cpus) == ("unavailable", [], None)
    assert "does not answer" in away.ray.note
    with RayJobs(script(_summary(), Answer(500, b"trouble")).url, None) as ray:
        monkeypatch.setattr(service, "cluster_view", ClusterView(lambda: ray))
        monkeypatch.setattr(service.cluster, "readiness", lambda: Readiness("ready", "Ray is here."))
        found = client.cluster()
        assert (found.ray.note, [node.head for node in found.nodes]) == ("Ray is here.", [True, False])
        assert (found.cpus.total, found.cpus.free, found.gpus.total, found.gpus.free) == (8, 4, 1, 0.5)
        assert found.memory_bytes.free == 9.5 * GIB
        printed = CliRunner().invoke(app, ["cluster", "--server", client.server])
        assert "Ray is ready: Ray is here." in printed.stderr
        assert [line.split("\t")[1:4] for line in printed.stdout.splitlines()[-2:]] == [
            ["head", "3", "4"],
            ["worker", "1", "4"],
        ]
        assert all(set(cell) <= set("0123456789") for cell in printed.stdout.splitlines()[-1].split("\t")[6:])
        monkeypatch.setattr(service, "cluster_view", ClusterView(lambda: ray))
        silent = client.cluster()
    assert (silent.ray.state, silent.nodes) == ("unavailable", [])
    assert "trouble" in silent.ray.note
