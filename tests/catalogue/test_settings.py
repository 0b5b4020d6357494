import pytest

from solovox.catalogue.settings import DEFAULTS, MARK, Job, Settings, fix_job, identify, plan_job
from solovox.catalogue.storage import Folder
from solovox.errors import SolovoxError

IDENTITY = {"name": "tiny", "sha256": "a" * 64, "config": "b" * 64}


@pytest.fixture
def out(tmp_path) -> Folder:
    return Folder(str(tmp_path))


def begin(out, **settings):
    job = plan_job("songs", out, "tiny", "cpu", Settings(**settings))
    resolved = {**vars(job.settings), "steps": 2, "subtype": "float"}
    return fix_job(out, job, resolved, IDENTITY)


def test_what_is_not_said_is_as_it_was(out):
    begun = begin(out, seed=3, shards=5)
    assert begun.settings.seed == 3
    assert begun.settings.extension == DEFAULTS.extension
    again = plan_job("songs", out, None, "cuda", Settings())
    assert (again.settings, again.model, again.identity) == (begun.settings, "tiny", IDENTITY)
    assert plan_job("songs", out, None, "cpu", Settings(seed=3, steps=2)).settings == begun.settings


@pytest.mark.parametrize(
    "given", [{"seed": 4}, {"shards": 6}, {"steps": 1}, {"extension": "flac"}, {"threads": 2}]
)
def test_what_is_said_differently_is_refused(out, given):
    begin(out, seed=3, shards=5)
    (name, value) = next(iter(given.items()))
    with pytest.raises(SolovoxError, match=f"was begun with {name} .*, not {value}"):
        plan_job("songs", out, None, "cpu", Settings(**given))


def test_of_two_first_runs_the_second_is_refused_if_it_differs(out):
    job = plan_job("songs", out, "tiny", "cpu", Settings(seed=1))
    begin(out, seed=2)
    with pytest.raises(SolovoxError, match="was begun with seed 2, not 1"):
        fix_job(out, job, vars(job.settings), IDENTITY)


def test_of_two_first_runs_the_second_is_refused_if_its_model_differs(out):
    job = begin(out)
    with pytest.raises(SolovoxError, match="was begun with the model tiny"):
        fix_job(out, job, vars(job.settings), {**IDENTITY, "sha256": "c" * 64})


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "settings": {}}']
)
def test_what_is_no_catalogue_of_ours_is_left_alone(out, text):
    out.write(MARK, text.encode())
    with pytest.raises(SolovoxError, match=f"{MARK} is not of this version"):
        plan_job("songs", out, None, "cpu", Settings())


def test_a_job_travels_as_json(out):
    job = begin(out, gain=-3.0)
    assert Job.from_json(job.to_json()) == job


def test_models_are_told_apart_by_weights_and_configuration():
    one = identify(b'{"name": "tiny", "sha256": "aa", "chunk": 1}')
    two = identify(b'{"name": "tiny", "sha256": "aa", "chunk": 2}')
    assert one["sha256"] == two["sha256"] == "aa"
    assert one != two
