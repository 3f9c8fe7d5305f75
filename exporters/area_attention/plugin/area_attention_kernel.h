// The attention kernel, as whoever launches it sees it.
#pragma once

#include <cuda_runtime_api.h>

// Put area attention into a stream; returns what the launch returned.
//
// qkv: FP16 (images, 3 * heads * 32, area * run), [Q | K | V] with the scale of the logits in Q;
// out: FP16 (images, heads * 32, area * run). Both channel-first, contiguous, in the device's memory.
extern "C" cudaError_t yolo12edge_area_attention(
    void const* qkv, void* out, int images, int heads, int area, int run, cudaStream_t stream);
