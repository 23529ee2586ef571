"""The look ahead as text: tables in columns, and what they rest on."""

from collections.abc import Iterable, Sequence

from percept.backbones import catalogue
from percept.preflight import asks, figures, hours, machine, sizes, times
from percept.preflight.figures import GB
from percept.preflight.run import Outlook
from percept.preflight.shapes import missing_networks
from percept.preflight.work import Work

LARGEST = 8  # jobs whose memory is told
GPUS = (1, 8, 64)  # for which the time of the whole is told


def text(outlook: Outlook) -> str:
    """The tables, and what they rest on."""
    return "\n\n".join(
        [
            *_head(outlook),
            _disk(outlook),
            _memory(outlook),
            _time(outlook),
            *_absent(outlook),
            _rests_on(outlook),
        ]
    )


def columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in plain text: numbers to the right, words to the left."""
    rows = [[number(one) if isinstance(one, float) else str(one) for one in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    right = [all(_is_number(row[n]) for row in rows) for n in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(one.rjust(width) if end else one.ljust(width)
                  for one, width, end in zip(line, widths, right, strict=True)).rstrip()
        for line in lines
    )  # fmt: skip


def number(value: float) -> str:
    """A number with about two digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}" if value >= 0.0001 else "0"


def _is_number(text: str) -> bool:
    return text in ("", "?") or text.replace(",", "").replace(".", "").isdigit()


def _head(outlook: Outlook) -> list[str]:
    cfg, subjects = outlook.cfg, outlook.subjects
    said = subjects[0].origin if subjects else "nothing is known of their size before they are read"
    images = sizes.stimuli(cfg, subjects) if subjects else 0
    return [
        f"{cfg.dataset.name}: {len(cfg.dataset.subjects)} subjects, {sum(one.trials for one in subjects):,} "
        f"trials, {images:,} images; {len(cfg.every_decoder)} decoders, {len(cfg.reconstructions)} "
        "reconstructions\n"
        f"sizes: {said}"
    ]  # fmt: skip


def _disk(outlook: Outlook) -> str:
    rows = [
        (one.stage, one.to_come / GB, one.passing / GB, one.present / GB, machine.free(one.folder) / GB,
         str(one.folder), one.note)
        for one in outlook.stored
    ]  # fmt: skip
    total = [
        sum(getattr(one, part) for one in outlook.stored) / GB for part in ("to_come", "passing", "present")
    ]
    head = ("disk, GB", "to come", "for a while", "there", "free", "in", "")
    return columns(head, [*rows, ("all", *total, "", "", "")])


def _memory(outlook: Outlook) -> str:
    rows = [
        (one.decoder, one.parameters / 1e6, one.n_voxels, one.gpus, one.device / GB, one.checkpoint / GB,
         one.saved / GB)
        for one in outlook.trained
    ]  # fmt: skip
    rows += [
        (one.name, one.parameters / 1e6, "", one.gpus, one.device / GB, one.checkpoint / GB, one.saved / GB)
        for one in outlook.gans
    ]
    head = (
        "training, largest subject",
        "M parameters",
        "voxels",
        "GPUs",
        "device GB",
        "checkpoint GB",
        "weights GB",
    )
    told = {rule: mb for rule, mb in outlook.asked.items() if rule in outlook.where}
    asked = [
        (rule, mb / 1000, "?" if place.ram is None else place.ram / GB, place.gpus,
         "?" if place.gpus and place.gpu_bytes is None else (place.gpu_bytes or 0.0) / GB, place.name)
        for rule, mb in sorted(told.items(), key=lambda one: -one[1])[:LARGEST]
        for place in [outlook.where[rule]]
    ]  # fmt: skip
    jobs = columns(("job", "asks for GB", "has GB", "GPUs", "GB of each", "of"), asked)
    jobs = "\n".join([jobs, *_unknown_gpus(outlook)])
    made = [
        (one.reconstruction, one.parameters / 1e6, one.batch, one.side, one.gpus, one.device / GB)
        for one in outlook.made
    ]
    if made:
        head_made = ("images", "M parameters", "at a time", "pixels", "GPUs", "device GB")
        jobs = f"{columns(head_made, made)}\n\n{jobs}"
    known = {one.decoder for one in outlook.trained} | {one.name for one in outlook.gans}
    unknown = [name for name in [*outlook.cfg.every_decoder, *asks.gans(outlook.cfg)] if name not in known]
    said = f"\nnot known before their voxels or targets are: {', '.join(unknown)}" if unknown else ""
    return f"{columns(head, rows)}{said}\n\n{jobs}" if rows else f"{jobs}{said}"


def _unknown_gpus(outlook: Outlook) -> list[str]:
    """A line for each place whose GPUs have a memory that nobody knows."""
    return [
        f"memory of the GPUs of {place.name} is not known ({place.gpu_name or 'no type is told'}): no "
        "training and no images were compared with it"
        for place in dict.fromkeys(outlook.where.values())
        if place.gpus and place.gpu_bytes is None
    ]


def _time(outlook: Outlook) -> str:
    rows = [
        (one.rule, one.name, one.jobs, one.longest, *_asked_hours(outlook, one), one.total, one.gpus,
         one.origin)
        for one in outlook.works
    ]  # fmt: skip
    asked = ("asks for, h",) if _on_cluster(outlook) else ()
    table = columns(("jobs", "of", "how many", "longest, h", *asked, "all, h", "GPUs", "by"), rows)
    download = f", {number(outlook.download)} h of download" if outlook.download else ""
    told = f"{table}\nhere: {number(sum(one.total for one in outlook.works))} hours of jobs{download}"
    if not any(one.gpus for one in outlook.on_gpus):
        return told
    cores = max(place.cores for place in outlook.where.values())
    taken = sum(one.total for one in outlook.on_gpus if one.gpus)
    walls = ", ".join(
        f"{n} GPUs {number(hours.wall(outlook.on_gpus, n, cores, outlook.download))} h" for n in GPUS
    )
    return (
        f"{told}\non GPUs, by the model: {number(taken)} GPU hours; from the first job to the last, beside "
        f"{cores} cores: {walls}"
    )


def _on_cluster(outlook: Outlook) -> bool:
    return any(place.cluster for place in outlook.where.values())


def _asked_hours(outlook: Outlook, work: Work) -> tuple[float | str, ...]:
    """Hours that such a job is submitted with, in a column that is there on a cluster alone."""
    asked = times.of(outlook.minutes, work)
    return ("" if asked is None else asked / 60,) if _on_cluster(outlook) else ()


def _absent(outlook: Outlook) -> list[str]:
    """Weights that are still to be fetched, and how."""
    names = [name for name in missing_networks(outlook.cfg) if catalogue.named(name).family == "published"]
    if not names:
        return []
    return [
        f"weights to fetch: {', '.join(names)}. Local jobs of `snakemake all` fetch them; where the "
        "network is elsewhere: `snakemake backbones --cores 1` with your `--configfile`"
    ]


def _rests_on(outlook: Outlook) -> str:
    """The figures behind the hours, each with where it is from."""
    used = [figures.CPU_FLOPS, figures.RIDGE_FLOPS, figures.STARTING]
    if any(one.gpus for one in outlook.on_gpus):
        used += [figures.DECODER_MAPS, *figures.GPU_FLOPS.values(), figures.GPU_BANDWIDTH, figures.GPU_SHARE]
    if outlook.cfg.dataset.kind == "nsd":
        used += [figures.MASKING[outlook.cfg.dataset.format], figures.BANDWIDTH, figures.SCORING]
    used += [figures.POOL_IMAGES] if 0 in outlook.pools.values() else []
    used += _gpu_memories(outlook)
    return "\n".join(["estimates, where nothing was recorded here, rest on:", *(f"  {one}" for one in used)])


def _gpu_memories(outlook: Outlook) -> list[figures.Figure]:
    """What is published of the types of GPUs of the partitions."""
    types = [kind for place in dict.fromkeys(outlook.where.values()) if place.cluster
             for kind in place.gpu_name.split(", ")]  # fmt: skip
    return [known for kind in dict.fromkeys(types) if (known := figures.gpu_memory(kind)) is not None]
