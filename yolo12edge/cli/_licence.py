"""What the licence of weights means for whoever uses them."""

from __future__ import annotations

__all__ = ["agpl_warning"]


def agpl_warning(weights_license: str | None) -> str | None:
    """Return what to say of weights under the AGPL; None for any other licence."""
    if weights_license is None or "AGPL" not in weights_license.upper():
        return None
    return (
        f"The weights are under {weights_license}: whoever passes them on, in any format, or offers them over a "
        "network, may have to publish the source of the whole work under that licence. Ask for other terms, or "
        "train weights of your own with `yolo12edge train`."
    )
