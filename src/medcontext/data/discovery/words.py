"""What the words in names of files and folders say."""

import re
from pathlib import PurePosixPath

LABEL = {
    *("label", "labels", "lbl", "seg", "segs", "segmentation", "segmentations", "mask", "masks", "gt", "truth"),
    *("groundtruth", "annotation", "annotations", "roi", "rois", "contour", "contours", "delineation", "manual"),
}
MODALITY = {
    **{word: word.upper() for word in ("ct", "cta", "cbct", "pet", "spect", "mr", "mra", "flair", "adc", "dwi", "swi")},
    **{word: word.upper() for word in ("t1", "t2", "pd", "t1w", "t2w", "pdw", "t1c", "t1n", "t2f", "t1gd", "t1ce")},
    "mri": "MR",
    "pt": "PET",
}
IMAGE = {"image", "images", "img", "imgs", "scan", "scans", "volume", "volumes", "vol", "raw", "orig"}
PARTS = {
    *("tr", "ts", "un", "val", "train", "training", "test", "testing", "validation", "data", "nii", "nifti"),
}


def words(name: str) -> list[str]:
    """The words of a name in small letters, numbers apart, but for those of a modality.

    >>> words("Pat01_T1w-labelsTr"), words("segmentation2")
    (['pat', '01', 't1w', 'labels', 'tr'], ['segmentation', '2'])
    """
    found = []
    for piece in re.findall(r"[^\W_]+", name):
        if piece.lower() in MODALITY:
            found.append(piece.lower())
        else:
            found += [word.lower() for word in re.findall(r"\d+|[^\W\d_]?[^\W\dA-Z_]+|[A-Z]+(?![a-z])|[^\W\d_]", piece)]
    return found


def is_label(file: PurePosixPath) -> bool:
    """Whether names say that a file is a label: its own, then folders that are called for nothing else, then others.

    >>> files = ("p/seg.nii.gz", "labelsTr/ct_1.nii.gz", "seg_study/p/ct.nii.gz", "liver masks/a.nii.gz")
    >>> [is_label(PurePosixPath(name)) for name in files]
    [True, True, False, True]
    """
    own, folders = set(words(stem(file.name))), [set(words(part)) for part in reversed(file.parent.parts)]
    image = IMAGE | set(MODALITY)
    if own & LABEL:
        return True
    for said in folders:
        for kind in (LABEL, image):
            if said & kind and all(word in kind | PARTS or word.isdigit() for word in said):
                return kind is LABEL
    return not own & image and any(said & LABEL for said in folders)


def modality(name: str) -> str:
    """What modality the words of a name say, the last of several; or nothing.

    >>> modality("*_t1ce.nii.gz"), modality("scan.nii.gz")
    ('T1CE', '')
    """
    return next((MODALITY[word] for word in reversed(words(name)) if word in MODALITY), "")


def core(name: str) -> str:
    """A name without words for labels, images and modalities, and without nnU-Net's number of a channel.

    >>> core("img0001"), core("label0001"), core("liver_3_seg"), core("liver_3_0000")
    ('0001', '0001', 'liver_3', 'liver_3')
    """
    plain = re.sub(r"_\d{4}$", "", name) if re.search(r"\w_\d{4}$", name) else name
    left = [word for word in words(plain) if word not in LABEL | IMAGE and word not in MODALITY]
    return "_".join(left)


def stem(name: str) -> str:
    """A file's name without .nii.gz or .nii.

    >>> stem("a.b.NII.GZ")
    'a.b'
    """
    return re.sub(r"\.nii(\.gz)?$", "", name, flags=re.IGNORECASE)
