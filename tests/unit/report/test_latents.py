"""The table and the map of what is decoded alike."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from percept.evaluation import table
from percept.files import write_parquet
from percept.report import latent_map, latents, page, spec, summary
from percept.report.assemble import Sources, latent_maps
from percept.report.figures import COLOURS, FAINT, Picture

WORDS = spec.Words()


def long(subjects=("subj01", "subj02"), name="voxelclip"):
    """Rows of two clusterings and of the distances, as an analysis writes them."""
    records = []
    for at, subject in enumerate(subjects):
        label = dict(dataset="twin", protocol="shared1000", subject=subject, what="decoder", name=name,
                     target="clip", unit="average", n=150, seed=0)  # fmt: skip
        for metric, value, control in [
            ("rsa", 0.3, "shuffled"),
            ("silhouette_kmeans_12", 0.2, "cloud"),
            ("silhouette_kmeans_8", 0.25, "cloud"),
            ("ami_images_kmeans_8", 0.4, "shuffled"),
            ("silhouette_agglomerative_8", -0.1, "cloud"),
        ]:
            records.append(label | dict(metric=metric, value=value + 0.1 * at, p_value=0.01 + 0.02 * at))
            records.append(label | dict(metric=metric, value=0.04, control=control))
    return table.conform(pd.DataFrame(records))


@pytest.fixture(scope="module")
def tables():
    return latents.tables(summary.summarise(long()), WORDS)


def test_values_are_means_over_subjects_beside_what_is_there_without_anything(tables):
    (found,) = tables
    assert found["caption"] == "voxelclip · mean over subjects"
    first = found["blocks"][0]["lines"][0]
    assert first["name"] == "All pairs"
    assert first["cells"][0] == {"value": "0.350", "interval": "[0.040]", "share": "p = 0.03"}


def test_clusterings_stand_in_the_order_of_method_and_number(tables):
    lines = tables[0]["blocks"][0]["lines"]
    names = [(line["name"], line["detail"]) for line in lines[1:]]
    assert names == [("8 clusters", "k-means"), ("12 clusters", "k-means"), ("8 clusters", "agglomerative")]
    labels = [column["label"] for column in tables[0]["columns"]]
    assert labels == ["Agreement of distances", "Silhouette", "Agreement with clusters of images"]
    assert all(len(line["cells"]) == len(labels) for line in lines)
    assert lines[2]["cells"][2]["value"] == ""  # 12 clusters were not compared with those of the images


def test_other_results_make_no_table():
    other = long().assign(metric="top1")
    assert latents.tables(summary.summarise(other), WORDS) == []


def test_the_page_has_the_table_and_the_names_of_the_measures():
    fills = {"label": "voxelclip", "colours": "clusters", "kept": "80%"}
    picture = Picture("latent_map", b"", "image/png", "a map", fills)
    text = page.render(long(), pd.DataFrame(), {}, [picture])
    assert 'id="latents"' in text and "What is decoded alike" in text
    assert "Silhouette, k-means, 12 clusters" in text and "[0.040]" in text


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("silhouette_agglomerative_20", "Silhouette, agglomerative, 20 clusters"),
        ("ami_images_kmeans_8", "Agreement with clusters of {items}, k-means, 8 clusters"),
        ("unheard_kmeans_8", "Unheard kmeans 8"),
    ],
)
def test_a_measure_of_a_clustering_is_called_by_measure_and_clustering(name, label):
    assert spec.load().metric(name).label == label


# The map.


class Pictures:
    """A square of one colour per stimulus."""

    def images(self, stimuli):
        return np.stack([np.full((9, 8, 3), 20 * one, np.uint8) for one in stimuli])


def places(n=12, groups=None):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"stimulus": np.arange(n), "kmeans_8": np.arange(n) % 3, "x": rng.random(n), "y": rng.random(n),
         "group": groups, "kept": 0.8}
    )  # fmt: skip


@pytest.mark.parametrize("source", [Pictures(), object()])
def test_the_map_is_a_picture_of_thumbnails_or_of_dots(tmp_path, source):
    latent_map.write(places(groups=["animal", "food"] * 6), source, tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width == pytest.approx(9.6 * 150, abs=2)
    figure = latent_map.draw(places(), source)
    assert bool(figure.axes[0].artists) == isinstance(source, Pictures)


def test_thumbnails_do_not_cover_each_other_and_as_many_as_fit_are_drawn():
    spots = np.random.default_rng(0).random((300, 2))
    chosen = latent_map.spaced(spots, (0.1, 0.2))
    away = np.abs(spots[chosen][:, None] - spots[chosen][None])
    near = (away[..., 0] < 0.1) & (away[..., 1] < 0.2)
    assert near.sum() == len(chosen)  # each is near itself alone
    others = np.setdiff1d(np.arange(300), chosen)
    gap = np.abs(spots[others][:, None] - spots[chosen][None])
    assert ((gap[..., 0] < 0.1) & (gap[..., 1] < 0.2)).any(axis=1).all()


def test_rare_groups_share_a_colour_and_clusters_stand_in_where_no_group_is_known():
    many = places(40, groups=[f"kind {min(one // 3, 9)}" for one in range(40)])
    colours = latent_map.palette(latent_map.grouping(many))
    assert list(colours.values()) == [*COLOURS, FAINT] and list(colours)[-1] == "others"
    assert set(latent_map.grouping(places())) == {"cluster 1", "cluster 2", "cluster 3"}
    few = places().filter(regex="^(?!kmeans)")  # fewer images than clusters
    assert set(latent_map.grouping(few)) == {"images"}


def test_each_subject_and_run_has_its_map_with_what_it_tells(tmp_path):
    runs, subjects = ["voxelclip/seed-0", "ridge/seed-1"], ["subj01", "subj02"]
    tables, maps = [], []
    for at in range(4):
        tables.append(str(tmp_path / f"{at}.parquet"))
        maps.append(str(tmp_path / f"{at}.png"))
        write_parquet(places(groups=None if at == 3 else ["animal"] * 12), tables[-1])
        Image.new("RGB", (8, 8)).save(maps[-1])
    sources = Sources(subjects, ["other/seed-0", *runs], [], [], [], [], [], [], runs, tables, maps)
    found = list(latent_maps(sources))
    names = [one.fills["label"] for one in found]
    assert names == [f"{run}, {who}" for who in subjects for run in ("voxelclip", "ridge/seed-1")]
    assert [one.fills["colours"] for one in found] == ["the kind of the main object"] * 3 + ["clusters"]
    assert {one.fills["kept"] for one in found} == {"80%"} and all(one.data for one in found)
