"""Write the gallery: test images with their reconstructions, one page that needs no network."""

from dataclasses import replace

from percept import config, files, log
from percept.evaluation import imagesets, objects
from percept.report import gallery, gallery_page
from percept.targets import sources

log.to_file(snakemake.log[0])
given, params = snakemake.input, snakemake.params
source = sources.source(config.dataset(params.dataset))
names = list(params.reconstructions)
subjects, made = [], []

for at, name in enumerate(params.subjects):
    own = slice(at * len(names), (at + 1) * len(names))
    items = dict(zip(names, map(files.read_parquet, given.per_item[own]), strict=True))
    stimulus = imagesets.Reconstructed(given.images[own][0]).stimulus
    subject, rankings = gallery.subject(name, stimulus, items, params.seed)
    captions = [gallery.captions_of(files.read_parquet(path)) for path in given.details[own]]
    methods = [
        gallery.Method(method, (), gallery.values_of(items[method]), rankings[method], told)
        for method, told in zip(names, captions, strict=True)
    ]
    subjects.append(replace(subject, methods=methods))
    made.append(dict(zip(names, map(gallery.reader, given.images[own]), strict=True)))

subjects = gallery.fill(subjects, source.images, made)
shown = sorted({int(one) for subject in subjects for one in subject.stimulus[subject.rows]})
known = objects.known(source, shown).names
kinds = dict(zip(shown, known, strict=True)) if known else {}
manifest = {"config": {"dataset": params.dataset}}
files.write_text(
    gallery_page.render(subjects, manifest, kinds, f"{params.title}: gallery"), snakemake.output[0]
)
