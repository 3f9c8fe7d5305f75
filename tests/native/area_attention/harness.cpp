// Loads the plugin as TensorRT does and asks it what TensorRT asks, on a machine without a GPU and without libnvinfer.
//
// Prints one line "name: value" for each answer. It stops short of `enqueue`, which needs a GPU.
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <list>
#include <memory>
#include <utility>
#include <vector>

using namespace nvinfer1;

namespace {

struct Extent final : IDimensionExpr, apiv::VDimensionExpr {
    Extent(bool constant, int64_t value) : constant(constant), value(value) { mImpl = this; }
    bool isConstant() const noexcept override { return constant; }
    int64_t getConstantValue() const noexcept override { return value; }
    bool isSizeTensor() const noexcept override { return false; }
    bool constant;
    int64_t value;
};

struct Builder final : IExprBuilder, apiv::VExprBuilder {
    Builder() { mImpl = this; }
    IDimensionExpr const* constant(int64_t value) noexcept override {
        made.push_back(std::make_unique<Extent>(true, value));
        return made.back().get();
    }
    IDimensionExpr const* operation(DimensionOperation, IDimensionExpr const&, IDimensionExpr const&) noexcept override {
        return nullptr;
    }
    IDimensionExpr const* declareSizeTensor(int32_t, IDimensionExpr const&, IDimensionExpr const&) override {
        return nullptr;
    }
    std::vector<std::unique_ptr<Extent>> made;
};

struct Log final : ILogger, ILoggerFinder {
    void log(Severity severity, AsciiChar const* message) noexcept override {
        std::printf("log: %d %s\n", static_cast<int>(severity), message);
    }
    ILogger* findLogger() override { return this; }
};

DynamicPluginTensorDesc described(std::vector<int64_t> const& shape, DataType type, TensorFormat format) {
    DynamicPluginTensorDesc tensor{};
    tensor.desc.type = type;
    tensor.desc.format = format;
    tensor.desc.dims.nbDims = static_cast<int32_t>(shape.size());
    std::copy(shape.begin(), shape.end(), tensor.desc.dims.d);
    return tensor;
}

IPluginV3* create(IPluginCreatorV3One& creator, std::vector<PluginField> const& fields) {
    PluginFieldCollection const collection{static_cast<int32_t>(fields.size()), fields.data()};
    return creator.createPlugin("node", &collection, TensorRTPhase::kBUILD);
}

void print_shape(IPluginV3OneBuild& build, std::vector<std::pair<bool, int64_t>> const& extents, char const* name) {
    DimsExprs in{}, out{};
    in.nbDims = static_cast<int32_t>(extents.size());
    std::list<Extent> kept;
    for (size_t i = 0; i < extents.size(); ++i) {
        in.d[i] = &kept.emplace_back(extents[i].first, extents[i].second);
    }
    Builder builder;
    std::printf("%s:", name);
    if (build.getOutputShapes(&in, 1, nullptr, 0, &out, 1, builder) != 0) {
        std::printf(" refused\n");
        return;
    }
    for (int i = 0; i < out.nbDims; ++i) {
        if (out.d[i] == in.d[i]) {
            std::printf(" same");
        } else {
            std::printf(" %lld", static_cast<long long>(out.d[i]->getConstantValue()));
        }
    }
    std::printf("\n");
}

}  // namespace

int main(int, char** arguments) {
    std::setbuf(stdout, nullptr);  // what was printed must not be lost with the process
    void* const library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        std::printf("dlopen: %s\n", dlerror());
        return 1;
    }
    auto const get_creators = reinterpret_cast<IPluginCreatorInterface* const* (*)(int32_t&)>(dlsym(library, "getCreators"));
    auto const set_finder = reinterpret_cast<void (*)(ILoggerFinder*)>(dlsym(library, "setLoggerFinder"));
    int32_t count = -1;
    auto& creator = static_cast<IPluginCreatorV3One&>(*get_creators(count)[0]);
    std::printf("creators: %d\n", count);
    std::printf("interface: %s\n", creator.getInterfaceInfo().kind);
    std::printf("creator: %s %s %s\n", creator.getPluginNamespace(), creator.getPluginName(), creator.getPluginVersion());
    for (int i = 0; i < creator.getFieldNames()->nbFields; ++i) {
        PluginField const& field = creator.getFieldNames()->fields[i];
        std::printf("field: %s %d\n", field.name, static_cast<int>(field.type));
    }

    int32_t heads = 2, area = 4, none = 0, many = 70000;
    double wrong = 2;
    auto const number = [](char const* name, void const* data) { return PluginField{name, data, PluginFieldType::kINT32, 1}; };
    std::printf("without a logger: %s\n", create(creator, {}) == nullptr ? "refused" : "made");
    Log log;
    set_finder(&log);
    std::vector<std::vector<PluginField>> const bad = {
        {},
        {number("heads", &heads)},
        {number("heads", &heads), number("area", &none)},
        {number("heads", &many), number("area", &area)},
        {number("heads", &heads), number("area", nullptr)},
        {number("heads", &heads), {"area", &wrong, PluginFieldType::kFLOAT64, 1}},
    };
    for (auto const& fields : bad) {
        std::printf("bad fields: %s\n", create(creator, fields) == nullptr ? "refused" : "made");
    }
    std::printf("no fields at all: %s\n",
        creator.createPlugin("node", nullptr, TensorRTPhase::kBUILD) == nullptr ? "refused" : "made");

    std::unique_ptr<IPluginV3> const first(
        create(creator, {number("area", &area), number("heads", &heads), number("other", &none)}));
    std::unique_ptr<IPluginV3> const plugin(first->clone());
    auto& core = static_cast<IPluginV3OneCore&>(*plugin->getCapabilityInterface(PluginCapabilityType::kCORE));
    auto& build = static_cast<IPluginV3OneBuild&>(*plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
    auto& runtime = static_cast<IPluginV3OneRuntime&>(*plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
    std::printf("plugin: %s %s %s\n", core.getPluginNamespace(), core.getPluginName(), core.getPluginVersion());
    PluginFieldCollection const& kept = *runtime.getFieldsToSerialize();
    for (int i = 0; i < kept.nbFields; ++i) {
        PluginField const& field = kept.fields[i];
        std::printf("serialised: %s %d %d\n", field.name, *static_cast<int32_t const*>(field.data), field.length);
    }
    std::unique_ptr<IPluginV3> const again(creator.createPlugin("node", &kept, TensorRTPhase::kRUNTIME));
    std::printf("from what was serialised: %s\n", again ? "made" : "refused");

    std::printf("outputs: %d\n", build.getNbOutputs());
    DataType const half = DataType::kHALF;
    DataType type{};
    std::printf("type: %d\n", build.getOutputDataTypes(&type, 1, &half, 1) == 0 && type == half);
    print_shape(build, {{false, -1}, {true, 192}, {true, 40}, {true, 40}}, "shape");
    print_shape(build, {{false, -1}, {true, 96}, {true, 40}, {true, 40}}, "shape of other channels");
    print_shape(build, {{false, -1}, {true, 192}, {true, 1600}}, "shape of three dimensions");

    auto const supports = [&](DataType in, TensorFormat in_format, DataType out, int position) {
        DynamicPluginTensorDesc const tensors[] = {
            described({1, 192, 40, 40}, in, in_format), described({1, 64, 40, 40}, out, TensorFormat::kLINEAR)};
        return build.supportsFormatCombination(position, tensors, 1, 1);
    };
    std::printf("formats: %d %d %d %d %d\n", supports(half, TensorFormat::kLINEAR, half, 0),
        supports(half, TensorFormat::kLINEAR, half, 1), supports(DataType::kFLOAT, TensorFormat::kLINEAR, half, 0),
        supports(half, TensorFormat::kHWC8, half, 0), supports(half, TensorFormat::kLINEAR, DataType::kFLOAT, 1));

    auto const configures = [&](std::vector<int64_t> const& in, std::vector<int64_t> const& out) {
        auto const from = described(in, half, TensorFormat::kLINEAR), to = described(out, half, TensorFormat::kLINEAR);
        int const configured = build.configurePlugin(&from, 1, &to, 1);
        int const shaped = runtime.onShapeChange(&from.desc, 1, &to.desc, 1);
        return configured == shaped ? configured : 99;
    };
    std::printf("configured: %d\n", configures({-1, 192, -1, -1}, {-1, 64, -1, -1}));
    std::printf("configured: %d\n", configures({3, 192, 40, 40}, {3, 64, 40, 40}));
    std::printf("configured: %d\n", configures({3, 192, 5, 5}, {3, 64, 5, 5}));
    std::printf("configured: %d\n", configures({3, 96, 40, 40}, {3, 64, 40, 40}));
    std::printf("configured: %d\n", configures({3, 192, 1600}, {3, 64, 1600}));

    DynamicPluginTensorDesc const none_in = described({0, 192, 40, 40}, half, TensorFormat::kLINEAR);
    DynamicPluginTensorDesc const none_out = described({0, 64, 40, 40}, half, TensorFormat::kLINEAR);
    void const* from = nullptr;
    void* to = nullptr;
    std::printf("no images: %d\n", runtime.enqueue(&none_in.desc, &none_out.desc, &from, &to, nullptr, nullptr));
    std::printf("workspace: %zu\n", build.getWorkspaceSize(&none_in, 1, &none_out, 1));
    std::unique_ptr<IPluginV3> const attached(runtime.attachToContext(nullptr));
    std::printf("attached: %d\n", attached != nullptr && attached != plugin);
    return 0;
}
