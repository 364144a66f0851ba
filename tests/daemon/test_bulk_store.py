"""Archives in an object store: one that is played by a folder, and one that speaks S3."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon.classifier import MAX_BYTES
from tests.daemon.test_bulk import needs_ray, rows_in
from tests.faces import MOODS
from tests.helpers import jpeg, json_lines, moodsort, sha256
from trainer.bundle import Bundle

fs = pytest.importorskip("pyarrow.fs", reason="pyarrow is not installed: pip install -e '.[dev]'")
pytestmark = needs_ray

S3 = os.environ.get("MOODSORT_TEST_S3")
"""What follows the ? in an address of a store that the test may make a bucket in."""


def write(files: Any, path: str, content: bytes) -> None:
    with files.open_output_stream(path) as out:
        out.write(content)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """A folder, known to pyarrow as something else."""
    (tmp_path / "bucket" / "photos" / "2019").mkdir(parents=True)
    return fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())


def test_objects_are_fetched_and_judged_like_files(store: Any, shipped: Bundle) -> None:
    from daemon.bulk.judge import LISTED, PROBLEM, Judge
    from daemon.bulk.places import Place
    from daemon.bulk.results import digests, left
    from daemon.bulk.sources import source_of

    source = source_of(Place(store, "bucket/photos", "s3://bucket/photos"))
    write(store, "bucket/photos/1.jpg", jpeg("happy", 1))
    write(store, "bucket/photos/2019/2.jpg", jpeg("sad", 2))
    write(store, "bucket/photos/.hidden", b"")
    write(store, "bucket/photos/huge.jpg", b"")
    listed = {file.path.decode(): file for file in left(source, digests([]))}
    assert set(listed) == {f"bucket/photos/{n}" for n in ("1.jpg", "2019/2.jpg", "huge.jpg")}
    one = {"path": b"bucket/photos/1.jpg", "size_bytes": listed["bucket/photos/1.jpg"].size_bytes}
    told = [
        one,
        {"path": b"bucket/photos/huge.jpg", "size_bytes": MAX_BYTES + 1},
        {"path": b"bucket/photos/gone.jpg", "size_bytes": 7},
    ]
    import pyarrow as pa

    with closing(Judge(shipped, source, 1, 0.0)) as judge:
        judged, huge, gone = judge(pa.Table.from_pylist(told, LISTED)).to_pylist()
    assert judged["source_path"] == "s3://bucket/photos/1.jpg"
    assert (judged["label"], judged["sha256"]) == ("happy", sha256(jpeg("happy", 1)))
    assert (huge["error_code"], huge["size_bytes"]) == ("too_large", MAX_BYTES + 1)
    assert gone[PROBLEM].startswith("The file cannot be read: ")
    done = digests(["s3://bucket/photos/1.jpg"])
    assert "bucket/photos/1.jpg" not in {file.path.decode() for file in left(source, done)}


def test_results_are_written_there_too(store: Any) -> None:
    import pyarrow as pa

    from daemon.bulk.places import Place
    from daemon.bulk.results import digests, held
    from db.exporting import arrow_schema

    place = Place(store, "bucket/moods", "s3://bucket/moods")
    with held(place, "m") as results:
        results.add(pa.Table.from_pylist([{"source_path": "s3://bucket/1.jpg"}], arrow_schema()))
    with held(place, "m") as results:
        assert list(results.done()) == list(digests(["s3://bucket/1.jpg"]))


def copy(*places: str | Path) -> None:
    """In another process, as somebody does who has files there."""
    code = "import sys; from pyarrow import fs; fs.copy_files(*sys.argv[1:])"
    subprocess.run([sys.executable, "-c", code, *places], check=True)


@pytest.mark.skipif(
    S3 is None,
    reason="no store that speaks S3 is named: MOODSORT_TEST_S3='endpoint_override=HOST:PORT"
    "&scheme=http&region=us-east-1', with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
)
def test_an_archive_in_s3_is_judged_into_s3_and_not_twice(tmp_path: Path) -> None:
    bucket = f"s3://moodsort-{secrets.token_hex(6)}"
    names = [f"{mood}/{seed}.jpg" for mood in MOODS for seed in range(3)]
    for name in names:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        mood, seed = name.removesuffix(".jpg").split("/")
        (tmp_path / "photos" / name).write_bytes(jpeg(mood, int(seed)))
    (tmp_path / "photos" / "text.jpg").write_bytes(b"no image")
    copy(tmp_path / "photos", f"{bucket}/photos?{S3}&allow_bucket_creation=true")
    args = [f"{bucket}/photos?{S3}", "--to", f"{bucket}/moods?{S3}", "--json"]
    done = moodsort("bulk", *args)
    assert done.stderr == ""
    counts = {"happy": 3, "sad": 3, "failed": 1, "unread": 0}
    assert json_lines(done.stdout) == [{**counts, "done_before": 0}]
    again = moodsort("bulk", *args)
    assert json_lines(again.stdout) == [{**dict.fromkeys(counts, 0), "done_before": 7}]
    (tmp_path / "moods").mkdir()
    copy(f"{bucket}/moods?{S3}", tmp_path / "moods")
    assert {row["source_path"]: row["label"] for row in rows_in(tmp_path / "moods")} == {
        f"{bucket}/photos/text.jpg": None,
        **{f"{bucket}/photos/{name}": name.split("/")[0] for name in names},
    }
