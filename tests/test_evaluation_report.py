"""Summary, CSV, Markdown, page and comparison of runs: round trips, known p-values, and what has no number."""

import csv
import itertools
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from videopainter.cli.compare import CompareOptions, compare, read_options
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.evaluation.players import outline
from videopainter.files import to_json
from videopainter.metrics.catalog import CSV_COLUMNS, METRICS
from videopainter.metrics.frechet import frechet
from videopainter.metrics.report.comparison import RunSummary, compare_runs, holm, load_runs, sign_flip_p
from videopainter.metrics.report.comparison_text import better_run, comparison_csv, comparison_markdown
from videopainter.metrics.report.page import PageVideo, write_page
from videopainter.metrics.report.published import PUBLISHED
from videopainter.metrics.report.summary import load_summary, save_summary, summarise
from videopainter.metrics.report.tables import markdown, number_text, write_csv
from videopainter.metrics.scores import VideoScores

INF = math.inf
FETCH = "SqueezeNet: no ckpt/squeezenet.pth; fetch: wget -P ckpt https://example.org/squeezenet.pth"
NASTY = "</script><script>alert('x')</script> & \"quotes\" | pipes"


def video(index=0, name="bear", psnr=(20.0, 22.0), masked=(30.0, 32.0), seed=None, **changes):
    """Scores of a video of two frames, LPIPS left out."""
    features = {}
    if seed is not None:
        generator = np.random.default_rng(seed)
        features = {key: generator.normal(size=6) for key in ("original", "result")}
    return VideoScores(
        **{
            "index": index,
            "name": name,
            "per_frame": {
                "psnr": np.array(psnr),
                "masked_psnr": np.array(masked),
                "mse": 10 ** (-np.array(psnr) / 10),
                "warping_error": np.array([1e-5]),
            },
            "per_video": {"seam_error": 0.001 * index},
            "features": features,
            "left_out": {"lpips": FETCH, "masked_lpips": FETCH, "hole_psnr": "no truth given"},
            "details": {"prompt": "a bear, walking", "region_prompt": "a bear", "frames": 2, "height": 32, "width": 48},
            **changes,
        }
    )


def set_of(count, shift=0.0, protocol="background", run=None, **changes):
    videos = [video(i, f"clip{i}", psnr=(20 + i + shift, 22 + i + shift), seed=i, **changes) for i in range(count)]
    return summarise(videos, run=run or {"seed": 42}, protocol=protocol)


# Summary


def test_means_are_of_videos_not_of_frames():
    summary = summarise(
        [video(0, psnr=(10.0, 20.0)), video(1, "camel", psnr=(30.0,))], run={"seed": 1}, protocol="background"
    )
    psnr = summary["metrics"]["psnr"]
    assert psnr["mean"] == pytest.approx((15 + 30) / 2)
    assert 15 <= psnr["low"] < psnr["mean"] < psnr["high"] <= 30
    assert (psnr["videos"], psnr["infinite"], psnr["left_out"]) == (2, 0, 0)
    assert (psnr["unit"], psnr["direction"]) == ("dB", "higher")
    assert summary["metrics"]["mse"]["direction"] == "lower"
    assert summary["run"] == {"seed": 1} and summary["total_videos"] == 2


def test_infinite_videos_are_counted_and_left_out_of_the_mean():
    videos = [video(0, masked=(INF, INF)), video(1, "b", masked=(30.0, INF)), video(2, "c", masked=(40.0, math.nan))]
    masked = summarise(videos, run={}, protocol="background")["metrics"]["masked_psnr"]
    assert masked["mean"] == 35
    assert (masked["videos"], masked["infinite"]) == (3, 1)


def test_only_infinite_videos_have_an_infinite_mean_and_no_interval():
    summary = summarise([video(0, masked=(INF, INF)), video(1, "b", masked=(INF, INF))], run={}, protocol="background")
    masked = summary["metrics"]["masked_psnr"]
    assert masked["mean"] == INF and masked["low"] is None and masked["infinite"] == 2


def test_one_video_has_no_interval_and_no_vfid():
    summary = summarise([video(seed=0)], run={}, protocol="whole")
    assert summary["metrics"]["psnr"]["low"] is None
    assert "vfid" not in summary["metrics"] and "two videos" in summary["left_out"]["vfid"]


def test_left_out_in_all_and_in_some():
    part = video(1, "b")
    part.per_frame["lpips"], part.left_out = np.array([0.1, 0.3]), {"hole_psnr": "no truth given"}
    summary = summarise([video(0), part], run={}, protocol="background")
    assert summary["metrics"]["lpips"]["mean"] == pytest.approx(0.2)
    assert (summary["metrics"]["lpips"]["videos"], summary["metrics"]["lpips"]["left_out"]) == (1, 1)
    assert summary["left_out"] == {"hole_psnr": "no truth given", "masked_lpips": FETCH}


def test_metrics_that_say_nothing_anywhere_are_told():
    summary = summarise([video(masked=(math.nan, math.nan))], run={}, protocol="background")
    assert "masked_psnr" not in summary["metrics"] and "no video says anything" in summary["left_out"]["masked_psnr"]
    assert summary["videos"][0]["values"]["masked_psnr"] is None


def test_vfid_of_the_set():
    videos = [video(i, f"clip{i}", seed=i) for i in range(4)]
    summary = summarise(videos, run={}, protocol="background")
    real, fake = (np.stack([v.features[key] for v in videos]) for key in ("original", "result"))
    found = summary["metrics"]["vfid"]
    assert found["mean"] == frechet(real, fake).distance > 0
    assert found["videos"] == 4 and found["singular"] is True and found["features"] == 6
    assert (
        summarise([video(i, str(i), seed=i) for i in range(9)], run={}, protocol="whole")["metrics"]["vfid"]["singular"]
        is False
    )


def test_summary_round_trip_keeps_every_number(tmp_path):
    videos = [video(0, masked=(INF, INF), seed=0), video(1, "b", seed=1), video(2, NASTY, seed=2)]
    videos[0].details["odd"] = math.nan
    summary = summarise(videos, run={"seeds": (1, 2), "file": Path("a/b")}, protocol="release")
    save_summary(tmp_path / "metrics.json", summary)

    def refuse(constant):
        raise AssertionError(f"not strict JSON: {constant}")

    json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    loaded = load_summary(tmp_path)
    assert loaded["metrics"] == summary["metrics"]
    assert [v["values"] for v in loaded["videos"]] == [v["values"] for v in summary["videos"]]
    assert loaded["videos"][0]["values"]["masked_psnr"] == INF
    assert loaded["run"] == {"seeds": [1, 2], "file": "a/b"} and loaded["videos"][0]["details"]["odd"] is None
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "videopainter metrics", "version": 99}', "\xff", "null", "[1]"]
)
def test_other_files_are_no_summaries(tmp_path, text):
    (tmp_path / "metrics.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"metrics\.json"):
        load_summary(tmp_path)


def test_summaries_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="expected a file, got none"):
        load_summary(tmp_path / "missing")
    with pytest.raises(InputError, match="at least one"):
        summarise([], run={}, protocol="whole")
    with pytest.raises(InputError, match="each video once"):
        summarise([video(), video()], run={}, protocol="whole")
    with pytest.raises(InputError, match="background, whole, release"):
        summarise([video()], run={}, protocol="none")


# Tables


def test_csv_is_the_releases(tmp_path):
    videos = [video(7, "b", masked=(INF, INF), seed=1), video(3, 'quo"te,', seed=2)]
    summary = summarise(videos, run={}, protocol="background")
    write_csv(tmp_path / "metrics.csv", summary)
    with (tmp_path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["Video_Index"] for row in rows] == ["3", "7", "Average"]
    assert [row["Video_Name"] for row in rows] == ['quo"te,', "b", ""]
    assert {row["Total_Videos"] for row in rows} == {"2"}
    assert float(rows[0]["PSNR"]) == videos[1].value("psnr")
    assert [row["Masked_PSNR"] for row in rows] == ["31.0", "inf", "31.0"]
    assert [bool(row["FID_Score"]) for row in rows] == [False, False, True]
    assert {row["LPIPS"] for row in rows} == {""}
    assert rows[0]["Video_Caption"] == "a bear, walking" and rows[0]["Masked_Target_Caption"] == "a bear"
    assert rows[2]["Video_Caption"] == ""


def test_every_number_column_is_a_metrics():
    texts = {"Video_Index", "Total_Videos", "Video_Name", "Video_Caption", "Masked_Target_Caption"}
    assert {metric.column for metric in METRICS.values() if metric.column} == set(CSV_COLUMNS) - texts


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (23.456, 2, "23.46"),
        (0.0, 4, "0.0000"),
        (0.000234, 4, "0.00023"),
        (0.0103, 2, "0.010"),
        (1.24e-5, 4, "1.2e-05"),
        (-3.0, 2, "-3.00"),
        (INF, 2, "∞"),
        (None, 2, "–"),
        (math.nan, 2, "–"),
    ],
)
def test_numbers_as_text(value, digits, text):
    assert number_text(value, digits) == text


def test_published_rows_are_in_our_units():
    assert list(PUBLISHED) == ["standard", "long", "davis", "edit_standard", "edit_long"]
    row = PUBLISHED["davis"].values
    assert (row["masked_psnr"], row["masked_lpips"], row["masked_mse"], row["vfid"]) == (25.27, 0.0429, 0.0045, 0.09)
    assert all(set(row.values) <= set(METRICS) for row in PUBLISHED.values())
    assert all(0 < row.values[key] < 0.1 for row in PUBLISHED.values() for key in ("masked_lpips", "masked_mae"))


def cells(text, label):
    """The cells of the Markdown row that begins with `label`."""
    row = next(line for line in text.splitlines() if line.startswith(f"| {label}"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_markdown_beside_the_paper():
    text = markdown(set_of(3), PUBLISHED["standard"])
    assert cells(text, "metric")[-1] == "paper, VPBench-S"
    row = cells(text, "PSNR (background)")
    assert row[0] == "PSNR (background) ↑, dB" and row[1] == "31.00" and row[3:] == ["3", "23.32"]
    assert cells(text, "PSNR (whole)")[-1] == "–"
    assert "VFID is of 3 videos, too few" in text and "full-size model" in text and "times 100" in text
    left_out = next(line for line in text.splitlines() if line.startswith("- Left out: LPIPS"))
    assert left_out.endswith("fetch: wget -P ckpt https://example.org/squeezenet.pth")


def test_the_papers_fidelity_is_not_set_beside_another_protocols():
    text = markdown(set_of(3, protocol="release"), PUBLISHED["standard"])
    assert cells(text, "PSNR (masked, release)")[-1] == "–"
    assert cells(text, "VFID")[-1] == "0.15" + "00"
    assert "not set beside each other" in text


def test_markdown_tells_of_infinite_videos():
    summary = summarise([video(0, masked=(INF, INF)), video(1, "b")], run={}, protocol="background")
    assert "PSNR (background): infinite in 1 of 2 videos (nothing was changed there)" in markdown(summary)


def nothing_scored():
    scores = VideoScores(index=0, name="a", left_out=dict.fromkeys(METRICS, FETCH))
    return summarise([scores], run={}, protocol="background")


def test_reports_without_any_number(tmp_path):
    summary = nothing_scored()
    assert summary["metrics"] == {} and set(summary["left_out"]) == set(METRICS)
    assert "No metric has a number" in markdown(summary, PUBLISHED["long"])
    write_csv(tmp_path / "metrics.csv", summary)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[-1] == "Average,1" + "," * (len(CSV_COLUMNS) - 2)
    text = write_page(tmp_path / "page", summary, [], "nothing").read_text()
    assert "No metric has a number" in text and "wget -P ckpt" in text


# The page


class Page(HTMLParser):
    """Tags in order, checked to be nested well; addresses; the JSON of the cards."""

    VOID = {"meta", "link", "input", "br", "img"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.addresses, self.data, self.rows, self.scripts = [], [], [], [], 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs)))
        self.addresses += [value for key, value in attrs if key in ("src", "href", "data-src", "poster", "action")]
        self.scripts += tag == "script"

    def handle_endtag(self, tag):
        assert self.open and self.open.pop()[0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "script" and self.open[-1][1].get("type") == "application/json":
            self.data.append(json.loads(data))
        if self.open and self.open[-1][1].get("data-text") is not None:
            self.rows.append(data)


@pytest.fixture
def players(tmp_path):
    files = {}
    for number, label in enumerate(("original", "result")):
        path = tmp_path / f"{label}.mp4"
        with VideoWriter(path, fps=8) as writer:
            writer.write(np.full((2, 32, 48, 3), 100 * number, np.uint8))
        files[label] = path
    return files


def test_page_is_one_folder_without_network(tmp_path, players):
    scores = [video(0, masked=(INF, math.nan)), video(1, "b"), video(2, "no player")]
    summary = summarise(scores, run={"seed": 7}, protocol="background")
    videos = [PageVideo.of(score, players, fps=8, borders=[1]) for score in scores[:2]]
    index = write_page(tmp_path / "page", summary, videos, "Title", published=PUBLISHED["davis"])
    text = index.read_text(encoding="utf-8")
    page = Page(text)
    local = [a for a in page.addresses if not a.startswith(("#", "data:"))]
    assert len(local) == 4 and all((tmp_path / "page" / a).is_file() and a.startswith("media/") for a in local)
    assert (tmp_path / "page" / local[0]).read_bytes() == players["original"].read_bytes()
    # Addresses may be told (commands that fetch weights, SVG's name) but none is loaded.
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {
        "http://www.w3.org/2000/svg",
        "https://example.org/squeezenet.pth",
    }
    assert len(page.data) == 2 and page.data[0]["borders"] == [1] and page.data[0]["frames"] == 2
    plots = {plot["label"]: plot["values"] for plot in page.data[0]["plots"]}
    assert plots["PSNR (whole) ↑"] == [20.0, 22.0] and plots["PSNR (background) ↑"] == ["inf", None]
    assert '"seed": 7' in text.replace("&#34;", '"')


def test_page_draws_the_outline_of_the_hole_and_marks_missing_metrics(tmp_path, players):
    scores = [video(), video(1, "b")]
    summary = summarise(scores, run={}, protocol="background")
    summary["left_out"]["lpips"] = "squeezenet is not there; fetch: wget x"
    shown = PageVideo.of(scores[0], players, fps=8, outlines=["M1 2L3 4Z", ""])
    text = write_page(tmp_path / "page", summary, [shown], "t").read_text()
    assert Page(text).data[0]["outlines"] == ["M1 2L3 4Z", ""]
    assert 'class="outline"' in text and '<tr class="missing"' in text and "squeezenet is not there</td>" in text


def test_an_outline_goes_along_the_hole():
    hole = np.zeros((100, 200), bool)
    hole[20:61, 50:101] = True
    corners = {tuple(map(int, point.split())) for point in outline(hole).strip("MZ").split("L")}
    assert corners == {(252, 205), (502, 205), (502, 605), (252, 605)}
    assert outline(np.zeros((10, 10), bool)) == ""


def test_page_escapes_names_and_captions(tmp_path, players):
    score = video(name=NASTY, details={"prompt": NASTY, "region_prompt": "<img src=x onerror=alert(1)>"})
    summary = summarise([score], run={"note": NASTY}, protocol="background")
    page = Page(write_page(tmp_path / "p", summary, [PageVideo.of(score, players, fps=8)], NASTY).read_text())
    assert page.scripts == 2  # the card's data and ours
    assert not any(address == "x" for address in page.addresses)
    assert {path.name for path in (tmp_path / "p" / "media").iterdir()} == {a[6:] for a in page.addresses if "/" in a}


def test_page_may_be_written_again(tmp_path, players):
    score = video()
    summary = summarise([score], run={}, protocol="background")
    folder, videos = tmp_path / "p", [PageVideo.of(score, players, fps=8)]
    first = write_page(folder, summary, videos, "t").read_text()
    names = sorted(path.name for path in folder.rglob("*"))
    with VideoWriter(players["result"], fps=8) as writer:
        writer.write(np.full((2, 32, 48, 3), 7, np.uint8))
    assert write_page(folder, summary, videos, "t").read_text() == first
    assert sorted(path.name for path in folder.rglob("*")) == names
    assert (folder / "media" / "0000-bear-1.mp4").read_bytes() == players["result"].read_bytes()


def test_page_refuses_what_it_cannot_show(tmp_path, players):
    summary = summarise([video()], run={}, protocol="background")
    cases = [
        (PageVideo(index=9, name="bear", players=players), "of the summary"),
        (PageVideo(index=0, name="bear", players={"x": tmp_path / "no.mp4"}), "no file"),
        (PageVideo(index=0, name="bear", players={"x": tmp_path / "a.mkv"}), "browsers play"),
        (PageVideo(index=0, name="bear", players=players, fps=0), "frames per second"),
    ]
    for wrong, text in cases:
        with pytest.raises(InputError, match=text):
            write_page(tmp_path / "p", summary, [wrong], "t")
    with pytest.raises(InputError, match="each once"):
        write_page(tmp_path / "p", summary, [PageVideo(index=0, name="bear", players={})] * 2, "t")
    assert not (tmp_path / "p" / "index.html").exists()


# Comparison: tests


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_exact_p_of_differences_of_one_sign(count):
    differences = np.random.default_rng(count).uniform(1, 2, count)
    assert sign_flip_p(differences) == 2 / 2**count == sign_flip_p(-differences)


def test_exact_p_by_hand():
    # |±1 ±2 ±3| >= |1 + 2 - 3| = 0 always; >= 4 in four of eight.
    assert sign_flip_p(np.array([1.0, 2.0, -3.0])) == 1
    assert sign_flip_p(np.array([-1.0, 2.0, 3.0])) == 4 / 8
    assert sign_flip_p(np.zeros(4)) == 1


def test_ties_that_differ_by_rounding_count():
    differences = np.array([0.1, 0.2, -0.3, 0.6])
    sums = [abs(round(float(np.dot(s, differences)), 9)) for s in itertools.product((1, -1), repeat=4)]
    assert sign_flip_p(differences) == np.mean(np.array(sums) >= 0.6)


def test_drawn_p_is_near_the_exact_one_and_seeded():
    differences = np.linspace(-1, 1.6, 16)
    signs = np.array(list(itertools.product((1, -1), repeat=16)))
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    assert 0.05 < exact < 0.5
    assert sign_flip_p(differences) == sign_flip_p(differences)
    assert sign_flip_p(differences) == pytest.approx(exact, abs=4 * math.sqrt(exact / 10_000))
    assert sign_flip_p(np.ones(40)) == 1 / 10_001


def test_p_of_no_effect_is_uniform():
    generator = np.random.default_rng(1)
    p = np.array([sign_flip_p(generator.normal(size=8)) for _ in range(400)])
    assert abs(np.mean(p <= 0.25) - 0.25) < 0.07 and abs(np.mean(p <= 0.5) - 0.5) < 0.08


def test_p_needs_finite_differences():
    for wrong in ([], [1.0, INF], [[1.0]]):
        with pytest.raises(ValueError, match="finite"):
            sign_flip_p(np.array(wrong))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


# Comparison: runs


def save(folder, summary):
    folder.mkdir(parents=True)
    save_summary(folder / "metrics.json", summary)
    return str(folder)


def difference(found, key, run="b"):
    return next(d for d in found.differences if (d.key, d.run) == (key, run))


def test_paired_differences(tmp_path):
    places = [save(tmp_path / "a", set_of(10)), save(tmp_path / "b", set_of(10, shift=0.5))]
    found = compare_runs(load_runs(places))
    assert found.runs == ["a", "b"] and found.matched == 10 and found.warnings == []
    psnr = difference(found, "psnr")
    assert psnr.mean == pytest.approx(0.5) and psnr.low == pytest.approx(0.5) and psnr.high == pytest.approx(0.5)
    assert psnr.pairs == 10 and psnr.p == 2 / 1024
    # psnr and mse differ, the three others (p = 1) do not.
    assert psnr.p_holm == pytest.approx(5 * 2 / 1024)
    assert found.means["psnr"] == pytest.approx([25.5, 26.0])
    assert difference(found, "masked_psnr").p == 1
    assert [better_run(difference(found, key), found.described[key], "a") for key in ("psnr", "mse", "seam_error")] == [
        "b",
        "b",
        "",
    ]
    vfid = difference(found, "vfid")
    assert (vfid.mean, vfid.p, vfid.pairs) == (0, None, 0)


def test_infinite_pairs_are_counted_not_averaged():
    first = summarise([video(i, str(i), masked=(30.0 + i,)) for i in range(3)], run={}, protocol="background")
    second = summarise(
        [video(0, "0", masked=(INF,)), video(1, "1", masked=(32.0,)), video(2, "2", masked=(math.nan,))],
        run={},
        protocol="background",
    )
    found = compare_runs([RunSummary(name="a", summary=first), RunSummary(name="b", summary=second)])
    masked = difference(found, "masked_psnr")
    assert (masked.pairs, masked.not_finite, masked.mean, masked.p, masked.low) == (1, 1, 1.0, None, None)
    assert "1 (+1 ∞)" in comparison_markdown(found)


def test_unmatched_videos_are_named(tmp_path):
    more = summarise([video(i, f"clip{i}") for i in range(4)], run={}, protocol="background")
    places = [save(tmp_path / "a", more), save(tmp_path / "b", set_of(3))]
    found = compare_runs(load_runs(places))
    assert found.matched == 3
    assert any("a: 1 of 4 videos are not in all runs: clip3" in warning for warning in found.warnings)


def test_videos_match_by_name_whatever_their_number(tmp_path):
    renumbered = summarise(
        [video(9 - i, f"clip{i}", psnr=(20 + i, 22 + i)) for i in range(3)], run={}, protocol="whole"
    )
    places = [save(tmp_path / "a", set_of(3, protocol="whole")), save(tmp_path / "b", renumbered)]
    assert difference(compare_runs(load_runs(places)), "psnr").mean == 0


def test_names_that_come_twice_match_by_number_too(tmp_path):
    def same_names(shift):
        videos = [video(i, "clip", psnr=(20 + i + shift,)) for i in range(3)]
        return summarise(videos, run={}, protocol="whole")

    places = [save(tmp_path / "a", same_names(0)), save(tmp_path / "b", same_names(1))]
    psnr = difference(compare_runs(load_runs(places)), "psnr")
    assert psnr.pairs == 3 and psnr.mean == pytest.approx(1)


def test_what_makes_runs_incomparable_is_told(tmp_path):
    details = {"frames": 2, "height": 64, "width": 48, "prompt": "a bear, walking"}
    other = set_of(
        2,
        protocol="release",
        run={"scoring": {"segment": 50}, "data": {"fps": 8}, "settings": {"steps": 3}},
        details=details,
    )
    places = [save(tmp_path / "a", set_of(2, run={"scoring": {"segment": 100}})), save(tmp_path / "b", other)]
    found = compare_runs(load_runs(places))
    told = "\n".join(found.warnings)
    assert "protocols differ (a: background, b: release)" in told
    assert "scoring.segment (100 against 50)" in told
    assert "height differs in 2 of 2 videos, first in clip0 (a: 32, b: 64)" in told
    # Settings of the inpainting are what is being compared; what one run does not tell is no difference.
    assert "steps" not in told and "fps" not in told and "region_prompt" not in told and len(found.warnings) == 3
    assert "masked_psnr" not in found.described and "psnr" in found.described


def test_outputs(tmp_path, capsys):
    places = [save(tmp_path / name, set_of(3, shift)) for name, shift in (("a", 0), ("b", 1), ("c", -1))]
    files = {suffix: tmp_path / f"out.{suffix}" for suffix in ("md", "json", "csv")}
    for file in files.values():
        found = compare([places[0], f"mine={places[1]}/metrics.json", places[2]], CompareOptions(output=str(file)))
    assert found.runs == ["a", "mine", "c"]
    assert capsys.readouterr().out == 3 * files["md"].read_text()
    assert cells(files["md"].read_text(), "mine − a")[1] == "difference"
    content = json.loads(files["json"].read_text())
    assert content["means"]["psnr"] == found.means["psnr"] and len(content["differences"]) == len(found.differences)
    rows = list(csv.DictReader(files["csv"].open(newline="")))
    row = next(row for row in rows if (row["metric"], row["run"]) == ("psnr", "c"))
    assert float(row["difference"]) == pytest.approx(-1) and float(row["p"]) == 2 / 8
    assert comparison_csv(found) == files["csv"].read_bytes().decode()


def test_flags_may_stand_between_runs():
    runs, options = read_options(["a", "--output", "x.md", "b", "c"])
    assert runs == ["a", "b", "c"] and options.output == "x.md"


def test_mistakes(tmp_path):
    place = save(tmp_path / "a", set_of(2))
    with pytest.raises(InputError, match=r"--output.*\.md, \.json, \.csv"):
        read_options(["a", "b", "--output", "x.txt"])
    with pytest.raises(InputError, match="unknown flag '--outptu=x"):
        read_options(["a", "b", "--outptu=x.md"])
    with pytest.raises(InputError, match=r"two runs.*got 1"):
        load_runs([place])
    others = save(tmp_path / "b", summarise([video(5, "else")], run={}, protocol="background"))
    with pytest.raises(InputError, match="same videos"):
        compare_runs(load_runs([place, others]))
    with pytest.raises(InputError, match="cannot write"):
        save_summary(tmp_path / "a" / "metrics.json" / "metrics.json", set_of(2))


def test_door_tells_a_mistake_in_one_line(tmp_path):
    door = Path(__file__).parents[1] / "evaluate" / "compare.py"
    command = [sys.executable, str(door), str(tmp_path / "a"), str(tmp_path / "b")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "metrics.json" in done.stderr


def test_reports_need_no_torch():
    modules = ["summary", "tables", "published", "page", "comparison", "comparison_text"]
    imports = "; ".join(f"import videopainter.metrics.report.{module}" for module in modules)
    code = f"import sys; {imports}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_strict_json():
    content = {"a": [np.float32(1.5), math.nan, -INF], "b": np.arange(2), 3: {"x"}, "n": np.int64(4), "t": True}
    assert json.loads(to_json(content)) == {"a": [1.5, None, "-inf"], "b": [0, 1], "3": ["x"], "n": 4, "t": True}
