"""Sizing: the resources of workers, by the capacities of the nodes."""

from __future__ import annotations

import pytest

from cluster.sizing import Cluster, Node, NoRoomError, Share, share_out, worker_needs


def _cluster(*nodes: tuple[int, int]) -> Cluster:
    """A cluster of nodes with so many CPUs and GPUs."""
    return Cluster(tuple(Node(f"node-{i}", {"CPU": cpus, "GPU": gpus}) for i, (cpus, gpus) in enumerate(nodes)))


@pytest.mark.parametrize(
    ("nodes", "runs", "workers", "share"),
    [
        ([(8, 0)], 1, 1, Share(8, 0, 1)),
        ([(8, 0)], 2, 2, Share(2, 0, 2)),
        ([(8, 0)], 3, 1, Share(2, 0, 3)),
        ([(7, 0)], 2, 1, Share(3, 0, 2)),
        ([(2, 0)], 3, 1, Share(1, 0, 2)),  # the third run follows
        ([(16, 0)] * 4, 1, 1, Share(16, 0, 1)),
        ([(16, 0)] * 4, 3, 1, Share(16, 0, 3)),
        ([(16, 0)] * 4, 1, 3, Share(16, 0, 1)),
        ([(16, 0)] * 4, 3, 2, Share(8, 0, 3)),
        ([(1, 0)] * 2, 1, 1, Share(1, 0, 1)),
        ([(1, 0)] * 3, 1, 3, Share(1, 0, 1)),
        ([(1, 0)] * 3, 2, 2, Share(1, 0, 1)),
        ([(0, 0), (4, 0), (4, 0)], 1, 1, Share(4, 0, 1)),  # a head without CPUs
        ([(3, 0), (5, 0)], 1, 2, Share(3, 0, 1)),
        ([(3, 0), (5, 0)], 1, 4, Share(1, 0, 1)),
        ([(8, 0), (32, 1)], 1, 1, Share(32, 1, 1)),  # CPUs of the nodes with a GPU only
        ([(8, 0), (32, 4)], 3, 1, Share(10, 1, 3)),
        ([(8, 0), (32, 2)], 3, 1, Share(16, 1, 2)),
        ([(8, 0), (32, 1), (16, 1)], 1, 2, Share(16, 1, 1)),
        ([(2, 8)], 1, 2, Share(1, 1, 1)),
    ],
)
def test_all_workers_at_once_fit_on_the_nodes_and_share_their_cpus(
    nodes: list[tuple[int, int]], runs: int, workers: int, share: Share
) -> None:
    cluster = _cluster(*nodes)
    assert share_out(cluster, runs=runs, workers=workers) == share
    assert cluster.holds(share.needs) >= share.runs_at_once * workers
    assert share.cpus <= max(node.cpus for node in cluster.nodes)


@pytest.mark.parametrize(
    ("nodes", "workers", "resource", "words"),
    [
        ([(2, 0)], 3, "CPU", "3 workers with 1 CPU each do not fit on the nodes that are up, which hold 2."),
        ([(1, 0)] * 2, 3, "CPU", "which hold 2"),
        ([(64, 0), (16, 2)], 3, "GPU", "3 workers with 1 CPU, 1 GPU each do not fit on the nodes that are up"),
        ([(1, 8)], 2, "GPU", "which hold 1"),
        ([(0, 0)], 1, "CPU", "No node that is up has a CPU for a worker."),
        ([(8, 0), (0, 1)], 1, "CPU", "No node that is up and has a GPU has a CPU for a worker."),
        ([], 1, "CPU", "No node that is up has a CPU"),
    ],
)
def test_workers_that_no_nodes_can_hold_are_refused_with_the_resource_that_is_short(
    nodes: list[tuple[int, int]], workers: int, resource: str, words: str
) -> None:
    with pytest.raises(NoRoomError) as refused:
        share_out(_cluster(*nodes), runs=2, workers=workers)
    assert refused.value.resource == resource
    assert words in refused.value.problem
    assert refused.value.remedy.endswith(".")


@pytest.mark.parametrize(("runs", "workers"), [(0, 1), (1, 0)])
def test_nothing_to_share_among_is_a_bug(runs: int, workers: int) -> None:
    with pytest.raises(AssertionError):
        share_out(_cluster((8, 0)), runs=runs, workers=workers)


def test_parts_of_a_resource_and_custom_ones_count_exactly() -> None:
    node = Node("edge", {"CPU": 4.0, "edge_box": 1.0, "memory": 1e9})
    assert node.holds({"edge_box": 0.1}) == 10
    assert node.holds({"CPU": 1, "edge_box": 0.3}) == 3
    assert node.holds({"CPU": 1, "other": 0.001}) == 0
    assert node.holds({"memory": 4e8} | worker_needs(1)) == 2
