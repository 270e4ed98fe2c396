"""``nbkit benchmark write | judge`` as one types it, and the page: one file, whole, escaped."""

from __future__ import annotations

import json
import re
from functools import partial

import pandas as pd
import pytest

from nbkit.benchmark.tasks import FROZEN
from nbkit.figures.marks import ENTERED
from tests.benchmark.little import brighter, hand_in, hand_in_images, volume_rows


@pytest.fixture
def nbkit(nbkit):
    """``nbkit("write", ...)`` gives exit code, output and errors."""
    return partial(nbkit, "benchmark")


@pytest.fixture
def written(nbkit, task, tmp_path):
    """The folder of the task."""
    code, out, _ = nbkit("write", "ageing", "--to", tmp_path / "task", "--profile", "smoke")
    assert code == 0 and "6 training people, 6 test people, 12 forecasts asked for" in out and "open truth" in out
    return tmp_path / "task"


def test_a_page_is_one_file_with_everything_in_it(nbkit, written, task, tmp_path):
    lost = list(task.by_label)[0]
    pictures = hand_in_images(tmp_path / "pictures", task, brighter)
    told = {"name": "<script>alert(1)</script>", "seconds_per_forecast": 12.5}
    (pictures / "entrant.json").write_text(json.dumps(told))
    rows = volume_rows(task, lambda last, true: (last + true) / 2, half_width=0.02, without=[lost])
    page, scores, ranks = tmp_path / "page.html", tmp_path / "scores.csv", tmp_path / "ranks.csv"
    numbers = hand_in(tmp_path / "numbers", rows)
    code, out, _ = nbkit("judge", written, pictures, numbers, "--out", page, "--scores", scores, "--ranks", ranks)
    assert code == 0
    assert f"numbers: no forecast of 1 of 6 people, scored as no change: sub-{lost} (2)" in out and str(page) in out
    assert ENTERED["numbers"].colour != ENTERED[told["name"]].colour, "one colour each on the whole page"
    text = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "<script" not in text
    assert FROZEN["ageing-1"] in text and "open truth" in text and f"sub-{lost} (2)" in text and "12.5" in text
    assert re.search(r'Content-Security-Policy" content="default-src \'none\'; img-src data:', text)
    shown = re.findall(r'(?:src|href)="([^"]{0,20})', text)
    assert shown and all(place.startswith("data:image/webp") for place in shown)
    for said in ("Who stands where", "Entrants against each other", "weighted error score", "Are they as sure",
                 "By diagnosis at the first scan", "worst person, sub-", "Cost", "no change"):
        assert said in text, said
    table = pd.read_csv(scores)
    assert {"numbers", "no_change", "mean_slope"} <= set(table["system"]) and len(set(table["subject"])) == 6
    stand = pd.read_csv(ranks).set_index(["metric", "system"])
    kinds = stand["kind"]["ventricle"]
    assert set(kinds.index[kinds == "entrant"]) == {"numbers", told["name"]} and kinds["no_change"] == "control"
    true = table[(table["metric"] == "ventricle") & (table["system"] == "numbers")]
    assert stand["mean"]["ventricle", "numbers"] == pytest.approx(true.groupby("subject")["value"].mean().mean())


def test_what_is_wrong_ends_with_two_and_says_which_file(nbkit, written, task, tmp_path):
    rows = volume_rows(task, lambda last, true: last)
    rows.loc[3, "value"] = float("nan")
    code, _, err = nbkit("judge", written, hand_in(tmp_path / "mine", rows), "--out", tmp_path / "page.html")
    assert code == 2 and "mine/volumes.tsv, row 5: value" in err and not (tmp_path / "page.html").exists()
    code, _, err = nbkit("judge", tmp_path / "mine", written)
    assert code == 2 and "`nbkit benchmark write` wrote" in err
    code, _, err = nbkit("judge", written, tmp_path / "mine", "--systems", "brpl")
    assert code == 2 and "Did you mean 'brlp'" in err
    code, _, err = nbkit("write", "agein", "--to", tmp_path / "other")
    assert code == 2 and "ageing-1" in err


def test_a_data_set_of_other_people_is_not_judged(nbkit, written, task, tmp_path):
    mine = hand_in(tmp_path / "mine", volume_rows(task, lambda last, true: last))
    about = written / "dataset_description.json"
    told = json.loads(about.read_text())
    told["nbkit"]["WantedHash"] = "0" * 12
    about.write_text(json.dumps(told))
    code, _, err = nbkit("judge", written, mine)
    assert code == 2 and "WantedHash '000000000000', not" in err
    del told["nbkit"]["Seed"]
    about.write_text(json.dumps(told))
    code, _, err = nbkit("judge", written, mine)
    assert code == 2 and "expected the field 'Seed'" in err
