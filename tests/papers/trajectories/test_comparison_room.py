"""The head-to-head's room: floor and reach in the metrics and units of the comparison."""

from __future__ import annotations

import pandas as pd
import pytest

from nbkit.claims.room import Room
from nbkit.core.tidy import where
from nbkit.papers.trajectories import comparison_room, head_to_head
from nbkit.papers.trajectories.experiments import Scores
from tests.papers.trajectories.ageing_balls import cohort, people, person

TRAIN = cohort(people(5, "HC", seed=1) + people(5, "AD", seed=2))
TEST = cohort([person(f"t{k}", group, ages=(62, 66, 70), size=1.0, centre=(0, 0, 0))
               for k, group in enumerate(("HC", "AD", "AD"))])
MISSES = {"brlp": 7.0, "hindsight": 3.0, "floor": 1.0}


def scored(models: tuple[str, ...]) -> pd.DataFrame:
    """Errors of a hippocampus that are known, and images of one score."""
    where_, images = [], []
    for model in models:
        for s in TEST:
            told = {"subject": s.id, "session": "2", "diagnosis": s.diagnosis, "age": 70, "years": 8.0, "model": model}
            scores = dict.fromkeys(("ssim", "psnr", "mae", "sharpness", "ssim_whole", "psnr_whole", "mae_whole"), 0.5)
            images.append(told | scores)
            errors = {f"error_{u}": MISSES[model] for u in ("pct", "mm3", "brain_pct")}
            where_ += [told | errors | {"structure": "hippocampus", "reading": r} for r in ("own", "alike")]
    one = Scores(pd.DataFrame(images), pd.DataFrame(where_))
    return head_to_head.tidy_scores({"one": one})


@pytest.fixture(scope="module")
def found() -> dict[str, pd.DataFrame]:
    return comparison_room.rooms(TRAIN, TEST, scored(("brlp", "hindsight", "floor")), shown={"one": 1})


def test_the_floor_is_read_from_the_noise_free_scan_or_else_from_the_scan(found):
    floor = where(found["one"], system="floor", structure="hippocampus")
    assert (floor["value"] == 1).all() and set(floor["id"]) == {"head_to_head.one.hippocampus.floor"}
    other = comparison_room.rooms(TRAIN, TEST, scored(("brlp", "hindsight")), shown={"one": 1})["one"]
    assert (where(other, system="floor", structure="hippocampus")["value"] == 3).all()


def test_what_decides_makes_a_room_of_the_ledgers_ids(found):
    *images, (frame, told) = comparison_room.decided(found)
    assert told == {"of": "head_to_head.one.hippocampus.", "measure": "hippocampus, error (%), from one scan"}
    for picture, said in images:
        room = Room.of_frame(picture, of=[said["of"]], measure=said["measure"], better=said["better"])
        assert room.floor == 0.5 and room.of[0].removesuffix(".").endswith(picture["metric"].iloc[0])
    assert [said["of"].split(".")[2] for _, said in images] == ["ssim", "psnr", "mae"]
    room = Room.of_frame(frame, of=[told["of"]], measure=told["measure"])
    assert room.floor == 1 and "head_to_head.one.hippocampus.no_change" in room.controls
    assert room.controls["head_to_head.one.hippocampus.no_change"] > room.reach


def test_floor_and_reach_stand_beneath_the_scores_once(found):
    rows = comparison_room.bounded(scored(("brlp", "hindsight", "floor")), found)
    part = where(rows, metric="hippocampus", reading="alike", unit=head_to_head.PERCENT)
    assert part.groupby("system")["subject"].count().to_dict() == {"brlp": 3, "floor": 3, "hindsight": 3, "reach": 3}
    assert set(part["diagnosis"]) == {"CN", "AD"}
    tried = where(found["one"], structure="hippocampus").groupby("system")["value"].mean()
    assert where(part, system="reach")["value"].mean() == pytest.approx(min(tried["reach"], tried["reach_ridge"]))
    assert comparison_room.bounded(rows, {}) is rows
    assert where(rows, metric="ssim", reading="brain", system="reach")["subject"].tolist() == list(TEST.ids)
    without = scored(("brlp",))
    without = without[without["reading"].isin(("brain", "whole"))]
    alone = comparison_room.rooms(TRAIN, TEST, without, shown={"one": 1})
    assert [told["of"].split(".")[2] for _, told in comparison_room.decided(alone)] == ["ssim", "psnr", "mae"]
    assert set(comparison_room.bounded(without, alone)["system"]) == {"brlp", "reach"}
    main = head_to_head.deciding(rows)
    assert (main.loc[main["system"] == "reach", "id"] == "").all()
    assert "head_to_head.one.ssim.floor" in set(main["id"])
