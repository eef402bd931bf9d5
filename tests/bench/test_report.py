"""The benchmarks' report, from results that are made here: verdicts, tables, plots. Nothing is measured."""

import json
import pathlib
import sys
import xml.etree.ElementTree

import pytest

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

from orlop_bench import compare, peers, plots, report, s3  # noqa: E402
from orlop_bench.process import Usage  # noqa: E402
from orlop_bench.results import Figure, Growth, Target, Verdict  # noqa: E402

ABOUT = {"machine": {"cores": "2"}, "versions": {"orlop": "1"}, "mode": "test", "measured": ["push"]}


def traffic(requests, up=0):
    return s3.Traffic({"PutObject": {"requests": requests, "up": up, "down": 0}})


def figure(orlop, other, target, title="push", growth=None, requests=None):
    made = Figure(title, "MiB/s", [target], growth=growth)
    for label, values in (("orlop", orlop), ("other", other)):
        for value in values:
            made.of(label).add(value, Usage(1.0, 10, 20, traffic(requests) if requests else None))
    return made


@pytest.mark.parametrize(
    "orlop, other, target, verdict, value",
    [
        ([10, 20], [5, 10], Target("orlop", "other", at_least=2), Verdict.PASS, 2),
        ([10, 20], [5, 11], Target("orlop", "other", at_least=2), Verdict.FAIL, (2 + 20 / 11) / 2),
        # A ratio of times is turned round, and taken round by round: the medians' would be 2.
        ([1, 2, 9], [3, 2, 18], Target("orlop", "other", at_least=2, times_faster=True), Verdict.PASS, 2),
        ([3, 4], [1, 1], Target("orlop", at_most=3), Verdict.FAIL, 3.5),
        ([3], [1], Target("orlop", at_most=3), Verdict.PASS, 3),
        ([3], [], Target("orlop", "other", at_least=1), Verdict.LEFT_OUT, None),
        ([4, 9], [2], Target("orlop", "other", at_least=2), Verdict.PASS, 2),
    ],
)
def test_verdict(orlop, other, target, verdict, value):
    (judgement,) = figure(orlop, other, target).judge()
    assert judgement.verdict is verdict
    assert judgement.value == (None if value is None else pytest.approx(value))


def test_a_wrong_answer_voids_the_figure_and_is_shown(tmp_path):
    wrong = figure([10], [5], Target("orlop", "other", at_least=1, promise="S3 store"))
    wrong.of("other").fault = "PUT: 500 | oops"
    report.write_files(tmp_path, ABOUT, [wrong], [])
    assert "| VOID |" in (tmp_path / "verdict.md").read_text()
    assert "| other | void: PUT: 500 \\| oops |" in (tmp_path / "latest.md").read_text()


def test_every_promise_is_on_the_verdict_page(tmp_path):
    figures = [
        figure([1], [10], Target("orlop", "other", at_least=1, promise=heading), title=f"figure {number}")
        for number, heading in enumerate(report.PROMISES)
    ]
    report.write_files(tmp_path, ABOUT, figures, ["something: why"])
    page = (tmp_path / "verdict.md").read_text()
    for number, heading in enumerate(report.PROMISES):
        section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        assert f"| FAIL | 0.10 × (0.10 … 0.10) | ≥ 1 × other | figure {number} |" in section
    assert "- something: why" in page
    for _, test in report.HELD_BY_TESTS:
        assert (BENCH.parent / test).exists(), test


def test_what_is_stored_is_read_back(tmp_path):
    growth = Growth("pushes", "MiB", 4, ("requests",))
    one = figure([1, 2], [3, 4], Target("orlop", "other", at_most=2, promise="S3 store"), growth=growth, requests=7)
    report.write_files(tmp_path, ABOUT, [one], ["x"])
    about, figures, left_out = report.read_figures(tmp_path / "latest.json")
    assert (figures, left_out) == ([one], ["x"])
    report.write_files(tmp_path / "again", about, figures, left_out)
    for name in ("latest.json", "latest.md", "verdict.md"):
        assert (tmp_path / name).read_text() == (tmp_path / "again" / name).read_text()


def test_plots_of_growth(tmp_path):
    figures = [
        figure(
            [x], [x * x, 3 * x * x], Target("orlop"), f"{x} pushes", Growth("a plot & more", "n", x, ("requests",)), x
        )
        for x in (1, 10, 1000)
    ]
    figures[0].of("orlop").values = [0]  # a logarithm it has not
    figures[1].of("void").fault = "no"
    report.write_files(tmp_path, ABOUT, figures, [])
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "a-plot-more-s3-requests.svg",
        "a-plot-more.svg",
    ]
    drawn = xml.etree.ElementTree.parse(tmp_path / "plots" / "a-plot-more.svg").getroot()
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "a plot & more" in texts and "orlop" in texts and "other" in texts and "void" not in texts
    circles = list(drawn.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 6
    for circle in circles:
        assert plots.LEFT <= float(circle.get("cx")) <= plots.WIDTH - plots.RIGHT
        assert plots.TOP <= float(circle.get("cy")) <= plots.HEIGHT - plots.BOTTOM


def test_one_point_is_no_plot():
    assert plots.plots([figure([1], [1], Target("orlop"), growth=Growth("p", "n", 1))]) == []


def test_peers_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert peers.find(tmp_path / "nothing") == {}
    (tmp_path / "peers.conf").write_text("# more\nzot = /opt/zot  # ours\nangos =\n\n")
    assert peers.find(tmp_path / "peers.conf") == {"zot": "/opt/zot"}
    (tmp_path / "peers.conf").write_text("zott = /opt/zot\n")
    with pytest.raises(SystemExit, match="zott"):
        peers.find(tmp_path / "peers.conf")


def test_stored_report_is_whole():
    """The committed one can be read, and its pages are those that it makes."""
    path = BENCH / "results" / "latest.json"
    if "growth" not in json.loads(path.read_text())["figures"][0]:
        pytest.skip("the committed report is of an older form")
    about, figures, left_out = report.read_figures(path)
    assert report.verdict_page(about, figures, left_out) == (path.parent / "verdict.md").read_text()


def test_two_reports_are_compared_by_their_ratios(tmp_path):
    target = Target("orlop", "other", at_least=2)
    slower = Target("orlop", "other", at_least=2, times_faster=True)
    for name, near, far in (("one", 10, 1), ("two", 12, 2)):
        figures = [
            figure([near], [5], target, "near"),
            figure([far], [5], slower, "far"),
            figure([1], [1], target, f"only in {name}"),
            figure([near * far], [1], Target("orlop", at_most=1), "no yardstick but the other"),
        ]
        report.write_files(tmp_path / name, ABOUT, figures, [])
    agreeing, differing = compare.compare(
        tmp_path / "one/latest.json", tmp_path / "two/latest.json", within=0.25
    )
    assert [(pair.title, pair.is_target, pair.difference) for pair in agreeing] == [("near", True, pytest.approx(0.2))]
    assert [pair.title for pair in differing] == ["no yardstick but the other", "far"]
    assert [pair.difference for pair in differing] == [pytest.approx(1.4), pytest.approx(1)]
    summary = compare.text(agreeing, differing, 0.25).splitlines()[0]
    assert summary == "1 of 3 ratios agree within 25%; of the 2 that have a target, 1"


def test_traffic_adds_up():
    get = s3.Traffic({"GetObject": {"requests": 1, "up": 0, "down": 7}})
    both = traffic(2, up=10) + traffic(1, up=5) + get
    assert (both.requests, both.bytes_up, both.data_bytes_read) == (4, 15, 7)
