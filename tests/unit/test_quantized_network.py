"""Quantization-aware training: a network in the arithmetic of its INT8 graph, and the way of what it learns there."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
import torch
from msgspec.structs import replace as changed
from onnx import helper, numpy_helper

from yolo12edge.calibration.graph import group_of
from yolo12edge.calibration.images import images_of_folder
from yolo12edge.calibration.learned import LearnedRanges, round_to_steps, solved_ranges
from yolo12edge.calibration.observe import observe
from yolo12edge.calibration.placement import TARGETS
from yolo12edge.calibration.quantize import Quantizer
from yolo12edge.calibration.recipe import Recipe
from yolo12edge.checkpoint import Checkpoint
from yolo12edge.checkpoint.metadata import Int8Facts, read_header
from yolo12edge.errors import CheckpointError, ExportError, InputError
from yolo12edge.exporters import onnx_from_checkpoint, quantized_network
from yolo12edge.exporters.quantized_network import learned_ranges
from yolo12edge.manifest import Int8Before
from yolo12edge.nn import deploy_form
from yolo12edge.nn.fake_quant import ActivationQuantizer, WeightQuantizer, fake_quantize
from yolo12edge.nn.quantized import PREFIX, deploy_parameters
from yolo12edge.preprocess import Preprocessor

TINY = 96
make = quantized_network.quantized_network
RECIPES = {
    **{target: Recipe(target) for target in TARGETS if "vnni" not in target},
    "int8 attention": Recipe(
        "ort-x86-vnni", attention="int8", float_groups=frozenset({"model.2.m.0", "model.21.cv2.0"})
    ),
    "joined concats": Recipe("openvino", attention="int8", join_concats=True),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory, scene_frames, checkpoint_maker):
    """A checkpoint of each task with the quantizer of its float graph and prepared pictures; made on demand."""
    found = {}

    def make_one(task, **options):
        key = (task, *options.values())
        if key not in found:
            folder = tmp_path_factory.mktemp("qat")
            path = checkpoint_maker(folder / "a.safetensors", scene_frames, task=task, **options)
            artifact = onnx_from_checkpoint(path, folder / "a-fp32", verify=False)
            pictures = folder / "pictures"
            pictures.mkdir()
            for index, frame in enumerate(scene_frames):
                cv2.imwrite(str(pictures / f"{index}.png"), frame)
            model, spec = artifact.model_file.read_bytes(), artifact.manifest.input
            quantizer = Quantizer(model, observe(model, images_of_folder(pictures), spec, threads=1))
            found[key] = Checkpoint.load(path), quantizer, Preprocessor(spec).batch(scene_frames[:2])[0]
        return found[key]

    return make_one


def run_onnx(content, image, every=False):
    """Run a model as it is written; ``every`` also gives the outputs of the float nodes by name."""
    import onnxruntime

    model = onnx.load_from_string(content)
    if every:
        own = {item.name for item in model.graph.output}
        names = {name for node in model.graph.node for name in node.output} - own
        kinds = {node.output[0]: node.op_type for node in model.graph.node}
        kept = sorted(name for name in names if kinds.get(name) not in ("QuantizeLinear", None))
        model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in kept)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [item.name for item in session.get_outputs()]
    return dict(zip(outputs, session.run(None, {"images": image}), strict=True))


def begun(checkpoint, quantizer, recipe):
    """A network with the ranges that training starts from and its own weights, as they are in the graph."""
    ranges = replace(solved_ranges(quantizer, recipe), rounded={})
    return make(checkpoint.model(), ranges, image_size=TINY).eval()


def saved(checkpoint, network, recipe):
    """The checkpoint that training writes."""
    facts = Int8Facts(
        format="onnx",
        target=recipe.target,
        method=recipe.method,
        attention=recipe.attention,
        join_concats=recipe.join_concats,
        float_groups=tuple(sorted(recipe.float_groups)),
        image_size=TINY,
        began=Int8Before(artifact="a-int8"),
    )
    return Checkpoint(changed(checkpoint.meta, int8=facts), dict(network.state_dict()))


def emitted(quantizer, trained):
    """The INT8 model of such a checkpoint, whose weights are those of the quantizer's graph."""
    ranges = learned_ranges(trained)
    quantizer.learned = ranges
    return quantizer(ranges.recipe)


def test_values_are_multiples_of_the_step_and_its_gradient_is_that_of_lsq():
    x = torch.tensor([-3.0, 0.26, 0.4, 9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    out = fake_quantize(x, scale, -4, 3)
    assert out.tolist() == [-2.0, 0.5, 0.5, 1.5]
    out.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    # Clipped values give the bound, others what rounding adds in steps: -4 + (1 - 0.52) + (1 - 0.8) + 3.
    assert scale.grad.item() == pytest.approx(-4 + 0.48 + 0.2 + 3, abs=1e-6)


def test_the_gradient_of_a_step_is_scaled_and_its_value_is_not():
    weight = torch.randn(4, 3, 3, 3)
    quantizer = WeightQuantizer(torch.full((4,), 0.02), largest=127)
    out = quantizer(weight)
    assert torch.equal(out, fake_quantize(weight, quantizer.scale.view(-1, 1, 1, 1), -127, 127))
    out.sum().backward()
    scaled = quantizer.log_scale.grad.clone()
    quantizer.zero_grad()
    fake_quantize(weight, quantizer.scale.view(-1, 1, 1, 1), -127, 127).sum().backward()
    torch.testing.assert_close(scaled, quantizer.log_scale.grad * (27 * 127) ** -0.5)


def test_uint8_represents_zero_and_a_known_range_is_not_learned():
    quantizer = ActivationQuantizer(torch.tensor(0.1), 20, signed=False)
    out = quantizer(torch.tensor([[-9.0, 0.0, 99.0]]))
    torch.testing.assert_close(out, torch.tensor([[-2.0, 0.0, 23.5]]))
    assert not ActivationQuantizer(torch.tensor(1 / 256), 0, signed=False, learned=False).log_scale.requires_grad


@pytest.mark.parametrize("variant", ["v1", "turbo"])
def test_constants_are_gathered_from_the_parameters_exactly(made, variant):
    checkpoint, quantizer, _ = made("segment", variant=variant)
    network = begun(checkpoint, quantizer, Recipe("openvino"))
    parameters = deploy_parameters(network)
    for name, deployed in deploy_form(checkpoint.model()).network.named_parameters():
        assert torch.equal(parameters[name], deployed), name
    assert len(network.program.sources) > 200
    for name, source in network.program.sources.items():
        flat = parameters[source.parameter].detach().flatten()
        own = (flat if source.index is None else flat[source.index]).view(source.shape).numpy()
        assert np.array_equal(own, quantizer.graph.constants[name]), name


def compare_nodes(network, content, image):
    """Compare node by node on the same inputs: over a whole network, sums that differ by 1e-7 round to other steps."""
    theirs = run_onnx(content, image, every=True)
    constants = {item.name: numpy_helper.to_array(item) for item in onnx.load_from_string(content).graph.initializer}
    with torch.inference_mode():
        mine = network.run(torch.from_numpy(image), {key: torch.from_numpy(value) for key, value in theirs.items()})
        decoded = network.head.decode(network._gathered(mine, torch.from_numpy(image)))
    for key, tensor in {**mine, **decoded}.items():
        other, half = theirs[key], 0.51 * constants.get(f"{key}.bias.scale", np.zeros(1)).max()  # an int32 bias's own
        close = 2e-5 * max(1.0, np.abs(other).max())
        np.testing.assert_allclose(tensor.numpy(), other, atol=close + half, err_msg=key)


@pytest.mark.parametrize("name", RECIPES)
def test_every_node_computes_what_the_emitted_model_does(made, name):
    checkpoint, quantizer, images = made("detect")
    network = begun(checkpoint, quantizer, RECIPES[name])
    assert len(network.int8["weights"]) == len(quantizer.placement(RECIPES[name]).weights) > 50
    compare_nodes(network, emitted(quantizer, saved(checkpoint, network, RECIPES[name])), images[:1])


@pytest.mark.parametrize("task", ["segment", "classify", "pose", "obb"])
def test_nodes_and_outputs_of_every_task_are_those_of_the_emitted_model(made, task):
    checkpoint, quantizer, images = made(task)
    recipe = Recipe("ort-x86-vnni")
    network = begun(checkpoint, quantizer, recipe)
    compare_nodes(network, emitted(quantizer, saved(checkpoint, network, recipe)), images[:1])


@pytest.mark.parametrize(("task", "variant"), [("pose", "v1"), ("segment", "turbo")])
def test_training_begins_with_the_weights_that_calibration_rounded(made, task, variant):
    checkpoint, quantizer, _ = made(task, variant=variant)
    recipe = Recipe("ort-x86", rounding="gptq")
    random = np.random.default_rng(0)

    def up_or_down(weight, scales, *, largest):
        units = weight / scales[:, None, None, None] + random.uniform(-0.5, 0.5, weight.shape)
        return np.clip(np.rint(units), -largest, largest).astype(np.int8)

    names = quantizer.placement(recipe).weights
    for name in names:
        quantizer.round_weight(name, recipe, up_or_down)
    network = make(checkpoint.model(), solved_ranges(quantizer, recipe), image_size=TINY)
    before = checkpoint.model().state_dict()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items() if "running" in key)
    parameters, moved = deploy_parameters(network), 0
    for step in network.program.steps:
        if step.name in names:
            wanted = quantizer.rounded(step.name, recipe)
            weight, *biases = (network.program.sources[name] for name in step.inputs[1:])
            steps = network.int8["weights"][step.name.replace(".", "/")].scale.detach().numpy()
            own = weight.of(parameters).detach().numpy()
            assert np.array_equal(round_to_steps(own, steps, reduced_range=True), wanted.integers), step.name
            for bias in biases:
                means = {bias.parameter: torch.zeros_like(parameters[bias.parameter])}  # one may serve several outputs
                bias.put(means, torch.from_numpy(wanted.bias))
                torch.testing.assert_close(bias.of(parameters), bias.of(means), rtol=1e-4, atol=1e-5, msg=step.name)
            units = np.abs(own - quantizer.graph.constants[step.inputs[1]]) / steps[:, None, None, None]
            assert units[np.abs(wanted.integers) < 64].max() < 1  # as little as will do
            moved += (units > 1e-3).sum()
    assert moved > 1000


@pytest.mark.parametrize("task", ["detect", "segment", "classify", "pose", "obb"])
def test_with_all_groups_in_float_it_is_the_network_itself(made, task):
    checkpoint, quantizer, images = made(task)
    whole = quantizer.placement(Recipe("openvino"))
    groups = frozenset(group_of(name) for readers in whole.reads.values() for name in readers)
    network = begun(checkpoint, quantizer, Recipe("openvino", float_groups=groups))
    assert not len(network.int8["weights"])
    with torch.inference_mode():
        batch = torch.from_numpy(images)
        mine, plain = network.head.decode(network(batch)), network.head.decode(checkpoint.model()(batch))
    for role, tensor in plain.items():
        torch.testing.assert_close(mine[role], tensor, atol=0.03, rtol=1e-3)


def test_what_is_learned_passes_through_the_checkpoint_into_the_model(made, tmp_path):
    checkpoint, quantizer, images = made("detect")
    recipe = Recipe("tensorrt", float_groups=frozenset({"model.2.m.0"}))
    network = begun(checkpoint, quantizer, recipe)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith(PREFIX):
                parameter += 0.1 * torch.rand_like(parameter)
    path = tmp_path / "b.safetensors"
    saved(checkpoint, network, recipe).save(path)
    again = Checkpoint.load(path)
    assert read_header(path).parameters == sum(p.numel() for p in again.model().parameters())
    ranges = learned_ranges(again)
    assert ranges.recipe == replace(recipe, learned=True)
    for name, params in ranges.activations.items():
        owner = network.program.quantizers[name].replace(".", "/")
        assert params.scale == np.float32(network.int8["activations"][owner].scale.item())
    compare_nodes(network, emitted(quantizer, again), images[:1])
    key = next(key for key in again.tensors if key.startswith(f"{PREFIX}weights"))
    again.tensors[key].fill_(1e9)
    with pytest.raises(CheckpointError, match="not usable"):
        learned_ranges(again)
    del again.tensors[key]
    with pytest.raises(CheckpointError, match="has no int8"):
        learned_ranges(again)
    elsewhere = changed(again.meta, int8=changed(again.meta.int8, target="abacus"))
    with pytest.raises(CheckpointError, match="abacus"):
        learned_ranges(Checkpoint(elsewhere, again.tensors))
    assert learned_ranges(checkpoint) is None


def test_every_weight_and_step_learns_and_batch_norms_keep_their_figures(made):
    checkpoint, quantizer, images = made("pose")
    network = begun(checkpoint, quantizer, Recipe("ort-x86-vnni")).train()
    before = {key: value.clone() for key, value in network.state_dict().items() if "running" in key}
    output = network(torch.from_numpy(images))
    (output.box.square().mean() + output.cls.square().mean() + output.branch.square().mean()).backward()
    still = [name for name, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not still
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())


def test_weights_round_to_the_learned_steps():
    weight = np.array([0.26, -9.0, 0.1], np.float32).reshape(1, 3, 1, 1)
    steps = np.array([0.1], np.float32)
    assert round_to_steps(weight, steps, reduced_range=True).ravel().tolist() == [3, -64, 1]


def test_a_learned_recipe_needs_what_was_learned(made):
    _, quantizer, _ = made("detect")
    quantizer.learned = None
    with pytest.raises(InputError, match="no ranges have been learned"):
        quantizer(Recipe("openvino", learned=True))


def test_graphs_that_compute_with_weights_are_refused(made, monkeypatch):
    checkpoint, quantizer, _ = made("detect")
    ranges: LearnedRanges = solved_ranges(quantizer, Recipe("openvino"))
    written = quantized_network.write_network

    def doubled(writer, deploy, **options):
        for module in deploy.modules():
            if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
                module.bias.data = module.bias.data * 2
        written(writer, deploy, **options)

    monkeypatch.setattr(quantized_network, "write_network", doubled)
    with pytest.raises(ExportError, match="not made of numbers of one parameter"):
        make(checkpoint.model(), ranges, image_size=TINY)
