# SPDX-License-Identifier: Apache-2.0
"""`sandboxctl export recipe`: what is no recipe, and where the pod that reads one is placed."""

import pytest

from sandbox_api.experiment import PodProfile
from sandbox_api.status import ExperimentStatus, JobStatus, ResultRef
from sandbox_operator.build.reading_pod import reading_pod
from sandbox_operator.cli.experiments import Ended
from sandbox_operator.cli.export import Source, Stored, written

RESULT = ResultRef(path="experiments/demo-1/jobs/a/result.json", sha256="0" * 64, bytes=1)
JOB = JobStatus(id="anonymous/1/execution/0", hook="ProcessDataHook", meta_name="process", result=RESULT)
SOURCE = Source(JOB, "experiments/demo-1/jobs/a/recipe.yaml", "claim", "image", 1000, PodProfile())
STORED = Stored("demo", "lab", "uid", {}, ExperimentStatus())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a list", "holds no recipe: there is no list `process` in it"),
        ("process: {a: 1}", "holds no recipe: there is no list `process` in it"),
        ("", "holds no recipe"),
        ("a: [", "is not YAML: "),
    ],
)
def test_what_is_no_recipe_is_named_with_its_file(text: str, said: str) -> None:
    with pytest.raises(Ended, match=r"^experiments/demo-1/jobs/a/recipe\.yaml ") as error:
        written(STORED, SOURCE, text, None)

    assert said in str(error.value)


def test_a_recipe_without_data_keys_is_written_whole() -> None:
    text = written(STORED, SOURCE, "process: [{text_length_filter: {min_len: 3}}]\nnp: 4\n", None)

    assert text.endswith("\nprocess:\n- text_length_filter:\n    min_len: 3\nnp: 4\n")
    assert "Left out" not in text


def test_the_pod_goes_where_the_hook_went_and_pulls_with_its_secrets() -> None:
    """Else it waits for an image or a volume that only those nodes have."""
    profile = {"nodeSelector": {"disk": "fast"}, "imagePullSecrets": ["pull"], "tolerations": [{"operator": "Exists"}]}
    pod = reading_pod(
        name="demo-export-1", namespace="lab", experiment=("demo", "uid"), image="image", claim="claim", path="a/recipe.yaml",
        run_as=1000, profile=PodProfile.model_validate(profile),
    )  # fmt: skip

    assert pod["spec"]["nodeSelector"] == {"disk": "fast"}
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["spec"]["tolerations"] == [{"operator": "Exists"}]
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == ("uid", False)
