"""How the Triton kernel's work can be cut: a few configurations, of which TensorRT takes the fastest by timing them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_TILE", "TILES", "Tile"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One configuration of the kernel.

    Attributes:
        queries: Of a block.
        keys: Of a step.
        warps: Of a block.
        stages: Of the pipeline that loads keys and values.
    """

    queries: int
    keys: int
    warps: int
    stages: int


# Registers of a thread and shared memory of a block, as compiled; none spills, from compute capability 80 on:
#                                   80, 86, 87, 89         90               110              120
TILES = {
    1: Tile(64, 64, 4, 2),  #  139, 12.0 KB  106, 20.0 KB  128, 20.0 KB  130, 12.0 KB: the middle of all
    2: Tile(128, 64, 8, 2),  # 142, 16.0 KB  100, 24.0 KB  111, 24.5 KB  128, 16.0 KB: keys are read half as often
    3: Tile(64, 32, 4, 2),  #   96,  8.0 KB   68, 12.0 KB   63, 12.0 KB   96,  8.0 KB: more blocks at a time; 16 keys of
    #                                                                                  padding in 400 instead of 48
    4: Tile(32, 64, 2, 2),  #  164, 10.0 KB  138, 10.0 KB  138, 10.0 KB  158, 10.0 KB: twice the blocks: small models,
    #                                                                                  one image, many multiprocessors
}
"""By the number that TensorRT knows each one by."""

DEFAULT_TILE = TILES[1]
