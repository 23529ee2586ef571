"""NSD's terms, which every user has to accept before anything is fetched."""

from percept.files import PerceptError

FORM = "https://forms.gle/xue2bCdM9LaFNMeb7"


def require_terms(accepted: bool) -> None:
    """Refuse to touch the network before the user has agreed to NSD's terms.

    Raises
    ------
    PerceptError : `accepted` is false; names the form and the key to set
    """
    if not accepted:
        raise PerceptError(
            "nothing was downloaded: the Natural Scenes Dataset is free to use for research and education, "
            f"but only under its Data Access Agreement. Sign it at {FORM} and then set "
            "`dataset.terms_accepted: true`. It binds everyone who works with your copy: no part of the "
            "data set, neither the brain data nor the images, may be redistributed."
        )
