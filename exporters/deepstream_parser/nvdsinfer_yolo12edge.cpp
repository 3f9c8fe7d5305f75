// Parser of yolo12edge's detectors for DeepStream's nvinfer: the tensors `boxes` and `scores` to objects.
//
// boxes: float32, 4 x candidates: left, top, right, bottom in pixels of the network input.
// scores: float32, classes x candidates: the probability of each class.
//
// As yolo12edge does, each candidate counts once, for its best class (the first of equal ones), from the
// pre-cluster-threshold of that class on; what is not finite is dropped. nvinfer suppresses overlaps afterwards.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "nvdsinfer_custom_impl.h"

namespace {

using Layers = std::vector<NvDsInferLayerInfo>;

const NvDsInferLayerInfo *find(const Layers &layers, const char *name) {
  for (const NvDsInferLayerInfo &layer : layers)
    if (layer.layerName != nullptr && std::strcmp(layer.layerName, name) == 0) return &layer;
  return nullptr;
}

bool refuse(const std::string &fact) {
  std::cerr << "yolo12edge: " << fact << std::endl;
  return false;
}

bool is_matrix(const NvDsInferLayerInfo &layer) {
  return layer.dataType == FLOAT && layer.buffer != nullptr && layer.inferDims.numDims == 2;
}

bool all_finite(float a, float b, float c, float d) {
  return std::isfinite(a) && std::isfinite(b) && std::isfinite(c) && std::isfinite(d);
}

}  // namespace

extern "C" bool NvDsInferParseYolo12Edge(std::vector<NvDsInferLayerInfo> const &layers,
                                         NvDsInferNetworkInfo const &network,
                                         NvDsInferParseDetectionParams const &parameters,
                                         std::vector<NvDsInferObjectDetectionInfo> &objects) {
  const NvDsInferLayerInfo *boxes = find(layers, "boxes"), *scores = find(layers, "scores");
  if (boxes == nullptr || scores == nullptr) return refuse("the model has no outputs 'boxes' and 'scores'");
  if (!is_matrix(*boxes) || !is_matrix(*scores)) return refuse("'boxes' and 'scores' are not float32 matrices");
  const unsigned candidates = boxes->inferDims.d[1], classes = scores->inferDims.d[0];
  if (boxes->inferDims.d[0] != 4 || scores->inferDims.d[1] != candidates)
    return refuse("'boxes' is not 4 x candidates, or 'scores' is of other candidates");
  if (classes != parameters.numClassesConfigured || classes > parameters.perClassPreclusterThreshold.size())
    return refuse("the model has " + std::to_string(classes) + " classes, num-detected-classes is " +
                  std::to_string(parameters.numClassesConfigured));

  const float *box = static_cast<const float *>(boxes->buffer);
  const float *score = static_cast<const float *>(scores->buffer);
  const float width = static_cast<float>(network.width), height = static_cast<float>(network.height);
  for (unsigned i = 0; i < candidates; ++i) {
    unsigned best = 0;
    bool known = !std::isnan(score[i]);
    for (unsigned c = 1; c < classes; ++c) {
      const float value = score[c * candidates + i];
      known = known && !std::isnan(value);
      if (value > score[best * candidates + i]) best = c;
    }
    const float confidence = score[best * candidates + i];
    if (!known || std::isinf(confidence) || confidence < parameters.perClassPreclusterThreshold[best]) continue;
    float left = box[i], top = box[candidates + i];
    float right = box[2 * candidates + i], bottom = box[3 * candidates + i];
    if (!all_finite(left, top, right, bottom)) continue;
    // nvinfer clips at the top by moving the box: here it still can be made smaller.
    left = std::min(std::max(left, 0.0f), width), right = std::min(std::max(right, 0.0f), width);
    top = std::min(std::max(top, 0.0f), height), bottom = std::min(std::max(bottom, 0.0f), height);
    if (right <= left || bottom <= top) continue;
    NvDsInferObjectDetectionInfo object{};
    object.classId = best;
    object.left = left;
    object.top = top;
    object.width = right - left;
    object.height = bottom - top;
    object.detectionConfidence = confidence;
    objects.push_back(object);
  }
  return true;
}

CHECK_CUSTOM_PARSE_FUNC_PROTOTYPE(NvDsInferParseYolo12Edge);
