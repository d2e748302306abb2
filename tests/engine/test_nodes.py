"""The check of a cluster's nodes before work begins: what is wrong is said in one line."""

from pathlib import Path

from drift.engine.nodes import Sight, look, nodes_in_words, trouble_of

FOLDER = Path("/shared/store")


def sight(node: str, *files: str, code: str = "1+a") -> Sight:
    return Sight(node, code, frozenset(files))


def test_nodes_that_see_each_other_are_fine(tmp_path: Path):
    first = [look(tmp_path, name) for name in ("here", "a", "b")]
    second = [look(tmp_path, name) for name in ("a", "b")]
    assert trouble_of(tmp_path, first[0], first[1:], second) is None


def test_another_code():
    problem = trouble_of(FOLDER, sight("here", "here"), [sight("a", "here", "a", code="1+b")], [])
    assert problem is not None
    assert problem.startswith("node a runs other code: 1+b, here 1+a. Install the same")


def test_no_such_folder_on_a_node(tmp_path: Path):
    missing = look(tmp_path / "gone", "a")
    assert missing.files is None
    own = look(tmp_path, "here")
    problem = trouble_of(tmp_path, own, [missing], [])
    assert problem == (
        f"node a does not see {tmp_path} as this one does (no such folder). Every node must see the store and the run "
        "folder under the same path, for example on NFS or Lustre."
    )


def test_another_disk_under_the_same_path():
    first = [sight("a", "a", "here"), sight("b", "b")]
    second = [sight("a", "a", "here"), sight("b", "b")]
    problem = trouble_of(FOLDER, sight("here", "here"), first, second)
    assert problem is not None
    assert problem.startswith("node a does not see what b wrote into /shared/store.")


def test_the_nodes_are_named():
    def node(name: str, **resources: float) -> dict[str, object]:
        return {"NodeManagerHostname": name, "Resources": resources}

    assert nodes_in_words([node("head", CPU=1.0)]) == "1 node: head (1 core)"
    assert nodes_in_words([node("a", CPU=8.0, GPU=2.0), node("b", GPU=1.0)]) == (
        "2 nodes: a (8 cores, 2 GPUs), b (0 cores, 1 GPU)"
    )
    many = nodes_in_words([node(f"n{number}", CPU=2.0) for number in range(20)])
    assert many.startswith("20 nodes: n0 (2 cores), n1")
    assert many.endswith("n7 (2 cores), 12 more")
