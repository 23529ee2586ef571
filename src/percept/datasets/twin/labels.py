"""Names and numbers of the labels of NSD's atlases (the data manual's colour tables)."""

_HCP = """\
V1 MST V6 V2 V3 V4 V8 4 3b FEF PEF 55b V3A RSC POS2 V7 IPS1 FFC V3B LO1 LO2 PIT MT A1 PSL SFL PCV STV 7Pm 7m
POS1 23d v23ab d23ab 31pv 5m 5mv 23c 5L 24dd 24dv 7AL SCEF 6ma 7Am 7PL 7PC LIPv VIP MIP 1 2 3a 6d 6mp 6v
p24pr 33pr a24pr p32pr a24 d32 8BM p32 10r 47m 8Av 8Ad 9m 8BL 9p 10d 8C 44 45 47l a47r 6r IFJa IFJp IFSp
IFSa p9-46v 46 a9-46v 9-46d 9a 10v a10p 10pp 11l 13l OFC 47s LIPd 6a i6-8 s6-8 43 OP4 OP1 OP2-3 52 RI PFcm
PoI2 TA2 FOP4 MI Pir AVI AAIC FOP1 FOP3 FOP2 PFt AIP EC PreS H ProS PeEc STGa PBelt A5 PHA1 PHA3 STSda STSdp
STSvp TGd TE1a TE1p TE2a TF TE2p PHT PH TPOJ1 TPOJ2 TPOJ3 DVT PGp IP2 IP1 IP0 PFop PF PFm PGi PGs V6A VMV1
VMV3 PHA2 V4t FST V3CD LO3 VMV2 31pd 31a VVC 25 s32 pOFC PoI1 Ig FOP5 p10p p47r TGv MBelt LBelt A4 STSva
TE1m PI a32pr p24"""
_SULCI = """calcarine parieto-occipital collateral mid-fusiform occipitotemporal lingual lunate
transverse-occipital intraparietal superior-parietal lateral-occipital anterior-occipital superior-temporal
inferior-temporal rhinal postcentral central precentral superior-precentral cingulate marginal paracentral
subparietal superior-frontal middle-frontal inferior-frontal orbital olfactory"""

_NAMES = {
    "nsdgeneral": "nsdgeneral",
    "prf-visualrois": "V1v V1d V2v V2d V3v V3d hV4",
    "prf-eccrois": "ecc0pt5 ecc1 ecc2 ecc4 ecc4+",
    "floc-faces": "OFA FFA-1 FFA-2 mTL-faces aTL-faces",
    "floc-words": "OWFA VWFA-1 VWFA-2 mfs-words mTL-words",
    "floc-places": "OPA PPA RSC",
    "floc-bodies": "EBA FBA-1 FBA-2 mTL-bodies",
    "streams": "early midventral midlateral midparietal ventral lateral parietal",
    "Kastner2015": "V1v V1d V2v V2d V3v V3d hV4 VO1 VO2 PHC1 PHC2 MST/TO2 hMT/TO1 LO2 LO1 V3b V3a IPS0 IPS1 "
    "IPS2 IPS3 IPS4 IPS5 SPL1 FEF",
    "HCP_MMP1": _HCP,
    "corticalsulc": _SULCI,  # the twin's own choice of 28 sulci
    "MTL": "ERC 35 36 PHC Sub CA1 CA2 CA3 DG HT",
    "thalamus": "LGN VP DLP DMP",
}
LABELS: dict[str, tuple[str, ...]] = {atlas: tuple(names.split()) for atlas, names in _NAMES.items()}
VOLUMETRIC = ("MTL", "thalamus")  # 0 is "none"; the others come from the surface, where -1 is "no cortex"
SUBJECT_ONLY = ("prf-visualrois", "prf-eccrois", "floc-faces", "floc-words", "floc-places", "floc-bodies")


def number(atlas: str, name: str) -> int:
    """The id of a label, counted from 1."""
    return LABELS[atlas].index(name) + 1


def table(atlas: str) -> str:
    """A label table as the bucket holds it: id, irregular white space, name."""
    rows = [(0, "Unknown"), *enumerate(LABELS[atlas], start=1)]
    gaps = ("   ", "\t", " ", "  \t ")
    return "".join(f"{index}{gaps[index % len(gaps)]}{name}\n" for index, name in rows)
