// The TensorRT plugin: IPluginV3 around the attention kernel. Needs TensorRT's headers (10.0 or later), none of its
// libraries: everything is called through virtual functions.
#include <NvInferRuntime.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "area_attention_kernel.h"

static_assert(NV_TENSORRT_MAJOR >= 10, "IPluginV3 came with TensorRT 10.0");

namespace {

using namespace nvinfer1;

constexpr char const* kName = "AreaAttention";
constexpr char const* kVersion = "1";
constexpr char const* kNamespace = "yolo12edge";
constexpr int64_t kHeadChannels = 32;
constexpr int64_t kMostTokens = INT32_MAX / kHeadChannels;  // the kernel counts within a head in 32 bits
constexpr int32_t kFailure = -1;

ILoggerFinder* logger_finder = nullptr;

void log_error(char const* message) noexcept {
    ILogger* const logger = logger_finder == nullptr ? nullptr : logger_finder->findLogger();
    if (logger != nullptr) {
        logger->log(ILogger::Severity::kERROR, message);
    }
}

struct Attributes {
    int32_t heads;
    int32_t area;
};

// Whether the two dims are those of a qkv map and of its result. What is not known yet is -1 and fits.
bool fit(Dims const& qkv, Dims const& out, Attributes const& attributes) noexcept {
    if (qkv.nbDims != 4 || out.nbDims != 4) {
        log_error("AreaAttention: qkv must have four dimensions: images, 3 * heads * 32, height, width");
        return false;
    }
    auto const known = [](auto extent) { return extent >= 0; };
    auto const channels = attributes.heads * kHeadChannels;
    if ((known(qkv.d[1]) && qkv.d[1] != 3 * channels) || (known(out.d[1]) && out.d[1] != channels)) {
        log_error("AreaAttention: qkv must have 3 * heads * 32 channels");
        return false;
    }
    if (known(qkv.d[2]) && known(qkv.d[3])) {
        int64_t const tokens = int64_t{qkv.d[2]} * int64_t{qkv.d[3]};
        if (tokens % attributes.area != 0 || tokens > kMostTokens) {
            log_error("AreaAttention: height * width must be a multiple of area, and below 2^26");
            return false;
        }
    }
    return true;
}

class AreaAttention final : public IPluginV3,
                            public IPluginV3OneCore,
                            public IPluginV3OneBuild,
                            public IPluginV3OneRuntime {
public:
    explicit AreaAttention(Attributes attributes) noexcept : attributes_(attributes) {}

    IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override {
        switch (type) {
            case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
            case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
            case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }

    IPluginV3* clone() noexcept override { return new (std::nothrow) AreaAttention(attributes_); }

    char const* getPluginName() const noexcept override { return kName; }
    char const* getPluginVersion() const noexcept override { return kVersion; }
    char const* getPluginNamespace() const noexcept override { return kNamespace; }

    int32_t getNbOutputs() const noexcept override { return 1; }

    int32_t getOutputDataTypes(
        DataType* outputs, int32_t output_count, DataType const* inputs, int32_t input_count) const noexcept override {
        if (input_count != 1 || output_count != 1) {
            return kFailure;
        }
        outputs[0] = inputs[0];
        return 0;
    }

    int32_t getOutputShapes(DimsExprs const* inputs, int32_t input_count, DimsExprs const*, int32_t shape_input_count,
        DimsExprs* outputs, int32_t output_count, IExprBuilder& builder) noexcept override {
        if (input_count != 1 || shape_input_count != 0 || output_count != 1 || inputs[0].nbDims != 4) {
            log_error("AreaAttention: takes one qkv map: images, 3 * heads * 32, height, width");
            return kFailure;
        }
        IDimensionExpr const* const channels = inputs[0].d[1];
        if (channels->isConstant() && channels->getConstantValue() != 3 * attributes_.heads * kHeadChannels) {
            log_error("AreaAttention: qkv must have 3 * heads * 32 channels");
            return kFailure;
        }
        outputs[0] = inputs[0];
        outputs[0].d[1] = builder.constant(attributes_.heads * kHeadChannels);
        return 0;
    }

    bool supportsFormatCombination(
        int32_t position, DynamicPluginTensorDesc const* tensors, int32_t input_count, int32_t output_count) noexcept
        override {
        return input_count == 1 && output_count == 1 && (position == 0 || position == 1) &&
               tensors[position].desc.type == DataType::kHALF &&
               tensors[position].desc.format == TensorFormat::kLINEAR;
    }

    int32_t configurePlugin(DynamicPluginTensorDesc const* inputs, int32_t input_count,
        DynamicPluginTensorDesc const* outputs, int32_t output_count) noexcept override {
        if (input_count != 1 || output_count != 1) {
            return kFailure;
        }
        return fit(inputs[0].desc.dims, outputs[0].desc.dims, attributes_) ? 0 : kFailure;
    }

    int32_t onShapeChange(PluginTensorDesc const* inputs, int32_t input_count, PluginTensorDesc const* outputs,
        int32_t output_count) noexcept override {
        if (input_count != 1 || output_count != 1) {
            return kFailure;
        }
        return fit(inputs[0].dims, outputs[0].dims, attributes_) ? 0 : kFailure;
    }

    int32_t enqueue(PluginTensorDesc const* inputs, PluginTensorDesc const* outputs, void const* const* from,
        void* const* to, void*, cudaStream_t stream) noexcept override {
        Dims const& dims = inputs[0].dims;
        if (!fit(dims, outputs[0].dims, attributes_)) {  // another shape may have come without a call
            return kFailure;
        }
        if (dims.d[0] == 0) {
            return 0;
        }
        auto const run = static_cast<int>(dims.d[2] * dims.d[3] / attributes_.area);
        auto const images = static_cast<int>(dims.d[0]);
        cudaError_t const status =
            yolo12edge_area_attention(from[0], to[0], images, attributes_.heads, attributes_.area, run, stream);
        if (status != cudaSuccess) {
            log_error(cudaGetErrorString(status));
            return kFailure;
        }
        return 0;
    }

    IPluginV3* attachToContext(IPluginResourceContext*) noexcept override { return clone(); }

    PluginFieldCollection const* getFieldsToSerialize() noexcept override {
        fields_ = {PluginField{"heads", &attributes_.heads, PluginFieldType::kINT32, 1},
            PluginField{"area", &attributes_.area, PluginFieldType::kINT32, 1}};
        collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
        return &collection_;
    }

private:
    Attributes attributes_;
    std::array<PluginField, 2> fields_{};
    PluginFieldCollection collection_{};
};

class AreaAttentionCreator final : public IPluginCreatorV3One {
public:
    AreaAttentionCreator() noexcept
        : fields_{PluginField{"heads", nullptr, PluginFieldType::kINT32, 1},
              PluginField{"area", nullptr, PluginFieldType::kINT32, 1}},
          collection_{static_cast<int32_t>(fields_.size()), fields_.data()} {}

    char const* getPluginName() const noexcept override { return kName; }
    char const* getPluginVersion() const noexcept override { return kVersion; }
    char const* getPluginNamespace() const noexcept override { return kNamespace; }

    PluginFieldCollection const* getFieldNames() noexcept override { return &collection_; }

    IPluginV3* createPlugin(char const*, PluginFieldCollection const* fields, TensorRTPhase) noexcept override {
        Attributes attributes{0, 0};
        for (int32_t i = 0; fields != nullptr && i < fields->nbFields; ++i) {
            PluginField const& field = fields->fields[i];
            int32_t* const attribute = std::strcmp(field.name, "heads") == 0  ? &attributes.heads
                                       : std::strcmp(field.name, "area") == 0 ? &attributes.area
                                                                              : nullptr;
            if (attribute == nullptr) {
                continue;  // the parser may pass on what only it needs
            }
            if (field.type != PluginFieldType::kINT32 || field.length != 1 || field.data == nullptr) {
                log_error("AreaAttention: heads and area must be one 32-bit integer each");
                return nullptr;
            }
            std::memcpy(attribute, field.data, sizeof(*attribute));
        }
        if (attributes.heads < 1 || attributes.area < 1 || attributes.heads > 65535 / attributes.area) {
            log_error("AreaAttention: heads and area must both be given, and at least 1");
            return nullptr;
        }
        return new (std::nothrow) AreaAttention(attributes);
    }

private:
    std::array<PluginField, 2> fields_;
    PluginFieldCollection collection_;
};

}  // namespace

#define YOLO12EDGE_EXPORT extern "C" __attribute__((visibility("default")))

// What TensorRT asks a library of plugins for.
YOLO12EDGE_EXPORT IPluginCreatorInterface* const* getCreators(int32_t& count) {
    static AreaAttentionCreator creator;
    static IPluginCreatorInterface* const creators[] = {&creator};
    count = 1;
    return creators;
}

YOLO12EDGE_EXPORT void setLoggerFinder(ILoggerFinder* finder) { logger_finder = finder; }
